"""The application in small: a CRM written for one database, run on one and on meta + 14 industries.

``service`` (SQLAlchemy) and ``../node/crm.mjs`` (node-postgres) are the service, written twice;
they know nothing of owners' places. ``driver`` sends them the requests of ``requests``, always the
same ones, and notes the answers; ``rows`` says what lies where afterwards.
"""
