"""Copies that come at once, what killed uploads leave, and notes that cannot be read."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from jupyterhub_collab.contest_ending_factory import make_archive_place
from jupyterhub_collab.errors import PermanentError, RetryableError
from jupyterhub_collab.models.audit import Outcome
from jupyterhub_collab.singleuser.archive_packing import make_footer
from jupyterhub_collab.storage import archives
from jupyterhub_collab.storage.archives import (
    ArchiveFolder,
    Incoming,
    KeptError,
    StoredArchive,
    remove_leftovers,
)
from jupyterhub_collab.storage.archives_s3 import ArchiveBucket
from tests.archives.service import NOW, archive_service

KEY = "sea/ocean.0123456789abcdef.7.tar"
OTHER = "sea/river.0123456789abcdef.8.tar"


async def receive(place: ArchiveFolder | ArchiveBucket, data: bytes) -> Incoming:
    incoming = await place.receive(bytes_max=10_000_000)
    sha256 = hashlib.sha256(data).hexdigest()
    await incoming.write(data)
    await incoming.write(make_footer(sha256, size=len(data), files=1, missed=0))
    return incoming


async def keep(
    place: ArchiveFolder | ArchiveBucket, data: bytes = b"copy", key: str = KEY
) -> StoredArchive:
    incoming = await receive(place, data)
    try:
        stored = await incoming.finish(key, at=NOW)
        return await place.keep(incoming, replace(stored, keep_until=NOW + timedelta(days=1)))
    finally:
        await incoming.close()


@pytest.mark.parametrize("many", [2, 8])
async def test_of_copies_that_come_at_once_one_is_kept_whole(tmp_path: Path, many: int) -> None:
    place = ArchiveFolder(tmp_path)
    told = await asyncio.gather(
        *(keep(place, b"%d" % number * 100_000) for number in range(many)),
        return_exceptions=True,
    )
    won = [found for found in told if isinstance(found, StoredArchive)]
    assert len(won) == 1, "the others are told"
    assert sum(isinstance(found, KeptError) for found in told) == many - 1
    data = b"".join([piece async for piece in place.read(won[0])])
    assert hashlib.sha256(data).hexdigest() == won[0].sha256
    assert await place.find(KEY) == won[0]
    assert os.listdir(tmp_path / ".incoming") == ["lock"]


async def test_where_files_cannot_be_locked_the_note_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that both saw that nothing is kept."""
    place = ArchiveFolder(tmp_path)
    first = await keep(place)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", lambda _: False)
        with pytest.raises(KeptError):
            await keep(place, b"late")
    assert await place.find(KEY) == first


