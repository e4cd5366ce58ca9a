"""Named secrets: encrypted files, whole or not there; errors that say what to do and hold no value."""

from __future__ import annotations

import json
import os

import pytest

from glowplug.model.errors import (
    AlreadyExistsError,
    AuthError,
    DataLossError,
    InvalidError,
    NotFoundError,
    ResourceExhaustedError,
)
from glowplug.store.secrets import MAX_SECRET_BYTES, MAX_VALUE_BYTES, SecretStore
from glowplug.store.secrets_key import SecretsKey

CANARY = "hunter2-canary"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def environ(tmp_path):
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def store(home, environ, clock):
    return SecretStore(home, SecretsKey(environ), clock)


def on_disk(directory):
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def test_a_secret_is_stored_shown_changed_used_and_deleted(store, home, clock):
    stored = store.create("token", {"KEY": CANARY, "EMPTY": ""})
    assert (stored.keys, stored.created_at, stored.updated_at) == (["KEY", "EMPTY"], 1000.0, 1000.0)
    assert stored.last_used_at is None
    assert store.list() == [stored]
    clock.now = 2000.0
    assert store.variables_of("token") == {"KEY": CANARY, "EMPTY": ""}
    assert store.show("token").last_used_at == 2000.0
    changed = store.update("token", {"EMPTY": None, "NEW": "ü"})
    assert (changed.keys, changed.created_at, changed.updated_at) == (["KEY", "NEW"], 1000.0, 2000.0)
    assert CANARY not in repr(changed)
    store.delete("token")
    assert store.list() == []
    assert not list((home / "secrets").iterdir())


def test_nothing_readable_is_on_disk(store, home, environ):
    store.create("token", {"NAME_OF_KEY": CANARY})
    assert CANARY.encode() not in on_disk(home)
    assert b"NAME_OF_KEY" not in on_disk(home)
    (file,) = (home / "secrets").iterdir()
    key = SecretsKey(environ).path
    assert [path.stat().st_mode & 0o777 for path in (file, file.parent, key)] == [0o600, 0o700, 0o600]
    assert home not in key.parents


def test_one_that_is_there_is_replaced_with_force_only(store, clock):
    store.create("token", {"A": "1"})
    clock.now = 2000.0
    with pytest.raises(AlreadyExistsError, match=r"--force"):
        store.create("token", {"B": "2"})
    assert store.variables_of("token") == {"A": "1"}
    replaced = store.create("token", {"B": "2"}, replace=True)
    assert (replaced.keys, replaced.created_at, replaced.updated_at) == (["B"], 1000.0, 2000.0)


