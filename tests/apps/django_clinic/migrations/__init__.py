"""The clinic's tables, as Django's `makemigrations` writes them, and a data migration."""