async def test_a_copy_that_is_being_kept_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep has a note whose copy is lost; the copy is brought anew, and has its note soon."""
    place = ArchiveFolder(tmp_path)
    lost = await keep(place)
    (tmp_path / KEY).unlink()
    go, placing, locking = threading.Event(), threading.Event(), threading.Event()
    real_place, real_lock = archives._place, archives._lock

    def place_slowly(partial: Path, note: Path) -> None:
        placing.set()
        assert go.wait(20)
        real_place(partial, note)

    def lock(opened: int) -> bool:
        locking.set()
        return real_lock(opened)

    monkeypatch.setattr(archives, "_place", place_slowly)
    keeping = asyncio.create_task(keep(place, b"anew"))
    assert await asyncio.to_thread(placing.wait, 20)
    monkeypatch.setattr(archives, "_lock", lock)
    deleting = asyncio.create_task(place.delete(lost))
    waiting = asyncio.create_task(asyncio.to_thread(locking.wait, 20))
    await asyncio.wait({deleting, waiting}, return_when=asyncio.FIRST_COMPLETED)
    go.set()
    await deleting
    assert await keeping == await place.find(KEY)
    assert await waiting


async def test_one_copy_after_the_other_goes_into_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("minio")
    place = ArchiveBucket("copies", endpoint="http://127.0.0.1:9", spool=tmp_path, region="eu")
    go, kept = threading.Event(), threading.Event()

    def slow(path: Path, stored: StoredArchive) -> StoredArchive:
        kept.set()
        assert go.wait(20)
        return stored

    monkeypatch.setattr(place, "_keep", slow)
    first = asyncio.create_task(keep(place))
    await asyncio.to_thread(kept.wait, 20)
    with pytest.raises(RetryableError, match="at this moment"):
        await keep(place, b"late")
    with pytest.raises(RetryableError, match="at this moment"):
        await place.delete(replace(GOOD, key=KEY))
    go.set()
    assert (await first).key == KEY
    assert (await keep(place, b"again")).key == KEY, "another time it may"
    await place.close()


async def test_no_file_is_opened_flushed_or_closed_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, seen = threading.get_ident(), []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def work(*args: Any, **named: Any) -> Any:
            if threading.get_ident() == here and str(tmp_path) in repr(args):
                seen.append(name)
            return real(*args, **named)

        return work

    for name in ("open", "replace", "link", "unlink", "mkdir", "listdir", "stat"):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    monkeypatch.setattr(io, "open", watched("io.open", io.open))
    monkeypatch.setattr(os, "fsync", lambda _: seen.append("fsync") if on_loop() else None)

    def on_loop() -> bool:
        return threading.get_ident() == here

    place = ArchiveFolder(tmp_path)
    kept = await keep(place)
    assert [piece async for piece in place.read(kept)] == [b"copy"]
    assert await place.all() == (kept,)
    await place.clear()
    await place.delete(kept)
    incoming = await receive(place, b"x")
    file = incoming._file
    monkeypatch.setattr(incoming, "_file", _Watched(file, on_loop, seen))
    await incoming.close()
    assert seen == []
    assert file.closed


class _Watched:
    def __init__(self, file: Any, on_loop: Callable[[], bool], seen: list[str]) -> None:
        self._file, self._on_loop, self._seen = file, on_loop, seen

    def close(self) -> None:
        if self._on_loop():
            self._seen.append("close")
        self._file.close()


async def test_who_goes_while_a_piece_is_written_closes_after_it(tmp_path: Path) -> None:
    """Its number may be another file's at once."""
    incoming = await Incoming.open(tmp_path, bytes_max=10)
    with incoming._using:  # a thread writes
        closing = asyncio.create_task(incoming.close())
        await asyncio.to_thread(time.monotonic)
        assert not incoming._file.closed
    await closing
    assert incoming._file.closed
    await incoming._store(0)  # a piece that comes after all
    assert os.listdir(tmp_path) == []


def age(path: Path, seconds: float = 3600.0) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


