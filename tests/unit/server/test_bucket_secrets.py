"""The credentials of buckets: merged for the server, sealed with a run that is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glowplug.model import errors
from glowplug.model.function import FunctionSpec
from glowplug.server.function_secrets import FunctionSecrets
from glowplug.store.secrets import SecretStore
from glowplug.store.secrets_key import SecretsKey

BUCKETS = {"/b": [{"variables": {"AWS_ACCESS_KEY_ID": "hunter2"}}]}


@pytest.fixture
def secrets(tmp_path: Path) -> FunctionSecrets:
    return FunctionSecrets(SecretStore(tmp_path, SecretsKey({"HOME": str(tmp_path)})))


def function_with(**definition: Any) -> FunctionSpec:
    return FunctionSpec(id="", app_id="", name="f", definition=definition)


def spec_with(**definition: Any) -> dict[str, Any]:
    return {"functions": [{"name": "f", "definition": definition}]}


@pytest.mark.parametrize("own", [[], [{"variables": {"A": "1"}}], [{"variables": {"A": "1"}}, {"name": "n"}]])
def test_they_are_written_down_sealed(secrets: FunctionSecrets, own: list[dict[str, Any]]):
    spec = spec_with(secrets=own, bucket_secrets=BUCKETS)
    sealed = secrets.sealed(spec)
    assert "hunter2" not in repr(sealed)
    assert secrets.unsealed(sealed) == spec


def test_a_secret_that_is_not_there_is_told_when_the_app_starts(secrets: FunctionSecrets):
    function = function_with(bucket_secrets={"/b": [{"name": "aws"}]})
    with pytest.raises(errors.NotFoundError, match="function f uses the secret 'aws', and there is none"):
        secrets.check([function])


def test_containers_do_not_have_them(secrets: FunctionSecrets):
    function = function_with(secrets=[], bucket_secrets=BUCKETS)
    assert secrets.variables_of(function) == {}
    assert secrets.of_buckets(function) == {"/b": {"AWS_ACCESS_KEY_ID": "hunter2"}}
