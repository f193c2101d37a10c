"""An object store with S3's API as a place for copies of volumes, locked until they may go.

A copy is received into a local folder first, so that nothing is ever locked in the store but what
came whole; it needs room for the largest copy. With `lock` each object is put with a retention
date: nobody deletes it before, where the mode is COMPLIANCE not even the owner of the bucket, which
must have object lock. minio is needed: ``pip install jupyterhub-collab[audit-s3]``.

It must not: be given keys. They come from the usual places: AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, the file of credentials, the role of the machine.

Notes
-----
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
"""

from __future__ import annotations

import asyncio
import io
import logging
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ..errors import PermanentError, RetryableError
from .archives import (
    PIECE_BYTES,
    Incoming,
    KeptError,
    NoteError,
    StoredArchive,
    check_key,
    read_note,
    readable,
    remove_leftovers,
)

_PART_BYTES: Final = 64 << 20  # of an upload in parts; 10,000 of them are 625 GiB
_NOTE_BYTES_MAX: Final = 8192
_TIMEOUT_S: Final = 300.0  # of one part
_UPLOAD_MAX: Final = timedelta(days=7)  # no upload of ours takes so long
_LASTING: Final = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket")
_ABSENT: Final = ("NoSuchKey", "NoSuchVersion", "404")
log = logging.getLogger(__name__)


class ArchiveBucket:
    """As `ArchivePlace` has it.

    Parameters
    ----------
    prefix
        Of all keys: ``archives/``.
    spool
        Local folder in which copies are received.
    lock
        ``COMPLIANCE`` or ``GOVERNANCE``; empty: objects are not locked.
    endpoint
        URL of the store.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str,
        spool: Path,
        name: str = "s3",
        prefix: str = "",
        lock: str = "",
        region: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        self.name = name
        self._bucket, self._prefix, self._spool, self._lock = bucket, prefix, spool, lock
        self._client, self._http = _make_client(endpoint, region, ca_file)
        self._busy: set[str] = set()  # keys; a store compares nothing: here one is at work on each

    async def receive(self, *, bytes_max: int) -> Incoming:
        try:
            return await Incoming.open(self._spool, bytes_max=bytes_max)
        except OSError as error:
            raise RetryableError(
                f"The folder for copies that come in cannot be written: {error.strerror}"
            ) from error

    async def keep(self, incoming: Incoming, stored: StoredArchive) -> StoredArchive:
        with self._alone(stored.key):
            return await asyncio.to_thread(self._keep, incoming.path, stored)

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Nobody else in this process puts or deletes this copy. Raises RetryableError."""
        if key in self._busy:
            raise RetryableError("Another is at work on this copy at this moment. Ask again later.")
        self._busy.add(key)
        try:
            yield
        finally:
            self._busy.discard(key)

    def _keep(self, path: Path, stored: StoredArchive) -> StoredArchive:
        if self._find_whole(stored.key) is not None:
            raise KeptError
        try:
            with path.open("rb") as file:
                done = self._put(stored, stored.key, file, stored.size)
            kept = replace(stored, version=done or "")
            note = kept.to_text().encode()
            self._put(stored, f"{stored.key}.json", io.BytesIO(note), len(note))
        except Exception as e:
            raise _translate(e, "take") from e
        return kept

    def _put(self, stored: StoredArchive, key: str, data: Any, size: int) -> str | None:
        retention = None
        if self._lock and stored.keep_until is not None:
            from minio.retention import Retention

            retention = Retention(self._lock, stored.keep_until)
        where = self._prefix + check_key(key)
        done = self._client.put_object(
            self._bucket, where, data, size, part_size=_PART_BYTES, retention=retention
        )
        version: str | None = done.version_id
        return version

    async def find(self, key: str) -> StoredArchive | None:
        return await asyncio.to_thread(self._find_whole, check_key(key))

    def _find_whole(self, key: str) -> StoredArchive | None:
        found = self._find(key)
        if found is None:
            return None
        try:
            held = self._client.stat_object(
                self._bucket, f"{self._prefix}{key}", version_id=found.version or None
            )
        except Exception as e:
            if _code_of(e) in _ABSENT:
                return None
            raise _translate(e, "give") from e
        return found if held.size == found.size else None

    def _find(self, key: str) -> StoredArchive | None:
        answer = None
        try:
            # Asked by HEAD first: some stores' words for what is missing are not understood.
            self._client.stat_object(self._bucket, f"{self._prefix}{key}.json")
            answer = self._client.get_object(self._bucket, f"{self._prefix}{key}.json")
            return read_note(answer.read(_NOTE_BYTES_MAX), key)
        except NoteError:
            raise
        except Exception as e:
            if _code_of(e) in _ABSENT:
                return None
            raise _translate(e, "give") from e
        finally:
            _end(answer)

    async def read(self, stored: StoredArchive) -> AsyncGenerator[bytes, None]:
        answer = None
        try:
            where = self._prefix + check_key(stored.key)
            answer = await asyncio.to_thread(
                self._client.get_object, self._bucket, where, version_id=stored.version or None
            )
            while data := await asyncio.to_thread(answer.read, PIECE_BYTES):
                yield data
        except Exception as e:
            raise _translate(e, "give") from e
        finally:
            await asyncio.to_thread(_end, answer)

    async def delete(self, stored: StoredArchive) -> None:
        with self._alone(stored.key):
            await asyncio.to_thread(self._delete, stored)

    def _delete(self, stored: StoredArchive) -> None:
        where = self._prefix + check_key(stored.key)
        if self._find(stored.key) not in (stored, None):
            return
        try:
            # Of a store that keeps versions a deletion without one deletes nothing.
            self._client.remove_object(self._bucket, where, version_id=stored.version or None)
            note = self._client.stat_object(self._bucket, f"{where}.json")
            self._client.remove_object(
                self._bucket, f"{where}.json", version_id=note.version_id or None
            )
        except Exception as e:
            if _code_of(e) not in _ABSENT:
                raise _translate(e, "delete") from e

    async def all(
        self, *, on_unreadable: Callable[[str], None] | None = None
    ) -> tuple[StoredArchive, ...]:
        return await asyncio.to_thread(self._all, on_unreadable)

    def _all(self, on_unreadable: Callable[[str], None] | None) -> tuple[StoredArchive, ...]:
        try:
            listed = self._client.list_objects(self._bucket, self._prefix, recursive=True)
            names = sorted(str(entry.object_name) for entry in listed)
        except Exception as e:
            raise _translate(e, "list") from e
        keys = (n[len(self._prefix) : -len(".json")] for n in names if n.endswith(".tar.json"))
        return tuple(readable(keys, self._find, on_unreadable))

    async def clear(self) -> int:
        return await asyncio.to_thread(self._clear)

    def _clear(self) -> int:
        try:
            count = remove_leftovers(self._spool)
        except OSError as e:
            raise RetryableError(
                f"The folder for copies that come in cannot be cleared: {e.strerror}"
            ) from e
        return count + self._end_uploads()

    def _end_uploads(self) -> int:
        """End uploads in parts that nobody goes on with: a store keeps their parts, and has them
        paid, but shows them nowhere."""
        count, before = 0, datetime.now(timezone.utc) - _UPLOAD_MAX
        try:
            # minio has no public call for these two.
            found = self._client._list_multipart_uploads(self._bucket, prefix=self._prefix)
            for upload in found.uploads:
                name, began = str(upload.object_name), upload.initiated_time
                if not _is_copy(name.removeprefix(self._prefix)) or began is None or began > before:
                    continue
                self._client._abort_multipart_upload(self._bucket, name, upload.upload_id)
                count += 1
        except Exception as e:
            # Not every store knows what is asked here, and copies do not depend on it.
            log.info("Uploads that were cut off are not looked for (%s)", _code_of(e))
        return count

    async def close(self) -> None:
        await asyncio.to_thread(self._http.clear)


