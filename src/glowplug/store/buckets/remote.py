"""One prefix of a bucket through s3fs: listed, fetched, uploaded, deleted. Errors say which bucket and why.

s3fs is an extra. It is imported when the first bucket is mounted, by the server, never by a container.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from glowplug.model import errors
from glowplug.ports.volumes import BucketPlace

KEY_PAIRS = (
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("GOOGLE_ACCESS_KEY_ID", "GOOGLE_ACCESS_KEY_SECRET"),
)
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
ATTEMPTS = 3


@dataclass(frozen=True)
class RemoteObject:
    """``key`` is the whole one, with the prefix."""

    key: str
    etag: str
    size: int
    mtime_ns: int = 0


class Remote(Protocol):
    """Keys are whole ones. All raise ``errors.Error``; ``fetch`` also ``FileNotFoundError``."""

    def list(self) -> list[RemoteObject]: ...

    def fetch(self, key: str, path: str) -> None: ...

    def upload(self, key: str, path: str) -> RemoteObject:
        """What is there afterwards."""
        ...

    def delete(self, key: str) -> None: ...


Connect = Callable[[BucketPlace, "Mapping[str, str] | None"], Remote]


class S3Remote:
    """``credentials``: the variables of the mount's secret; None without one, for buckets open to all."""

    def __init__(self, place: BucketPlace, credentials: Mapping[str, str] | None) -> None:
        self._place = place
        self._anonymous = credentials is None
        try:
            s3fs = importlib.import_module("s3fs")
        except ImportError as error:
            raise errors.NotFoundError(
                f"{place} cannot be mounted: s3fs is not installed where the server runs ({error}). "
                "`pip install 'glowplug[s3]'` there, then `glowplug server stop`."
            ) from None
        options = _options(place, credentials)
        self._payer: dict[str, str] = {"RequestPayer": "requester"} if place.requester_pays else {}
        try:
            self._s3: Any = s3fs.S3FileSystem(**options, skip_instance_cache=True)
        except Exception as error:
            raise self._told(error, "cannot be mounted") from None

    def list(self) -> list[RemoteObject]:
        found: list[RemoteObject] = []
        more: dict[str, str] = {}
        while True:
            try:
                answer = self._s3.call_s3(
                    "list_objects_v2",
                    Bucket=self._place.bucket,
                    Prefix=self._place.prefix,
                    **more,
                    **self._payer,
                )
            except Exception as error:
                raise self._told(error, "cannot be listed") from None
            for each in answer.get("Contents", ()):
                mtime_ns = int(each["LastModified"].timestamp() * 1e9)
                found.append(RemoteObject(each["Key"], each["ETag"], each["Size"], mtime_ns))
            if not answer.get("IsTruncated"):
                return found
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def fetch(self, key: str, path: str) -> None:
        try:
            self._s3.get_file(self._path(key), path)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._told(error, f"gave no {key!r}") from None

    def upload(self, key: str, path: str) -> RemoteObject:
        try:
            self._s3.put_file(path, self._path(key))
            there = self._s3.info(self._path(key), refresh=True)
        except Exception as error:
            raise self._told(error, f"did not take {key!r}") from None
        return RemoteObject(key, there.get("ETag", ""), there["size"])

    def delete(self, key: str) -> None:
        try:
            self._s3.call_s3("delete_object", Bucket=self._place.bucket, Key=key, **self._payer)
        except FileNotFoundError:
            pass
        except Exception as error:
            raise self._told(error, f"did not delete {key!r}") from None

    def _path(self, key: str) -> str:
        return f"{self._place.bucket}/{key}"

    def _told(self, error: Exception, what: str) -> errors.Error:
        place = self._place
        where = f" at {place.endpoint_url}" if place.endpoint_url else ""
        why = f"{place}{where} {what}: {error or type(error).__name__}."
        if isinstance(error, PermissionError):
            hint = (
                "It was asked without credentials: give secret= with AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY."
                if self._anonymous
                else "Do the keys in secret= belong to this bucket, and may they do that?"
            )
            return errors.AuthError(f"{why} {hint}")
        if isinstance(error, FileNotFoundError):
            return errors.NotFoundError(f"{why} Is {place.bucket!r} the bucket's name, and there?")
        return errors.ExecutionError(f"{why} Is the endpoint right and reachable from this machine?")


def _options(place: BucketPlace, credentials: Mapping[str, str] | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "retries": {"total_max_attempts": ATTEMPTS},
        # Stores other than Amazon's refuse checksums that they do not know.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    if place.force_path_style:
        config["s3"] = {"addressing_style": "path"}
    options: dict[str, Any] = {"config_kwargs": config, "requester_pays": place.requester_pays}
    if place.endpoint_url:
        options["endpoint_url"] = place.endpoint_url
    if credentials is None:
        return {**options, "anon": True}
    for id_name, secret_name in KEY_PAIRS:
        if credentials.get(id_name) and credentials.get(secret_name):
            options |= {"key": credentials[id_name], "secret": credentials[secret_name]}
            break
    else:
        has = ", ".join(sorted(credentials)) or "nothing"
        pairs = " or ".join(" and ".join(pair) for pair in KEY_PAIRS)
        raise errors.AuthError(f"{place} cannot be mounted: its secret= must have {pairs}; it has {has}.")
    if credentials.get("AWS_SESSION_TOKEN"):
        options["token"] = credentials["AWS_SESSION_TOKEN"]
    for name in REGIONS:
        if credentials.get(name):
            options["client_kwargs"] = {"region_name": credentials[name]}
            break
    return options
