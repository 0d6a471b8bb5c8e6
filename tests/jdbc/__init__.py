"""pgjdbc, the Java driver, through the gateway; see `tests.jdbc.__main__`."""
