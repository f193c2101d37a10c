"""Copies a volume to the contests service, or a copy back into a volume: what an archive Job runs.

One HTTP request brings the whole stream (`archive_packing`), one fetches it (`archive_unpacking`),
each with a one-time token. What fails fails whole: the Job tries again from the start.

Standard library only: the image needs nothing but Python and this package.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final, NoReturn
from urllib.parse import urlsplit

from ..constants import ARCHIVE_CHECKSUM_HEADER
from .archive_packing import AGAIN, CHUNK_BYTES, DONE, NEVER, ArchiveError, Saver, make_footer
from .archive_unpacking import unpack

_TIMEOUT_S: Final = 600.0  # the service answers once the copy is safe


class _Upload:
    """Sends the stream as it is made."""

    def __init__(self, url: str, token: str) -> None:
        self._connection, path = _connect(url)
        self._digest, self._bytes, self._buffer = hashlib.sha256(), 0, bytearray()
        self._connection.putrequest("PUT", path)
        self._connection.putheader("Authorization", f"token {token}")
        self._connection.putheader("Content-Type", "application/x-tar")
        self._connection.putheader("Transfer-Encoding", "chunked")
        self._connection.endheaders()

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        self._bytes += len(data)
        self._buffer += data
        if len(self._buffer) >= CHUNK_BYTES:
            self._send()

    def _send(self) -> None:
        try:
            self._connection.send(b"%x\r\n" % len(self._buffer) + self._buffer + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self._answer()  # it may have said why
            raise
        self._buffer.clear()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def finish(self, saver: Saver) -> dict[str, Any]:
        """The footer, and the service's word that the copy is safe. Raises ArchiveError."""
        sha256, size = self._digest.hexdigest(), self._bytes
        counts = {"files": saver.files, "missed": saver.missed}
        self._buffer += make_footer(sha256, size=size, **counts)
        self._send()
        self._connection.send(b"0\r\n\r\n")
        answer = self._answer()
        if answer.get("sha256") != sha256:
            raise ArchiveError(f"the service received {answer.get('sha256')}, not {sha256}")
        return {"sha256": sha256, "bytes": size, **counts}

    def _answer(self) -> dict[str, Any]:
        with self._connection.getresponse() as response:
            if response.status != 200:
                _refused(response)
            found: dict[str, Any] = json.loads(response.read(1 << 16))
            return found


def _connect(url: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S), parts.path


def _refused(response: http.client.HTTPResponse) -> NoReturn:
    said = response.read(2000).decode("utf-8", "replace")
    is_final = 400 <= response.status < 500 and response.status not in (408, 429)
    raise ArchiveError(f"the service says {response.status}: {said}", NEVER if is_final else AGAIN)


def save(url: str, folder: str, token: str) -> dict[str, Any]:
    """Copy a folder to the service; what was sent. Raises ArchiveError, OSError."""
    # What was brought already need not be brought again: its answer may have been lost.
    connection, path = _connect(url)
    with closing(connection):
        connection.request("HEAD", path, headers={"Authorization": f"token {token}"})
        found = connection.getresponse()
        found.read()
    if found.status == 200:
        return {"sha256": found.getheader(ARCHIVE_CHECKSUM_HEADER), "already": True}
    if found.status != 404:
        code = NEVER if 400 <= found.status < 500 else AGAIN
        raise ArchiveError(f"the service says {found.status}", code)
    with closing(_Upload(url, token)) as upload:
        saver = Saver(upload.write)
        saver.save(folder)
        return upload.finish(saver)


def restore(url: str, folder: str, token: str) -> dict[str, Any]:
    """Unpack a copy into a folder. Raises ArchiveError, OSError."""
    connection, path = _connect(url)
    with closing(connection):
        connection.request("GET", path, headers={"Authorization": f"token {token}"})
        with connection.getresponse() as response:
            if response.status != 200:
                _refused(response)
            return unpack(
                response,
                folder,
                name=path.rpartition("/")[2],
                sha256=response.getheader(ARCHIVE_CHECKSUM_HEADER) or "",
            )


def main(argv: list[str] | None = None, *, out: IO[str] | None = None) -> int:
    """Exit code: 0 done, 1 another try may help, 2 it does not."""
    parser = argparse.ArgumentParser(description="Copies a volume, or brings a copy back.")
    parser.add_argument("what", choices=("save", "restore"))
    parser.add_argument("url", help="of the archive at the contests service")
    parser.add_argument("folder", help="where the volume is mounted")
    parser.add_argument("token_file", help="holds the one-time token")
    asked = parser.parse_args(argv)
    say = (out or sys.stdout).write
    try:
        token = Path(asked.token_file).read_text(encoding="ascii").strip()
        work = save if asked.what == "save" else restore
        say(json.dumps(work(asked.url, asked.folder, token)) + "\n")
    except ArchiveError as error:
        say(f"{asked.what}: {error}\n")
        return error.code
    except (OSError, http.client.HTTPException, ValueError) as error:
        say(f"{asked.what}: {type(error).__name__}: {error}\n")
        return AGAIN
    return DONE


if __name__ == "__main__":
    sys.exit(main())