RECEIVE = """
import asyncio, sys, time
from pathlib import Path
from jupyterhub_collab.storage.archives import Incoming
async def main():
    incoming = await Incoming.open(Path(sys.argv[1]), bytes_max=10)
    print("open", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_what_a_killed_one_left_goes_and_what_another_receives_stays(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RECEIVE, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        (name,) = os.listdir(tmp_path)
        age(tmp_path / name)
        assert remove_leftovers(tmp_path) == 0, "somebody receives it"
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert remove_leftovers(tmp_path) == 1
    assert os.listdir(tmp_path) == []


def test_what_is_young_or_not_ours_stays(tmp_path: Path) -> None:
    for name in ("0" * 32, "1" * 32, "notes.txt", "lock", "2" * 31):
        (tmp_path / name).write_text("x")
        age(tmp_path / name)
    age(tmp_path / ("1" * 32), 5.0)
    (tmp_path / ("3" * 32)).symlink_to(tmp_path / "notes.txt")
    assert remove_leftovers(tmp_path) == 1
    stays = ["1" * 32, "2" * 31, "3" * 32, "lock", "notes.txt"]
    assert sorted(os.listdir(tmp_path)) == stays
    assert remove_leftovers(tmp_path / "nowhere") == 0


async def test_the_service_looks_at_its_start(tmp_path: Path) -> None:
    async with archive_service(tmp_path) as service:
        left = tmp_path / "archives" / ".incoming" / ("a" * 32)
        left.parent.mkdir(parents=True)
        left.write_text("half a copy")
        age(left)

        async def stop(_: float) -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await service.archives.run_clearing(sleep=stop)
        assert not left.exists()


GOOD = StoredArchive(KEY, 4, hashlib.sha256(b"copy").hexdigest(), NOW, keep_until=NOW)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b"{}",
        b"null",
        GOOD.to_text().replace('"size": 4', '"size": "4"').encode(),
        GOOD.to_text().replace("+00:00", "").encode(),
        GOOD.to_text().replace(GOOD.sha256, "../..").encode(),
        replace(GOOD, key=OTHER).to_text().encode(),
        replace(GOOD, key="../../etc/passwd").to_text().encode(),
    ],
)
async def test_a_note_that_cannot_be_read_stops_no_other_and_keeps_its_copy(
    text: bytes, tmp_path: Path
) -> None:
    async with archive_service(tmp_path) as service:
        await keep(service.place, key=KEY)  # type: ignore[arg-type]
        other = await keep(service.place, key=OTHER)  # type: ignore[arg-type]
        note = tmp_path / "archives" / f"{KEY}.json"
        note.write_bytes(text)
        with pytest.raises(PermanentError, match="ocean"):
            await service.place.find(KEY)
        service.now[0] = NOW + timedelta(days=400)
        assert await service.archives.sweep() == 1
        assert [event.thing for event in service.recorder.events] == [OTHER, OTHER]
        assert service.recorder.events[-1].outcome is Outcome.SUCCEEDED
        assert await service.place.find(other.key) is None
        assert service.archives.unreadable == (KEY,), "told as a figure"
        assert (tmp_path / "archives" / KEY).read_bytes() == b"copy"
        assert note.read_bytes() == text
        note.write_text(GOOD.to_text())
        assert await service.archives.sweep() == 1, "put right, it goes its way"
        assert service.archives.unreadable == ()


async def test_uploads_in_parts_that_were_cut_off_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("minio")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    ended: list[str] = []

    def upload(key: str, at: str) -> str:
        return (
            f"<Upload><Key>{key}</Key><UploadId>of-{len(key)}</UploadId>"
            f"<Initiated>{at}</Initiated></Upload>"
        )

    listed = "".join(
        [
            upload(f"volumes/{KEY}", "2020-01-01T00:00:00.000Z"),
            upload(f"volumes/{OTHER}", "2999-01-01T00:00:00.000Z"),
            upload("volumes/somebody-elses", "2020-01-01T00:00:00.000Z"),
        ]
    )

    class Store(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = f"<ListMultipartUploadsResult>{listed}</ListMultipartUploadsResult>".encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_DELETE(self) -> None:
            url = urlsplit(self.path)
            ended.append(f"{url.path} {parse_qs(url.query)['uploadId'][0]}")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    left = tmp_path / ("b" * 32)
    left.write_text("half a copy")
    age(left)
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    place = make_archive_place(f"s3://copies/volumes?endpoint={endpoint}&region=eu", spool=tmp_path)
    assert place is not None
    try:
        assert await place.clear() == 2
    finally:
        await place.close()
        server.shutdown()
        thread.join()
        server.server_close()
    assert ended == [f"/copies/volumes/{KEY} of-{len(f'volumes/{KEY}')}"]
    assert not left.exists()


async def test_a_store_that_does_not_know_uploads_in_parts_is_none_the_worse(
    tmp_path: Path,
) -> None:
    pytest.importorskip("minio")
    place = ArchiveBucket("copies", endpoint="http://127.0.0.1:9", spool=tmp_path, region="eu")
    assert await place.clear() == 0
    await place.close()


def test_a_note_says_what_it_said() -> None:
    assert StoredArchive.from_text(GOOD.to_text()) == GOOD
    assert json.loads(GOOD.to_text())["key"] == KEY
