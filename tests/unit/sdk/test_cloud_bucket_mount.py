"""``CloudBucketMount`` as declared, and what of it travels."""

from __future__ import annotations

import json

import pytest

from glowplug.model.errors import InvalidError, NotCarriedOutWarning
from glowplug.sdk.app import App
from glowplug.sdk.cloud_bucket_mount import CloudBucketMount
from glowplug.sdk.image import Image
from glowplug.sdk.secret import Secret
from glowplug.sdk.spec import function_spec


def f() -> None: ...


def test_the_place_travels_with_the_volume_and_the_secret_with_the_secrets():
    app = App("a")
    mount = CloudBucketMount(
        "b", "https://store.example", "p/", Secret.from_dict({"AWS_ACCESS_KEY_ID": "hunter2"}), read_only=True
    )
    definition = function_spec(app.function(volumes={"/b": mount}, serialized=True)(f)).definition
    (told,) = definition["volumes"]
    assert (told["name"], told["kind"], told["read_only"]) == ("s3://b/p/", "bucket", True)
    assert told["bucket"] == {
        "bucket": "b",
        "endpoint_url": "https://store.example",
        "prefix": "p/",
        "requester_pays": False,
        "force_path_style": False,
    }
    assert definition["bucket_secrets"] == {"/b": [{"variables": {"AWS_ACCESS_KEY_ID": "hunter2"}}]}
    assert "hunter2" not in json.dumps(definition["volumes"]) + repr(mount)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"bucket_name": ""}, "bucket's name alone"),
        ({"bucket_name": "s3://b"}, "bucket's name alone"),
        ({"bucket_name": "b/p"}, "key_prefix="),
        ({"bucket_name": "b", "key_prefix": "p"}, "must end with a slash"),
        ({"bucket_name": "b", "bucket_endpoint_url": "store.example"}, "must begin with https://"),
        ({"bucket_name": "b", "secret": {"A": "1"}}, "must be a Secret"),
        ({"bucket_name": "b", "requester_pays": True}, "needs a secret="),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, object], told: str):
    with pytest.raises(InvalidError, match=told):
        CloudBucketMount(**arguments)  # pyright: ignore[reportArgumentType]


def test_a_role_means_nothing_here():
    with pytest.warns(NotCarriedOutWarning, match="oidc_auth_role_arn= means nothing"):
        CloudBucketMount("b", oidc_auth_role_arn="arn:aws:iam::1:role/r")


def test_images_are_built_without_buckets():
    with pytest.raises(InvalidError, match="not while an image is built"):
        Image.debian_slim().run_commands("true", volumes={"/b": CloudBucketMount("b")})
