"""An object store with S3's API and object lock: what was put there cannot be changed or deleted
before its time, by nobody.

The layout is that of the folder. Every object is put with a retention date; the bucket must have
object lock (and so versions). minio is needed: ``pip install jupyterhub-collab[audit-s3]``.

It must not: be given keys. They come from the usual places: AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, the file of credentials, the role of the machine.

Notes
-----
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from ..errors import PermanentError, RetryableError
from .anchor import Delivery

_NOTE_BYTES_MAX: Final = 8192
_TIMEOUT_S: Final = 20.0
_LASTING: Final = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403")
AMAZON: Final = "https://s3.amazonaws.com"


class S3Anchor:
    """As `Anchor` has it.

    Parameters
    ----------
    prefix
        Of all keys: ``audit/``.
    retain
        How long each object is locked; None: the bucket's own rule.
    mode
        ``COMPLIANCE`` (nobody may shorten it) or ``GOVERNANCE``.
    endpoint
        URL of a store that is not Amazon's.
    """

    def __init__(
        self,
        name: str,
        bucket: str,
        *,
        now: Callable[[], datetime],
        prefix: str = "",
        retain: timedelta | None = None,
        mode: str = "COMPLIANCE",
        endpoint: str = AMAZON,
        region: str | None = None,
        ca_file: str | None = None,
        interval_s: float = 0.0,
    ) -> None:
        self.name, self.interval_s = name, interval_s
        self._bucket, self._prefix, self._now = bucket, prefix, now
        self._retain, self._mode = retain, mode
        self._client, self._http = _make_client(endpoint, region, ca_file)

    async def deliver(self, delivery: Delivery) -> None:
        await asyncio.to_thread(self._deliver, delivery)

    async def newest(self) -> str | None:
        return await asyncio.to_thread(self._read_newest)

    async def set_aside(self) -> None:
        """Nothing can be moved there, and nothing is lost: all versions stay."""

    async def close(self) -> None:
        await asyncio.to_thread(self._http.clear)

    def _deliver(self, delivery: Delivery) -> None:
        for tile, data in delivery.read_tiles(delivery.held):
            self._put(tile.path, data)
        for size, note in (*delivery.earlier, (delivery.size, delivery.note)):
            self._put(f"checkpoints/{size}", note.encode())
        self._put("checkpoint", delivery.note.encode())

    def _put(self, path: str, data: bytes) -> None:
        retention = None
        if self._retain is not None:
            from minio.retention import Retention

            retention = Retention(self._mode, self._now() + self._retain)
        try:
            self._client.put_object(
                self._bucket, self._prefix + path, io.BytesIO(data), len(data), retention=retention
            )
        except Exception as e:
            raise _translate(e, "take") from e

    def _read_newest(self) -> str | None:
        answer = None
        try:
            # Asked by HEAD first: some stores' words for what is missing are not understood.
            self._client.stat_object(self._bucket, f"{self._prefix}checkpoint")
            answer = self._client.get_object(self._bucket, f"{self._prefix}checkpoint")
            return bytes(answer.read(_NOTE_BYTES_MAX)).decode("utf-8", "replace")
        except Exception as e:
            if getattr(e, "code", "") == "NoSuchKey":
                return None
            raise _translate(e, "give") from e
        finally:
            if answer is not None:
                answer.close()
                answer.release_conn()


def _make_client(endpoint: str, region: str | None, ca_file: str | None) -> tuple[Any, Any]:
    """The client, and its connections."""
    try:
        import urllib3
        from minio import Minio
        from minio.credentials.providers import (
            AWSConfigProvider,
            ChainedProvider,
            EnvAWSProvider,
            IamAwsProvider,
        )
    except ImportError as e:
        raise PermanentError(
            "An S3 anchor needs minio: pip install 'jupyterhub-collab[audit-s3]'"
        ) from e
    parts = urlsplit(endpoint)
    try:
        http = urllib3.PoolManager(
            timeout=urllib3.Timeout(_TIMEOUT_S),
            retries=False,  # we try again ourselves
            cert_reqs="CERT_REQUIRED",
            ca_certs=ca_file or ssl.get_default_verify_paths().cafile,
        )
        credentials = ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()])
        client = Minio(
            parts.netloc,
            secure=parts.scheme == "https",
            region=region,
            http_client=http,
            credentials=credentials,
        )
    except ValueError as e:
        raise PermanentError(f"The S3 anchor cannot be set up: {e}") from e
    return client, http


def _translate(error: Exception, what: str) -> RetryableError | PermanentError:
    """Its text may repeat a request; its kind and the store's own code do not."""
    status = getattr(error, "_code", None)  # of an answer that was not understood
    code = str(getattr(error, "code", "") or status or type(error).__name__)
    said = f"The object store does not {what} it ({code})"
    return PermanentError(said) if code in _LASTING else RetryableError(said)