def _is_copy(key: str) -> bool:
    try:
        return check_key(key).endswith((".tar", ".tar.json"))
    except ValueError:
        return False


def _end(answer: Any) -> None:
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
            "Archives in an object store need minio: pip install 'jupyterhub-collab[audit-s3]'"
        ) from e
    parts = urlsplit(endpoint)
    try:
        http = urllib3.PoolManager(
            timeout=urllib3.Timeout(_TIMEOUT_S),
            retries=False,  # we try again ourselves
            cert_reqs="CERT_REQUIRED",
            ca_certs=ca_file or ssl.get_default_verify_paths().cafile,
        )
        client = Minio(
            parts.netloc,
            secure=parts.scheme == "https",
            region=region,
            http_client=http,
            credentials=ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()]),
        )
    except ValueError as e:
        raise PermanentError(f"The archives' store cannot be set up: {e}") from e
    return client, http


def _code_of(error: Exception) -> str:
    status = getattr(error, "_code", None)  # of an answer that was not understood
    return str(getattr(error, "code", "") or status or type(error).__name__)


def _translate(error: Exception, what: str) -> RetryableError | PermanentError:
    """Its text may repeat a request; its kind and the store's own code do not."""
    if isinstance(error, (RetryableError, PermanentError)):
        return error
    said = f"The archives' store does not {what} it ({_code_of(error)})"
    return PermanentError(said) if _code_of(error) in _LASTING else RetryableError(said)
