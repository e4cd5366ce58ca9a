"""A secret as declared: environment variables, given here or kept by the server under a name.

What of it travels: ``layers_of`` a function's secrets. Of one with a name only that, and the keys it must
have; the server reads it when an app and when a container starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from glowplug.model.errors import NotFoundError


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


def layers_of(secrets: Iterable[SecretDefinition]) -> list[dict[str, Any]]:
    """As it travels, later layers over earlier ones: {"variables": {…}} or {"name": …, "required_keys": […]}.

    >>> layers_of([SecretDefinition({"A": "1"}), SecretDefinition(name="token", required_keys=["KEY"])])
    [{'variables': {'A': '1'}}, {'name': 'token', 'required_keys': ['KEY']}]
    """
    layers: list[dict[str, Any]] = []
    for secret in secrets:
        if secret.name is not None:
            layers.append({"name": secret.name, "required_keys": list(secret.required_keys)})
        elif layers and "variables" in layers[-1]:
            layers[-1]["variables"].update(secret.variables)
        else:
            layers.append({"variables": dict(secret.variables)})
    return layers


def variables_of_layers(
    layers: Iterable[Mapping[str, Any]], stored: Callable[[str], Mapping[str, str]], function: str
) -> dict[str, str]:
    """What the layers put into the environment of ``function``; ``stored(name)`` gives a kept secret.

    Raises ``NotFoundError`` naming function and secret when it lacks a required key; what ``stored`` raises.
    """
    variables: dict[str, str] = {}
    for layer in layers:
        name = layer.get("name")
        if name is None:
            variables.update(layer["variables"])
            continue
        found = stored(name)
        absent = [key for key in layer.get("required_keys", ()) if key not in found]
        if absent:
            has = ", ".join(sorted(found))
            raise NotFoundError(
                f"function {function} requires {', '.join(absent)} of the secret {name!r}, which has {has}. "
                f"Add it with `glowplug secret update {name} {absent[0]}=…`."
            )
        variables.update(found)
    return variables
