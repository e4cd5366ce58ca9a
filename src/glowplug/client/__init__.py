"""The one client of a server; sdk and cli share it. Syntax of Python 3.9."""
