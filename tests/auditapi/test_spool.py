"""The spool on a disk that is full, torn, strange, or an older copy."""

from __future__ import annotations

import json
import os
import resource
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.auditapi.spool import Spool
from jupyterhub_collab.auditapi.spool_folder import from_line
from jupyterhub_collab.errors import PermanentError

EVENT = b'{"thing":"%d"}'


@contextmanager
def opened(folder: Path, **more: int) -> Iterator[Spool]:
    spool = Spool(folder, gather_s=0, **more)
    spool.open()
    try:
        yield spool
    finally:
        spool.close()


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def fill(spool: Spool, *numbers: int) -> None:
    for number in range(*numbers):
        spool.append(EVENT % number)


def drain(spool: Spool, count: int, *, last: int = 0) -> list[int]:
    """Numbers of the next events, each as it was told; up to `last` too.

    After a start a few come first that were delivered before: what is new may not be on the disk
    yet when there are enough of them.
    """
    found: list[int] = []

    def enough() -> bool:
        for one in spool.read():
            assert json.loads(one.event) == {"thing": str(one.number)}
            found.append(one.number)
        return len(found) >= count and found[-1] >= last

    until(enough)
    assert spool.read() == []
    return found


def fill_slowly(spool: Spool, start: int, end: int) -> list[int]:
    """Events that get to the disk a few at a time, so that segments are as large as they may be."""
    found = []
    for number in range(start, end, 5):
        fill(spool, number, min(number + 5, end))
        found += drain(spool, min(5, end - number), last=min(number + 5, end) - 1)
    return found


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("events-*.jsonl"))


