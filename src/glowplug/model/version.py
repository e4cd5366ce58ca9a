"""The version, said once: the package, the command line, the server and the wheel take it from here."""

__version__ = "0.1.0"
