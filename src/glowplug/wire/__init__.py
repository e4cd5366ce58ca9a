"""How processes talk: message kinds, frames, payloads. Syntax of Python 3.9, msgspec optional."""
