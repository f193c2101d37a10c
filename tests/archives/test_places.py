"""Places for copies: a folder, and an object store that checks signatures."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jupyterhub_collab.contest_ending_factory import (
    make_archive_place,
    make_contest_archives,
    read_or_make_key,
    read_or_make_signer,
)
from jupyterhub_collab.errors import PermanentError, RetryableError
from jupyterhub_collab.singleuser.archive_packing import make_footer
from jupyterhub_collab.storage.archives import ArchiveFolder, ArchivePlace, StoredArchive
from jupyterhub_collab.storage.archives_s3 import ArchiveBucket
from tests.archives.service import NOW, Told, open_registry
from tests.archives.versioned_store import versioned_store
from tests.real_hub import find_free_port
from tests.services.running import wait_until

KEY = "sea/ocean.0123456789abcdef.7.tar"
DATA = os.urandom(3_000_000)


async def keep(place: ArchivePlace, data: bytes = DATA, key: str = KEY) -> StoredArchive:
    incoming = await place.receive(bytes_max=10_000_000)
    try:
        sha256 = hashlib.sha256(data).hexdigest()
        await incoming.write(data)
        await incoming.write(make_footer(sha256, size=len(data), files=1, missed=0))
        stored = await incoming.finish(key, at=NOW)
        return await place.keep(incoming, replace(stored, keep_until=NOW + timedelta(days=1)))
    finally:
        await incoming.close()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Endpoint of a store with one bucket."""
    pytest.importorskip("minio", reason="minio is not installed: not proved that stores work")
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which("rclone", path=beside)
    if program is None:
        pytest.skip("rclone is not installed: not proved that a store takes our copies")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    (tmp_path / "store" / "copies").mkdir(parents=True)
    port = find_free_port()
    command = [program, "serve", "s3", "--auth-key", "ada,a-secret-key"]
    process = subprocess.Popen(
        [*command, "--addr", f"127.0.0.1:{port}", str(tmp_path / "store")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
    )

    def is_up() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(is_up, timeout_s=20, what=lambda: "rclone")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=["file", "s3"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ArchivePlace]:
    address = f"file://{tmp_path}/kept"
    if request.param == "s3":
        endpoint = request.getfixturevalue("store")
        address = f"s3://copies/of/volumes?endpoint={endpoint}&region=us-east-1"
    found = make_archive_place(address, spool=tmp_path / "spool")
    assert found is not None
    yield found
    await found.close()


async def test_what_is_kept_is_found_read_and_deleted(place: ArchivePlace) -> None:
    assert await place.find(KEY) is None
    assert await place.all() == ()
    kept = await keep(place)
    assert await place.find(KEY) == kept
    assert b"".join([piece async for piece in place.read(kept)]) == DATA
    other = "sea/river.0123456789abcdef.8.tar"
    await keep(place, b"small", other)
    assert [stored.key for stored in await place.all()] == [KEY, other]
    await place.delete(kept)
    assert await place.find(KEY) is None
    await place.delete(kept)
    assert [stored.key for stored in await place.all()] == [other]


async def test_what_is_read_is_the_version_that_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else with rights on the bucket may have put another one since."""
    pytest.importorskip("minio")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    with versioned_store() as endpoint:
        place = ArchiveBucket("copies", endpoint=endpoint, spool=tmp_path, region="eu")
        kept = await keep(place, b"kept")
        place._client.put_object("copies", KEY, io.BytesIO(b"late"), 4)
        assert await place.find(KEY) == kept
        assert [piece async for piece in place.read(kept)] == [b"kept"]
        await place.close()


async def test_a_note_without_its_copy_is_no_copy(place: ArchivePlace, tmp_path: Path) -> None:
    kept = await keep(place)
    if isinstance(place, ArchiveBucket):
        place._client.remove_object("copies", f"of/volumes/{KEY}")
    else:
        (tmp_path / "kept" / KEY).unlink()
    assert await place.find(KEY) is None
    assert await place.all() == (kept,), "the sweep has the note to delete"
    assert await keep(place, b"anew") == await place.find(KEY)


async def test_what_was_kept_since_is_not_deleted_for_what_was_lost(
    place: ArchivePlace, tmp_path: Path
) -> None:
    """The sweep has looked, then the copy that its note missed is brought anew."""
    lost = await keep(place)
    if isinstance(place, ArchiveBucket):
        place._client.remove_object("copies", f"of/volumes/{KEY}")
    else:
        (tmp_path / "kept" / KEY).unlink()
    kept = await keep(place, b"anew")
    await place.delete(lost)
    assert await place.find(KEY) == kept
    await place.delete(kept)
    assert await place.all() == ()


async def test_a_key_never_leaves_its_place(place: ArchivePlace) -> None:
    for key in ("../x.tar", "/etc/passwd", "sea/../../x", "", "sea//x", "sea/x\n"):
        with pytest.raises(ValueError, match="key"):
            await place.find(key)


async def test_a_store_that_is_away_is_asked_again(store: str, tmp_path: Path) -> None:
    away = ArchiveBucket(
        "copies",
        endpoint=f"http://127.0.0.1:{find_free_port()}",
        spool=tmp_path,
        region="us-east-1",
    )
    with pytest.raises(RetryableError):
        await keep(away)
    with pytest.raises(RetryableError):
        await away.find(KEY)
    assert list(tmp_path.glob("*.part")) == []
    await away.close()


async def test_objects_are_locked_until_they_may_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("minio")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    seen: list[tuple[str, str | None, str | None]] = []

    class Store(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            mode = self.headers["x-amz-object-lock-mode"]
            seen.append((self.path, mode, self.headers["x-amz-object-lock-retain-until-date"]))
            self.send_response(200)
            self.send_header("ETag", '"x"')
            self.send_header("x-amz-version-id", "v7")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    locked = make_archive_place(
        f"s3://copies?endpoint={endpoint}&region=us-east-1&lock=compliance", spool=tmp_path
    )
    assert locked is not None
    try:
        kept = await keep(locked, b"small")
    finally:
        await locked.close()
        server.shutdown()
        thread.join()
        server.server_close()
    assert kept.version == "v7"
    assert [mode for _, mode, _ in seen] == ["COMPLIANCE", "COMPLIANCE"]
    assert all((until or "").startswith("2027-07-02T12:00:00") for *_, until in seen)


@pytest.mark.parametrize(
    "address",
    [
        "/srv/archives",
        "file://host/srv",
        "s3://",
        "s3://key:secret@bucket",
        "s3://bucket?lock=maybe",
        "s3://bucket?secret=x",
        "ftp://bucket",
    ],
)
def test_an_address_that_is_none_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"docs/teardown\.md") as refused:
        make_archive_place(address, spool=tmp_path)
    assert "secret" not in str(refused.value)


async def test_keys_are_made_once_and_stay(tmp_path: Path) -> None:
    key = read_or_make_key(tmp_path / "k")
    assert read_or_make_key(tmp_path / "k") == key
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    signer = read_or_make_signer(tmp_path / "c.key", "hub.test/contests")
    assert read_or_make_signer(tmp_path / "c.key", "other").verifier == signer.verifier
    assert (tmp_path / "c.key.pub").read_text().strip() == signer.verifier.to_text()
    (tmp_path / "k").write_text("short")
    (tmp_path / "c.key").write_text("no key")
    for broken in (
        lambda: read_or_make_key(tmp_path / "k"),
        lambda: read_or_make_signer(tmp_path / "c.key", "x"),
        lambda: read_or_make_key(tmp_path / "nowhere" / "k"),
    ):
        with pytest.raises(PermanentError):
            broken()


async def test_without_an_address_nothing_is_archived(tmp_path: Path) -> None:
    async with open_registry(tmp_path) as registry:
        for address, is_there in (("", False), (f"file://{tmp_path}/kept", True)):
            found = make_contest_archives(
                address, registry, Told(), state=tmp_path, prefix="/x/", now=lambda: NOW
            )
            assert (found is not None) is is_there


async def test_a_deletion_that_was_cut_off_is_found_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks for a copy without its note."""
    place = ArchiveFolder(tmp_path)
    stored = await keep(place, b"copy")
    unlink = Path.unlink

    def killed(path: Path, *options: bool) -> None:
        if path.suffix == ".json":
            raise PermissionError
        unlink(path, *options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(RetryableError):
            await place.delete(stored)
    assert await place.all() == (stored,)
    await place.delete(stored)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["lock"]
