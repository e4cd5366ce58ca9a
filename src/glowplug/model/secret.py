"""A secret as declared: environment variables, given here or looked up by name when an app starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class SecretDefinition:
    """Either ``variables``, or a ``name`` under which they are stored and the keys they must contain."""

    def __init__(
        self,
        variables: Mapping[str, str] | None = None,
        *,
        name: str | None = None,
        required_keys: Sequence[str] = (),
    ) -> None:
        self.variables = dict(variables or {})
        self.name = name
        self.required_keys = tuple(required_keys)

    def __repr__(self) -> str:
        """Without values: this ends up in logs."""
        return f"<Secret {self.name or ', '.join(sorted(self.variables)) or '(empty)'}>"
