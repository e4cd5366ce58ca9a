"""What runs inside a container: zygote, isolation, input loop. Syntax of Python 3.9, standard library."""
