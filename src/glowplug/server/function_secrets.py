"""The secrets of functions: looked for when an app starts, read when a container starts, sealed when written
down."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from glowplug.model import errors
from glowplug.model.function import FunctionSpec
from glowplug.model.secret import variables_of_layers
from glowplug.ports.secrets import Secrets

Layer = Mapping[str, Any]


class FunctionSecrets:
    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def check(self, functions: Sequence[FunctionSpec]) -> None:
        """Raises what a container of one of them would meet, before anything of the app runs."""
        for function in functions:
            for layers in (_own(function), *_of_buckets(function).values()):
                self._merged(function, layers, lambda name: dict.fromkeys(self._secrets.show(name).keys, ""))

    def variables_of(self, function: FunctionSpec) -> dict[str, str]:
        """What its secrets put into a container's environment, as they are now.

        Raises ``NotFoundError``, ``AuthError``, ``DataLossError``, naming the function.
        """
        return self._merged(function, _own(function), self._secrets.variables_of)

    def of_buckets(self, function: FunctionSpec) -> dict[str, dict[str, str]]:
        """The credentials of the buckets it mounts, by mount path. Raises as ``variables_of`` does."""
        return {
            path: self._merged(function, layers, self._secrets.variables_of)
            for path, layers in _of_buckets(function).items()
        }

    def _merged(
        self, function: FunctionSpec, layers: Sequence[Layer], find: Callable[[str], Mapping[str, str]]
    ) -> dict[str, str]:
        def stored(name: str) -> Mapping[str, str]:
            try:
                return find(name)
            except errors.NotFoundError:
                named = [layer for layer in layers if layer.get("name") == name]
                wanted = [f"{key}=…" for layer in named for key in layer.get("required_keys", ())]
                raise errors.NotFoundError(
                    f"function {function.name} uses the secret {name!r}, and there is none. Store it: "
                    f"`glowplug secret create {name} {' '.join(wanted) or 'KEY=…'}`, or "
                    "give its variables in the script by Secret.from_local_environ([...])."
                ) from None
            except errors.Error as error:
                raise type(error)(f"function {function.name} cannot be started: {error}") from None

        return variables_of_layers(layers, stored, function.name)

    def sealed(self, spec: dict[str, Any]) -> dict[str, Any]:
        """An app's spec as it may be written down: the values in it encrypted."""
        return {**spec, "functions": [self._sealed_function(each) for each in spec["functions"]]}

    def _sealed_function(self, function: dict[str, Any]) -> dict[str, Any]:
        definition = function["definition"]
        own, buckets = definition.get("secrets") or (), definition.get("bucket_secrets") or {}
        if not any(layer.get("variables") for layers in (own, *buckets.values()) for layer in layers):
            return function
        try:
            kept = {"sealed": self._secrets.seal(json.dumps([own, buckets]).encode())}
        except errors.Error as error:
            kept = {"lost": str(error)}
        return {**function, "definition": {**definition, "secrets": [kept], "bucket_secrets": {}}}

    def unsealed(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The spec that ``sealed`` was given. Raises ``AuthError``, ``DataLossError``."""
        return {**spec, "functions": [self._unsealed_function(each) for each in spec["functions"]]}

    def _unsealed_function(self, function: dict[str, Any]) -> dict[str, Any]:
        (kept, *_) = function["definition"].get("secrets") or [{}]
        if "lost" in kept:
            raise errors.DataLossError(
                f"the secrets of function {function['name']} could not be written down: {kept['lost']}"
            )
        if "sealed" not in kept:
            return function
        own = json.loads(self._secrets.unseal(kept["sealed"]))
        buckets: dict[str, Any] = {}
        if len(own) == 2 and isinstance(own[1], dict) and isinstance(own[0], list):
            own, buckets = own
        secrets = {"secrets": own, "bucket_secrets": buckets}
        return {**function, "definition": {**function["definition"], **secrets}}


def _own(function: FunctionSpec) -> Sequence[Layer]:
    return function.definition.get("secrets", ())


def _of_buckets(function: FunctionSpec) -> Mapping[str, Sequence[Layer]]:
    return function.definition.get("bucket_secrets") or {}
