"""A clinic on Django's ORM. Nothing in it knows of a gateway."""
