"""An object store with S3's API and object lock: what was put there cannot be changed or deleted
before its time, by nobody.

The layout is that of the folder. Every object is put with a retention date; the bucket must have
object lock (and so versions). botocore is needed: ``pip install jupyterhub-collab[audit-s3]``.

It must not: hold keys. botocore finds them (environment, file, role of the machine).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from ..errors import PermanentError, RetryableError
from .anchor import Delivery

_NOTE_BYTES_MAX: Final = 8192
_TIMEOUT_S: Final = 20.0


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
        endpoint: str | None = None,
        region: str | None = None,
        ca_file: str | None = None,
        interval_s: float = 0.0,
    ) -> None:
        self.name, self.interval_s = name, interval_s
        self._bucket, self._prefix, self._now = bucket, prefix, now
        self._retain, self._mode = retain, mode
        self._client = _make_client(endpoint, region, ca_file)

    async def deliver(self, delivery: Delivery) -> None:
        await asyncio.to_thread(self._deliver, delivery)

    async def newest(self) -> str | None:
        return await asyncio.to_thread(self._read_newest)

    async def set_aside(self) -> None:
        """Nothing can be moved there, and nothing is lost: all versions stay."""

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)

    def _deliver(self, delivery: Delivery) -> None:
        for tile, data in delivery.read_tiles(delivery.held):
            self._put(tile.path, data)
        for size, note in (*delivery.earlier, (delivery.size, delivery.note)):
            self._put(f"checkpoints/{size}", note.encode())
        self._put("checkpoint", delivery.note.encode())

    def _put(self, path: str, data: bytes) -> None:
        more: dict[str, Any] = {}
        if self._retain is not None:
            more["ObjectLockMode"] = self._mode
            more["ObjectLockRetainUntilDate"] = self._now() + self._retain
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + path,
                Body=data,
                ContentType="application/octet-stream",
                **more,
            )
        except Exception as e:
            raise _translate(e, "take") from e

    def _read_newest(self) -> str | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=f"{self._prefix}checkpoint")
            with answer["Body"] as body:
                return bytes(body.read(_NOTE_BYTES_MAX)).decode("utf-8", "replace")
        except Exception as e:
            if _code_of(e) in ("NoSuchKey", "404"):
                return None
            raise _translate(e, "give") from e


def _make_client(endpoint: str | None, region: str | None, ca_file: str | None) -> Any:
    try:
        from botocore.config import Config
        from botocore.session import Session
    except ImportError as e:
        raise PermanentError(
            "An S3 anchor needs botocore: pip install 'jupyterhub-collab[audit-s3]'"
        ) from e
    options = Config(
        connect_timeout=_TIMEOUT_S,
        read_timeout=_TIMEOUT_S,
        retries={"max_attempts": 1},  # we try again ourselves
        signature_version="s3v4",
        s3={"addressing_style": "path"} if endpoint else {},
    )
    try:
        return Session().create_client(
            "s3", region_name=region, endpoint_url=endpoint, verify=ca_file, config=options
        )
    except Exception as e:
        raise PermanentError(f"The S3 anchor cannot be set up ({type(e).__name__}): {e}") from e


def _code_of(error: Exception) -> str:
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def _translate(error: Exception, what: str) -> RetryableError | PermanentError:
    """Its text may repeat a request; its kind and the store's own code do not."""
    code = _code_of(error)
    said = f"The object store does not {what} it ({code or type(error).__name__})"
    lasting = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket")
    if code in lasting or type(error).__name__ == "NoCredentialsError":
        return PermanentError(said)
    return RetryableError(said)
