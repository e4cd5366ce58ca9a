"""An S3 of this process on loopback, for tests of buckets."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "hunter2-of-the-bucket"}


class ObjectStore:
    """``url``: its endpoint."""

    def __init__(self, url: str, client: Any, server: Any) -> None:
        self.url = url
        self._client = client
        self._server = server

    def make(self, bucket: str) -> None:
        self._client.create_bucket(Bucket=bucket)

    def put(self, bucket: str, **objects: bytes) -> None:
        for key, content in objects.items():
            self._client.put_object(Bucket=bucket, Key=key.replace("__", "/"), Body=content)

    def delete_bucket(self, bucket: str) -> None:
        for key in self.objects(bucket):
            self.delete(bucket, key)
        self._client.delete_bucket(Bucket=bucket)

    def delete(self, bucket: str, key: str) -> None:
        self._client.delete_object(Bucket=bucket, Key=key)

    def objects(self, bucket: str) -> dict[str, bytes]:
        listed = self._client.list_objects_v2(Bucket=bucket).get("Contents", ())
        return {
            each["Key"]: self._client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
            for each in listed
        }

    def end(self) -> None:
        self._server.stop()


@contextlib.contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Skips the test where s3fs and moto are not installed."""
    pytest.importorskip("s3fs")
    pytest.importorskip("flask_cors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import boto3
        from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    store = ObjectStore(url, client, server)
    try:
        yield store
    finally:
        client.close()
        server.stop()
