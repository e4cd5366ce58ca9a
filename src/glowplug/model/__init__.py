"""Values without I/O: what is asked for, what exists, what went wrong. Syntax of Python 3.9."""
