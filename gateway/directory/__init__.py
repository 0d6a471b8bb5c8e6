"""The meta database: credentials, owners, caches and the news that keeps them true."""
