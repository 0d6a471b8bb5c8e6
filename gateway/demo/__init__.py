"""A whole system on one machine: PostgreSQL servers, databases, owners, the gateway, a tour."""