def test_nobody_else_can_read_it(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    with opened(folder) as spool:
        fill(spool, 1, 3)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys(["lock", "incarnation", "events-0000000000000001.jsonl"], 0o600)


def test_two_never_share_one(folder: Path) -> None:
    with opened(folder), pytest.raises(PermanentError, match="another process"):
        Spool(folder).open()
    with opened(folder) as spool:  # and what is closed is free
        assert spool.last == 0


def test_numbers_go_on_when_all_is_delivered_and_little_stays_on_the_disk(folder: Path) -> None:
    incarnations = set()
    for start in range(1, 1000, 100):
        with opened(folder, segment_bytes=300) as spool:
            incarnations.add(spool.incarnation)
            found = fill_slowly(spool, start, start + 100)
            assert found[-100:] == list(range(start, start + 100))
            assert len(found) < 120  # besides, a few that were delivered
            spool.acknowledge(start + 99)
            assert spool.undelivered == 0
            spool.read()
        assert len(segments(folder)) <= 2
    assert len(incarnations) == 1


def test_what_is_not_delivered_stays(folder: Path) -> None:
    with opened(folder, segment_bytes=300) as spool:
        fill_slowly(spool, 1, 500)
        spool.acknowledge(250)
        assert spool.read() == []
    with opened(folder, segment_bytes=300) as spool:
        found = drain(spool, 249)
    assert set(range(251, 500)) <= set(found)
    assert len(found) < 400  # and what was delivered is gone


@pytest.mark.parametrize("rubbish", [b"\0" * 4096, b"{]\n", b'{"sequence":"7","event":{}}\n'])
def test_damaged_lines_are_passed_over_and_told(
    folder: Path, rubbish: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(folder) as spool:
        fill(spool, 1, 4)
    with segments(folder)[0].open("ab") as file:
        file.write(rubbish.rstrip(b"\n") + b"\n")
        file.write(b"x" * 300_000 + b"\n")
        file.write(b'{"sequence":2,"event":{"thing":"again"}}\n')
    with opened(folder) as spool:
        fill(spool, 4, 6)
        assert drain(spool, 5) == [1, 2, 3, 4, 5]
    assert caplog.text.count("damaged line") == 2


def test_foreign_files_are_left_alone(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    target = tmp_path / "precious"
    target.write_bytes(b"precious\n")
    (folder / "events-0000000000000009.jsonl").symlink_to(target)
    (folder / "events-0000000000000007.jsonl").mkdir()
    foreign = [folder / name for name in ("notes.txt", "events-1.jsonl", "events-x.jsonl")]
    for path in foreign:
        path.write_bytes(b"not ours\n")
    with opened(folder, segment_bytes=100) as spool:
        fill(spool, 1, 7)
        assert drain(spool, 6) == list(range(1, 7))
        spool.acknowledge(6)
        spool.read()
    assert target.read_bytes() == b"precious\n"
    assert all(path.read_bytes() == b"not ours\n" for path in foreign)


@given(cut=st.integers(0, 4000), more=st.binary(max_size=200))
def test_a_tail_torn_anywhere_costs_only_itself(
    tmp_path_factory: pytest.TempPathFactory, cut: int, more: bytes
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    with opened(folder) as spool:
        fill(spool, 1, 101)
    path = segments(folder)[-1]
    whole = path.read_bytes()[:cut]
    path.write_bytes(whole + more)
    kept = [one.number for line in whole.splitlines(keepends=True) if (one := from_line(line))]
    with opened(folder) as spool:
        assert spool.last >= len(kept)
        first = spool.last + 1
        fill(spool, first, first + 3)
        found = drain(spool, len(kept) + 3)
    assert [number for number in found if number < first][: len(kept)] == kept
    assert found[-3:] == [first, first + 1, first + 2]


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"incarnation":"x","after":0}', b"\0\0"])
def test_a_lost_id_is_replaced_and_nothing_else_is_lost(
    folder: Path, content: bytes | None
) -> None:
    with opened(folder) as spool:
        fill(spool, 1, 4)
        before = spool.incarnation
    (folder / "incarnation").unlink()
    if content is not None:
        (folder / "incarnation").write_bytes(content)
    with opened(folder) as spool:
        assert spool.incarnation.id != before.id
        assert spool.incarnation.after == 0
        fill(spool, 4, 5)
        assert drain(spool, 4) == [1, 2, 3, 4]


def test_numbers_from_one_again_are_under_another_id(folder: Path) -> None:
    with opened(folder) as spool:
        fill(spool, 1, 4)
        before = spool.incarnation
    segments(folder)[0].unlink()
    with opened(folder) as spool:
        assert spool.last == 0
        assert spool.incarnation.id != before.id


def test_a_segment_that_somebody_deleted_holds_nothing_up(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(folder, segment_bytes=100) as spool:
        fill_slowly(spool, 1, 20)
    with opened(folder, segment_bytes=100) as spool:
        segments(folder)[1].unlink()
        found = drain(spool, 14)
    assert found == sorted(found)
    assert (found[0], found[-1]) == (1, 19)
    assert len(found) < 19
    assert "is gone" in caplog.text


def test_what_the_disk_does_not_take_waits_in_memory_and_is_told_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(folder) as spool:
        fill(spool, 1, 11)
        until(lambda: spool.read() != [])
        size = segments(folder)[0].stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # In the middle of the next line: the disk takes a part of it.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        try:
            assert spool.append(EVENT % 11, may_wait=False) is None
            fill(spool, 11, 500)
            assert spool.is_in_trouble
            assert spool.append(EVENT % 0, may_wait=False) is None
            until(lambda: "cannot be spooled" in caplog.text)
            assert segments(folder)[0].stat().st_size == size
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        fill(spool, 500, 502)
        assert drain(spool, 491) == list(range(11, 502))
        until(lambda: not spool.is_in_trouble)
    assert caplog.text.count("cannot be spooled") == 1
    assert "spooled again" in caplog.text
    assert "lost=0" in caplog.text


def test_what_is_kept_is_on_the_disk_or_not_taken(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(folder) as spool:
        assert spool.keep([EVENT % 1, EVENT % 2], timeout_s=20) == 2
        size = segments(folder)[0].stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + len(EVENT) + 30, before[1]))
        try:
            events = [EVENT % number for number in (3, 4, 5)]
            assert spool.keep(events, timeout_s=20) == 1
            until(lambda: "cannot be spooled" in caplog.text)
            assert [spool.keep(events[1:], timeout_s=20) for _ in range(3)] == [0, 0, 0]
            assert spool.is_in_trouble
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert spool.keep(events[1:], timeout_s=20) == 2
        assert drain(spool, 5) == [1, 2, 3, 4, 5]
        assert spool.lost == 0
        until(lambda: not spool.is_in_trouble)
    assert caplog.text.count("cannot be spooled") == 1
    assert spool.keep([EVENT % 6], timeout_s=20) == 0, "it is closed"


def test_what_may_not_be_on_the_disk_is_kept_once_it_is_delivered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: int) -> None:
        raise OSError(5, "Input/output error")

    with opened(folder) as spool:
        with monkeypatch.context() as at_first:
            at_first.setattr("jupyterhub_collab.auditapi.spool._flush_file", broken)
            assert spool.keep([EVENT % 1], timeout_s=0.2) == 0
        assert spool.keep([EVENT % 1], timeout_s=0.2) == 0
        assert spool.last == 1, "it is not told twice while the first may still arrive"
        spool.acknowledge(1)
        assert spool.keep([EVENT % 2], timeout_s=20) == 1


def test_what_neither_disk_nor_memory_takes_is_counted_and_missed(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(folder, spool_bytes=450, segment_bytes=100, memory_bytes=100) as spool:
        fill(spool, 1, 41)
        assert spool.lost > 10
        numbers: list[int] = []

        def drained() -> bool:
            for one in spool.read():
                numbers.append(one.number)
                spool.acknowledge(one.number)
            return len(numbers) == 40 - spool.lost

        until(drained)
        assert spool.append(EVENT % 41, may_wait=False) == 41  # there is room again
        until(lambda: [one.number for one in spool.read()] == [41])
        lost = spool.lost
    assert numbers == list(range(1, len(numbers) + 1))
    assert f"lost={lost}" in caplog.text


def test_a_disk_that_does_not_flush_is_told_and_events_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with opened(folder) as spool:
        monkeypatch.setattr(os, "fdatasync", fail)
        fill(spool, 1, 4)
        assert drain(spool, 3) == [1, 2, 3]
        monkeypatch.undo()
    assert "does not flush" in caplog.text


def test_a_fault_of_ours_does_not_end_the_thread(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: int) -> None:
        raise RuntimeError("nobody thought of this")

    with opened(folder) as spool:
        monkeypatch.setattr(os, "fdatasync", fail)
        fill(spool, 1, 4)
        until(lambda: "could not be flushed" in caplog.text)
        assert spool.read() == []
        monkeypatch.undo()
        assert drain(spool, 3) == [1, 2, 3]


def test_nothing_is_read_before_it_is_flushed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may = threading.Event()
    flush = os.fdatasync

    def wait(file: int) -> None:
        may.wait()
        flush(file)

    with opened(folder) as spool:
        monkeypatch.setattr(os, "fdatasync", wait)
        fill(spool, 1, 4)
        assert spool.read() == []
        may.set()
        assert drain(spool, 3) == [1, 2, 3]


def test_where_there_can_be_no_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "spool", Path("/proc/spool")):
        with pytest.raises(PermanentError, match="cannot be kept in"):
            Spool(place).open()


def test_a_full_disk_is_said_at_the_start(folder: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(PermanentError, match="with room"):
            Spool(folder).open()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with opened(folder) as spool:  # nothing of it stays
        fill(spool, 1, 2)
        assert drain(spool, 1) == [1]


def test_ages_are_of_what_waits_and_of_no_wall_clock(folder: Path) -> None:
    clock = [100.0]
    spool = Spool(folder, monotonic=lambda: clock[0])
    spool.open()
    try:
        assert spool.oldest_s() == 0
        fill(spool, 1, 2)
        drain(spool, 1)
        clock[0] += 5
        fill(spool, 2, 3)
        drain(spool, 1)
        clock[0] += 5
        assert spool.oldest_s() == 10
        spool.acknowledge(1)
        assert spool.oldest_s() == 5
        spool.acknowledge(2)
        assert spool.oldest_s() == 0
    finally:
        spool.close()