@pytest.mark.parametrize("action", ["show", "variables_of", "delete", "update"])
def test_one_that_is_not_there(store, action):
    arguments = ({"A": "1"},) if action == "update" else ()
    with pytest.raises(NotFoundError, match=r"there is no secret 'absent'.*glowplug secret create absent"):
        getattr(store, action)("absent", *arguments)
    with pytest.raises(InvalidError, match="Secret name"):
        getattr(store, action)("../absent", *arguments)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "at least one"),
        ({"A-B": CANARY}, "'A-B' is not a name"),
        ({"1A": CANARY}, "no digit first"),
        ({"A": CANARY + "\0"}, "must be a string"),
        ({"A": 7}, "not int"),
        ({"A": CANARY * (MAX_VALUE_BYTES // len(CANARY) + 1)}, "use a volume"),
        ({f"A{n}": "x" * 100_000 for n in range(MAX_SECRET_BYTES // 100_000 + 1)}, "the limit is 512"),
    ],
)
def test_what_no_environment_can_hold_is_refused(store, variables, said):
    with pytest.raises(InvalidError, match=said) as caught:
        store.create("token", variables)
    assert CANARY not in str(caught.value)
    assert store.list() == []


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b'{"format": 2}', b"[]", "flip", "swap", "cut"])
def test_a_damaged_file_is_named_and_can_be_stored_anew(store, home, damage):
    store.create("token", {"KEY": CANARY})
    store.create("other", {"KEY": "other"})
    path = home / "secrets" / "token.secret"
    record = json.loads(path.read_bytes())
    if damage == "flip":
        sealed = record["sealed"]
        record["sealed"] = sealed[:40] + ("A" if sealed[40] != "A" else "B") + sealed[41:]
        damage = json.dumps(record).encode()
    elif damage == "swap":
        damage = (home / "secrets" / "other.secret").read_bytes()
    elif damage == "cut":
        damage = path.read_bytes()[:-20]
    path.write_bytes(damage)
    with pytest.raises(
        DataLossError, match=r"the secret 'token' is damaged.*create token … --force"
    ) as caught:
        store.variables_of("token")
    assert CANARY not in str(caught.value)
    listed = {each.name: each.problem for each in store.list()}
    assert listed == {"token": str(caught.value), "other": ""}
    store.create("token", {"KEY": "again"}, replace=True)
    assert store.variables_of("token") == {"KEY": "again"}


def test_the_key_may_come_from_the_environment_or_a_named_file(home, tmp_path, environ, clock):
    from cryptography.fernet import Fernet

    key = Fernet.generate_key().decode()
    given = SecretStore(home, SecretsKey({**environ, "GLOWPLUG_SECRETS_KEY": key}), clock)
    given.create("token", {"A": "1"})
    assert not SecretsKey(environ).path.exists()
    file = tmp_path / "key"
    named = SecretStore(home, SecretsKey({**environ, "GLOWPLUG_SECRETS_KEY_FILE": str(file)}), clock)
    with pytest.raises(AuthError, match=r"its key.*is gone"):
        named.variables_of("token")
    file.write_text(key + "\n")
    file.chmod(0o644)
    with pytest.raises(AuthError, match=f"can be read by others.*chmod 600 {file}"):
        named.variables_of("token")
    file.chmod(0o600)
    assert named.variables_of("token") == {"A": "1"}
    file.write_text("nonsense")
    with pytest.raises(AuthError, match="is no key") as caught:
        named.variables_of("token")
    assert "nonsense" not in str(caught.value)
    file.unlink()
    named.delete("token")
    with pytest.raises(AuthError, match=r"there is no such file\. Make it"):
        named.create("token", {"A": "1"})


def test_a_lost_key_is_told_and_never_replaced_beside_secrets_that_need_it(store, environ, home):
    store.create("token", {"A": "1"})
    key = SecretsKey(environ).path
    key.rename(key.with_name("kept"))
    for action in (lambda: store.variables_of("token"), lambda: store.create("new", {"A": "1"})):
        with pytest.raises(AuthError, match=rf"the secret 'token' cannot be read: its key, {key}, is gone"):
            action()
    assert not key.exists()
    (listed,) = store.list()
    assert "is gone" in listed.problem
    key.with_name("kept").rename(key)
    assert store.variables_of("token") == {"A": "1"}


def test_a_wrong_key_is_told_apart_from_damage(store, environ, home, clock):
    from cryptography.fernet import Fernet

    store.create("token", {"A": CANARY})
    other = SecretsKey({**environ, "GLOWPLUG_SECRETS_KEY": Fernet.generate_key().decode()})
    with pytest.raises(AuthError, match="the secret 'token' was stored with another key"):
        SecretStore(home, other, clock).variables_of("token")


def test_a_write_that_fails_leaves_what_was_there(store, home, monkeypatch):
    store.create("token", {"A": "1"})

    def no_space(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", no_space)
    with pytest.raises(ResourceExhaustedError, match=r"'token'.*No space left.*unchanged"):
        store.create("token", {"A": "2"}, replace=True)
    assert store.variables_of("token") == {"A": "1"}
    assert sorted(path.name for path in (home / "secrets").iterdir()) == ["token.secret", "token.used"]


def test_two_servers_that_make_a_key_at_once_share_it(environ, home, tmp_path, clock, monkeypatch):
    first, second = SecretsKey(environ), SecretsKey(environ)
    link = os.link

    def late(source, target):
        monkeypatch.setattr(os, "link", link)
        second.make()
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert first.make() == second.read()
    assert [path.name for path in first.path.parent.iterdir()] == ["secrets.key"]


def test_files_of_earlier_versions_are_taken_over_once(store, home):
    directory = home / "secrets"
    directory.mkdir(parents=True)
    (directory / "token.env").write_text(f"A='{CANARY}'\n")
    (directory / "broken.env").write_text(f"{CANARY}\n")
    told = store.take_over_files()
    assert store.variables_of("token") == {"A": CANARY}
    assert not (directory / "token.env").exists()
    assert (directory / "broken.env").exists(), "what cannot be read is left to its owner"
    assert len(told) == 2
    assert "line 1: expected NAME=value" in told[0]
    assert "'token' is stored encrypted now" in told[1]
    assert CANARY not in "".join(told)


def test_what_others_write_down_is_sealed(store, home, environ, clock):
    sealed = store.seal(CANARY.encode())
    assert CANARY.encode() not in sealed
    assert SecretStore(home, SecretsKey(environ), clock).unseal(sealed) == CANARY.encode()
    with pytest.raises(DataLossError, match="cannot be opened"):
        store.unseal(sealed[:-5])
    SecretsKey(environ).path.unlink()
    with pytest.raises(AuthError, match="is gone"):
        store.unseal(sealed)
