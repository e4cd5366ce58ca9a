"""Buckets of S3 and what speaks its protocol, mounted as directories."""

from __future__ import annotations

from typing import Any

from glowplug.model.errors import InvalidError
from glowplug.model.secret import SecretDefinition
from glowplug.model.volume import VolumeDefinition
from glowplug.sdk.notyet import warn_ignored


class CloudBucketMount(VolumeDefinition):
    """The objects of a bucket as files: ``volumes={"/data": CloudBucketMount("bucket", secret=secret)}``.

    A container starts with a copy of what the bucket holds then, kept on its machine so that the next one
    fetches only what has changed. What it writes and deletes is uploaded every few seconds while it runs, and
    when it ends; of two that write one file the last upload counts.

    ``bucket_endpoint_url``: of a store other than Amazon's, ``"https://…"``. ``key_prefix``: only keys that
    begin so; ends with a slash. ``secret``: has ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` (or
    ``GOOGLE_ACCESS_KEY_ID`` and ``GOOGLE_ACCESS_KEY_SECRET``), perhaps ``AWS_SESSION_TOKEN`` and
    ``AWS_REGION``; without one the bucket must be open to all. ``read_only``: containers cannot write.
    ``requester_pays``: whoever asks pays the store. ``force_path_style``: the bucket is named in the path of
    requests. ``oidc_auth_role_arn`` means nothing here, with a warning. Raises ``InvalidError``.

    The server needs ``pip install 'glowplug[s3]'``.

    >>> mount = CloudBucketMount("my-bucket", key_prefix="runs/", secret=Secret.from_name("aws"))
    """

    kind = "bucket"

    def __init__(
        self,
        bucket_name: str,
        bucket_endpoint_url: str | None = None,
        key_prefix: str | None = None,
        secret: SecretDefinition | None = None,
        oidc_auth_role_arn: str | None = None,
        read_only: bool = False,
        requester_pays: bool = False,
        force_path_style: bool = False,
    ) -> None:
        super().__init__(read_only=read_only)
        where = f"CloudBucketMount({bucket_name!r})"
        if not isinstance(bucket_name, str) or not bucket_name:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidError(f"{where}: give the bucket's name alone, such as 'my-bucket'.")
        if "/" in bucket_name or ":" in bucket_name:
            raise InvalidError(
                f"{where}: give the bucket's name alone, and what follows it as key_prefix=, with a slash "
                "at the end."
            )
        if key_prefix and not key_prefix.endswith("/"):
            raise InvalidError(
                f"{where}: key_prefix={key_prefix!r} must end with a slash: it comes before all paths."
            )
        if bucket_endpoint_url and not bucket_endpoint_url.startswith(("https://", "http://")):
            raise InvalidError(
                f"{where}: bucket_endpoint_url={bucket_endpoint_url!r} must begin with https:// or http://."
            )
        if secret is not None and not isinstance(secret, SecretDefinition):
            raise InvalidError(f"{where}: secret= must be a Secret, such as Secret.from_name('aws').")
        if requester_pays and secret is None:
            raise InvalidError(f"{where}: requester_pays=True needs a secret=: that of who pays.")
        warn_ignored(where, oidc_auth_role_arn=oidc_auth_role_arn)
        self.bucket_name = bucket_name
        self.bucket_endpoint_url = bucket_endpoint_url
        self.key_prefix = key_prefix
        self.secret = secret
        self.oidc_auth_role_arn = oidc_auth_role_arn
        self.read_only = read_only
        self.requester_pays = requester_pays
        self.force_path_style = force_path_style
        # No volume can have such a name.
        self.name = self.stored_name = f"s3://{bucket_name}/{key_prefix or ''}"

    @property
    def place(self) -> dict[str, Any]:
        """As it travels; without the secret."""
        return {
            "bucket": self.bucket_name,
            "endpoint_url": self.bucket_endpoint_url or "",
            "prefix": self.key_prefix or "",
            "requester_pays": self.requester_pays,
            "force_path_style": self.force_path_style,
        }
