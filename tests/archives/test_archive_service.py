"""Bringing copies over real HTTP: whole or not at all, by a token for once, and fetching them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from jupyterhub_collab import names
from jupyterhub_collab.constants import ARCHIVE_FOOTER_BYTES
from jupyterhub_collab.errors import AuditUnavailableError, RetryableError
from jupyterhub_collab.managers.contest_archives import RESTORE, SAVE, archive_of
from jupyterhub_collab.models.audit import Outcome
from jupyterhub_collab.singleuser.archive import main
from jupyterhub_collab.singleuser.archive_packing import AGAIN, DONE, NEVER, make_footer
from jupyterhub_collab.storage.archives import StoredArchive
from tests.archives.service import NOW, ArchiveService, archive_service

ID = names.archive_id("ocean", "team", 7)
KEY = f"sea/{ID}.tar"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ArchiveService]:
    async with archive_service(tmp_path) as found:
        yield found


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    folder = tmp_path / "volume"
    folder.mkdir()
    (folder / "big").write_bytes(os.urandom(5_000_000))
    (folder / "weird\n\udcff").write_text("name")
    (folder / "link").symlink_to("/etc")
    return folder


def token_file(service: ArchiveService, folder: Path, what: str = SAVE, archive: str = ID) -> str:
    path = folder / f"token-{what}"
    path.write_text(service.archives.token(archive, what) + "\n")
    return str(path)


async def run(service: ArchiveService, what: str, folder: Path, token: str) -> tuple[int, str]:
    """As the pod runs it."""
    out = io.StringIO()
    argv = [what, service.url(ID), str(folder), token]
    return await asyncio.to_thread(main, argv, out=out), out.getvalue()


def incoming_in(folder: Path) -> list[str]:
    """Files of copies that are being received."""
    incoming = folder / "archives" / ".incoming"
    names = os.listdir(incoming) if incoming.exists() else []
    return [name for name in names if name != "lock"]


async def test_a_volume_is_kept_and_comes_back(
    service: ArchiveService, volume: Path, tmp_path: Path
) -> None:
    code, said = await run(service, "save", volume, token_file(service, tmp_path))
    assert code == DONE, said
    kept = await service.archives.find(ID)
    assert kept is not None
    data = (tmp_path / "archives" / KEY).read_bytes()
    assert (kept.size, kept.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (kept.files, kept.missed, kept.at) == (2, 0, NOW)
    assert kept.keep_until == NOW + timedelta(days=365)
    assert kept.sha256 in said
    back = tmp_path / "back"
    back.mkdir()
    code, said = await run(service, "restore", back, token_file(service, tmp_path, RESTORE))
    assert code == DONE, said
    assert (back / "big").read_bytes() == (volume / "big").read_bytes()
    assert os.readlink(back / "link") == "/etc"
    assert sorted(os.listdir(back)) == sorted(os.listdir(volume))


async def test_a_pod_that_was_killed_after_the_last_byte_is_done_at_once(
    service: ArchiveService, volume: Path, tmp_path: Path
) -> None:
    token = token_file(service, tmp_path)
    assert (await run(service, "save", volume, token))[0] == DONE
    first = (tmp_path / "archives" / KEY).stat().st_mtime_ns
    (volume / "big").write_text("other")
    code, said = await run(service, "save", volume, token)
    assert code == DONE
    assert "already" in said
    assert (tmp_path / "archives" / KEY).stat().st_mtime_ns == first


async def test_a_token_is_spent_once_its_copy_is_kept(
    service: ArchiveService, volume: Path, tmp_path: Path
) -> None:
    await run(service, "save", volume, token_file(service, tmp_path))
    before = await service.archives.find(ID)
    headers = {"Authorization": f"token {service.archives.token(ID, SAVE)}"}
    data = make_footer(hashlib.sha256(b"").hexdigest(), size=0, files=0, missed=0)
    async with httpx.AsyncClient() as http:
        answer = await http.put(service.url(ID), headers=headers, content=data)
    assert answer.status_code == 409
    assert await service.archives.find(ID) == before


@pytest.mark.parametrize(
    ("archive", "what", "of"),
    [
        (ID, RESTORE, ID),
        (ID, SAVE, names.archive_id("ocean", "team", 8)),
        (ID, SAVE, names.archive_id("river", "team", 7)),
        ("../../etc/passwd", SAVE, "../../etc/passwd"),
        (names.archive_id("ocean", "team", 7) + "/x", SAVE, ID),
    ],
)
async def test_another_token_opens_nothing(
    archive: str, what: str, of: str, service: ArchiveService, tmp_path: Path
) -> None:
    headers = {"Authorization": f"token {service.archives.token(of, what)}"}
    async with httpx.AsyncClient() as http:
        for given in (headers, {}, {"Authorization": "token x"}, {"Authorization": "Basic eA=="}):
            sent = {k: v.encode() for k, v in given.items()}
            answer = await http.put(service.url(archive), headers=sent, content=b"x")
            assert answer.status_code in (403, 404), answer.text
    assert list((tmp_path / "archives").rglob("*.tar")) == []


async def test_a_saving_token_does_not_fetch(
    service: ArchiveService, volume: Path, tmp_path: Path
) -> None:
    await run(service, "save", volume, token_file(service, tmp_path))
    headers = {"Authorization": f"token {service.archives.token(ID, SAVE)}"}
    async with httpx.AsyncClient() as http:
        assert (await http.get(service.url(ID), headers=headers)).status_code == 403
        assert (await http.head(service.url(ID), headers=headers)).status_code == 200


async def test_the_pod_gives_up_where_its_token_is_refused(
    service: ArchiveService, volume: Path, tmp_path: Path
) -> None:
    code, said = await run(service, "save", volume, token_file(service, tmp_path, RESTORE))
    assert (code, "403" in said) == (NEVER, True) or code == NEVER
    assert await service.archives.find(ID) is None


async def test_nothing_is_there_to_fetch(service: ArchiveService, tmp_path: Path) -> None:
    code, said = await run(service, "restore", tmp_path, token_file(service, tmp_path, RESTORE))
    assert code == NEVER
    assert "not kept" in said


async def test_the_pod_tries_again_where_nobody_answers(
    service: ArchiveService, volume: Path, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        service.port = taken.getsockname()[1]
        assert (await run(service, "save", volume, token_file(service, tmp_path)))[0] == AGAIN


@pytest.mark.parametrize("at", [0, 1, 700, 100_000, -ARCHIVE_FOOTER_BYTES, -1])
async def test_a_copy_that_was_cut_off_is_none(
    at: int, service: ArchiveService, tmp_path: Path
) -> None:
    data = os.urandom(200_000)
    footer = make_footer(hashlib.sha256(data).hexdigest(), size=len(data), files=1, missed=0)
    whole = data + footer
    cut = whole[: at % len(whole)]
    headers = {"Authorization": f"token {service.archives.token(ID, SAVE)}"}
    async with httpx.AsyncClient() as http:
        answer = await http.put(service.url(ID), headers=headers, content=cut)
        assert answer.status_code == 408, "send it again"
        assert await service.archives.find(ID) is None
        answer = await http.put(service.url(ID), headers=headers, content=whole)
        assert answer.status_code == 200
    assert incoming_in(tmp_path) == []


async def test_a_connection_that_breaks_leaves_nothing(
    service: ArchiveService, tmp_path: Path
) -> None:
    path = service.archives.path(ID)
    token = service.archives.token(ID, SAVE)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nAuthorization: token {token}\r\n"
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
    await writer.drain()
    await until(lambda: incoming_in(tmp_path))
    writer.close()
    await until(lambda: not incoming_in(tmp_path))
    assert await service.archives.find(ID) is None
    del reader


async def until(check: object) -> None:
    """Wait for what the other side does; a test that fails is ended by its time-out."""
    assert callable(check)
    for _ in range(2000):
        if check():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to that")


async def test_changed_on_its_way_is_refused(service: ArchiveService) -> None:
    data = b"some content"
    footer = make_footer(hashlib.sha256(data).hexdigest(), size=len(data), files=1, missed=0)
    headers = {"Authorization": f"token {service.archives.token(ID, SAVE)}"}
    async with httpx.AsyncClient() as http:
        for wrong in (
            b"some Content" + footer,
            data + b"x" + footer,
            data + footer.replace(b'"bytes": 12', b'"bytes": 13'),
            data + footer.replace(b'"files": 1', b'"files":-1'),
            data + footer.replace(b'"files": 1', b'"files":[]'),
            data + b"[]".ljust(ARCHIVE_FOOTER_BYTES - 1) + b"\n",
        ):
            answer = await http.put(service.url(ID), headers=headers, content=wrong)
            assert answer.status_code == 408, answer.text
    assert await service.archives.find(ID) is None


async def test_what_is_too_large_is_refused_before_it_fills_the_disk(
    tmp_path: Path, volume: Path
) -> None:
    async with archive_service(tmp_path, bytes_max=1_000_000) as service:
        code, said = await run(service, "save", volume, token_file(service, tmp_path))
        assert code in (NEVER, AGAIN), said
        assert await service.archives.find(ID) is None
        await until(lambda: not incoming_in(tmp_path))
        headers = {"Authorization": f"token {service.archives.token(ID, SAVE)}"}
        async with httpx.AsyncClient() as http:
            answer = None
            with suppress(httpx.HTTPError):  # it may close before all was sent
                content = bytes(3_000_000)
                answer = await http.put(service.url(ID), headers=headers, content=content)
            assert answer is None or answer.status_code in (400, 413)


async def test_copies_whose_time_is_over_go_and_the_log_is_told(
    service: ArchiveService, volume: Path, tmp_path: Path
) -> None:
    await run(service, "save", volume, token_file(service, tmp_path))
    assert await service.archives.sweep() == 0
    service.now[0] = NOW + timedelta(days=365)
    service.recorder.refuse = AuditUnavailableError()
    with pytest.raises(AuditUnavailableError):
        await service.archives.sweep()
    assert await service.archives.find(ID) is not None, "nothing goes untold"
    service.recorder.refuse = None
    assert await service.archives.sweep() == 1
    assert await service.archives.find(ID) is None
    assert list((tmp_path / "archives").rglob("*.tar*")) == []
    told = service.recorder.events
    assert [event.outcome for event in told] == [Outcome.ALLOWED, Outcome.SUCCEEDED]
    assert told[0].reason == "archive-delete"
    assert (told[0].contest, told[0].team) == ("sea", "ocean")
    assert await service.archives.sweep() == 0


async def test_a_copy_without_its_note_is_none(
    service: ArchiveService, volume: Path, tmp_path: Path
) -> None:
    """Killed between the two writes: it is brought again."""
    token = token_file(service, tmp_path)
    await run(service, "save", volume, token)
    (tmp_path / "archives" / f"{KEY}.json").unlink()
    assert await service.archives.find(ID) is None
    assert (await run(service, "save", volume, token))[0] == DONE
    assert await service.archives.find(ID) is not None


async def test_a_full_disk_is_said_and_tried_again(
    service: ArchiveService, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise RetryableError("The copy cannot be stored: No space left on device")

    monkeypatch.setattr("jupyterhub_collab.storage.archives.Incoming.write", full)
    code, said = await run(service, "save", volume, token_file(service, tmp_path))
    assert code == AGAIN, said


async def test_it_sweeps_now_and_then_and_outlives_a_place_that_is_away(
    service: ArchiveService, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(service, "save", volume, token_file(service, tmp_path))
    service.now[0] = NOW + timedelta(days=400)
    slept: list[float] = []
    real = service.place.all

    async def away(**_: object) -> tuple[StoredArchive, ...]:
        raise RetryableError("away")

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        monkeypatch.setattr(service.place, "all", real)
        if len(slept) == 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(service.place, "all", away)
    with pytest.raises(asyncio.CancelledError):
        await service.archives.run(interval_s=60.0, sleep=sleep)
    assert slept == [60.0, 60.0]
    assert await service.archives.find(ID) is None


async def test_a_row_of_the_registry_leads_to_its_copy(
    service: ArchiveService, volume: Path, tmp_path: Path
) -> None:
    await run(service, "save", volume, token_file(service, tmp_path))
    stored = await service.archives.find(ID)
    assert stored is not None
    row = service.archives.to_record(stored, team="ocean", volume="team")
    await service.store.put_archive(row)
    [found] = await service.store.archives("sea", team="ocean")
    assert archive_of(found) == ID
    entry = service.archives.entry(archive_of(found), "team", RESTORE)
    await service.archives.check(entry["archive"], entry["token"], RESTORE)
    assert entry["path"] == f"/services/contests/api/archives/{ID}"
