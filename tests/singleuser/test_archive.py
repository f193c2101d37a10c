"""A volume's copy holds all of it, byte for byte, and comes back nowhere but in its folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab.singleuser.archive_packing import NEVER, ArchiveError, Saver
from jupyterhub_collab.singleuser.archive_unpacking import unpack
from tests.singleuser.archive_samples import fill, tree_of


def copy_of(folder: Path) -> tuple[bytes, Saver]:
    out = io.BytesIO()
    saver = Saver(lambda data: out.write(data) and None)
    saver.save(str(folder))
    return out.getvalue(), saver


def manifest_of(data: bytes) -> list[dict[str, Any]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [
            json.loads(line)
            for member in tar
            if member.name.startswith("manifest/")
            for line in tar.extractfile(member) or ()
        ]


def bring_back(data: bytes, folder: Path, name: str = "ocean.team.7") -> dict[str, Any]:
    sha256 = hashlib.sha256(data).hexdigest()
    return unpack(io.BytesIO(data), str(folder), name=name, sha256=sha256)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """All kinds of things that people leave in volumes, and a hole of a terabyte."""
    folder = tmp_path / "volume"
    folder.mkdir()
    fill(folder)
    with (folder / "hole").open("wb") as file:
        file.truncate(1 << 40)
    return folder


def test_it_comes_back_byte_for_byte(volume: Path, tmp_path: Path) -> None:
    os.truncate(volume / "hole", 1 << 28)  # the test reads it whole
    data, saver = copy_of(volume)
    back = tmp_path / "back"
    back.mkdir()
    said = bring_back(data, back)
    assert tree_of(back) == tree_of(volume)
    assert saver.missed == 0
    assert said["files"] == saver.files
    assert (back / "twin").stat().st_ino == (back / "zwin").stat().st_ino
    assert (back / "hole").stat().st_blocks < 1024, "holes stay holes"


def test_a_file_of_a_terabyte_of_nothing_takes_no_room(volume: Path) -> None:
    data, _ = copy_of(volume)
    assert len(data) < 20 << 20


def test_the_same_files_make_the_same_copy(volume: Path, tmp_path: Path) -> None:
    os.truncate(volume / "hole", 1 << 28)
    data, _ = copy_of(volume)
    back = tmp_path / "back"
    back.mkdir()
    os.utime(back, ns=(volume.stat().st_mtime_ns,) * 2)
    bring_back(data, back)
    os.chmod(back, stat.S_IMODE(volume.stat().st_mode))
    os.utime(back, ns=(volume.stat().st_mtime_ns,) * 2)
    assert copy_of(back)[0] == data == copy_of(volume)[0]


def test_extended_attributes_come_back(tmp_path: Path) -> None:
    folder, back = tmp_path / "v", tmp_path / "back"
    folder.mkdir(), back.mkdir()
    (folder / "file").touch()
    value = b"\x00\xff\n=bytes"
    try:
        os.setxattr(folder / "file", "user.note", value)
    except OSError:
        pytest.skip("this file system has no extended attributes")
    bring_back(copy_of(folder)[0], back)
    assert os.getxattr(back / "file", "user.note") == value


def test_the_manifest_names_every_file_with_its_checksum(volume: Path) -> None:
    data, saver = copy_of(volume)
    lines = {line["path"]: line for line in manifest_of(data)}
    inside = (volume / "deep/er/file").read_bytes()
    assert lines["deep/er/file"] == {
        "path": "deep/er/file",
        "kind": "file",
        "size": 3_000_001,
        "sha256": hashlib.sha256(inside).hexdigest(),
    }
    assert lines["absolute"]["target"] == "/etc/passwd"
    assert lines["zwin"] == {"path": "zwin", "kind": "link", "target": "twin"}
    assert lines["sparse"]["sparse"] is True
    assert "\udcff\udcfe not utf-8" in lines
    assert sum(line["kind"] == "file" for line in lines.values()) == saver.files


def test_what_cannot_be_read_is_said_and_the_rest_is_kept(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if path in ("script", "deep"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    data, saver = copy_of(volume)
    lines = {line["path"]: line for line in manifest_of(data)}
    assert lines["script"] == {"path": "script", "kind": "missed", "why": "Permission denied"}
    assert lines["deep"]["kind"] == "missed"
    assert saver.missed == 2
    assert "twin" in lines


def test_a_file_that_shrinks_meanwhile_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_bytes(b"12345")
    (tmp_path / "other").write_bytes(b"whole")
    real, asked = os.read, []

    def read(fd: int, size: int) -> bytes:
        asked.append(fd)
        return b"" if len(asked) == 1 else real(fd, size)

    monkeypatch.setattr(os, "read", read)
    data, saver = copy_of(tmp_path)
    kinds = [(line["path"], line["kind"]) for line in manifest_of(data)]
    assert kinds == [("log", "file"), ("log", "missed"), ("other", "file")]
    assert saver.missed == 1


def test_pipes_and_sockets_are_left_out_and_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        data, saver = copy_of(tmp_path)
    assert [line["kind"] for line in manifest_of(data)] == ["missed", "missed"]
    assert saver.missed == 2


def test_a_tower_of_folders_is_cut_and_said(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(520):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    data, saver = copy_of(tmp_path)
    assert saver.missed == 1
    assert "folders deep" in manifest_of(data)[0]["why"]


def test_what_is_there_is_never_overwritten(volume: Path, tmp_path: Path) -> None:
    os.truncate(volume / "hole", 1 << 20)
    data, _ = copy_of(volume)
    back = tmp_path / "back"
    back.mkdir()
    (back / "twin").write_text("newer")
    bring_back(data, back)
    assert (back / "twin").read_text() == "newer"
    first = back / "restored-ocean.team.7"
    assert tree_of(first) == tree_of(volume)
    (first / "twin").write_text("worked on")  # and somebody asks for the same once more
    sha256 = hashlib.sha256(data).hexdigest()
    with pytest.raises((ArchiveError, tarfile.TarError)):
        unpack(io.BytesIO(data[:-1]), str(back), name="ocean.team.7", sha256=sha256)
    bring_back(data, back)
    assert (first / "twin").read_text() == "worked on"
    assert tree_of(back / "restored-ocean.team.7-2") == tree_of(volume), "the cut-off one, whole"
    assert sorted(os.listdir(back)) == ["restored-ocean.team.7", "restored-ocean.team.7-2", "twin"]


def test_a_restore_that_was_cut_off_is_done_again_in_its_place(
    volume: Path, tmp_path: Path
) -> None:
    os.truncate(volume / "hole", 1 << 20)
    data, _ = copy_of(volume)
    back = tmp_path / "back"
    back.mkdir()
    sha256 = hashlib.sha256(data).hexdigest()
    for cut in (100, 5000, len(data) // 2, len(data) - 1):
        with pytest.raises((ArchiveError, tarfile.TarError)):
            unpack(io.BytesIO(data[:cut]), str(back), name="ocean.team.7", sha256=sha256)
    bring_back(data, back)
    assert tree_of(back) == tree_of(volume)


def evil(*members: tuple[str, bytes, str], content: bytes = b"evil") -> bytes:
    """A copy that nobody of ours made."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o700
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


REG, SYM, LNK, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    "members",
    [
        [("volume/../escaped", REG, "")],
        [("/escaped", REG, "")],
        [("volume//escaped", REG, "")],
        [("volume/./escaped", REG, "")],
        [("elsewhere/escaped", REG, "")],
        [("volume", REG, "")],
        [("volume/link", SYM, ".."), ("volume/link/escaped", REG, "")],
        [("volume/link", SYM, "{outside}"), ("volume/link/escaped", REG, "")],
        [("volume/link", SYM, "{outside}"), ("volume/link", DIR, "")],
        [("volume/hard", LNK, "{outside}/secret")],
        [("volume/hard", LNK, "volume/../secret")],
        [("volume/link", SYM, "{outside}/secret"), ("volume/hard", LNK, "volume/link")],
        [("volume/device", tarfile.CHRTYPE, "")],
        [("volume/disk", tarfile.BLKTYPE, "")],
        [("volume/pipe", tarfile.FIFOTYPE, "")],
    ],
)
def test_a_hostile_copy_is_refused_and_leaves_its_folder_alone(
    members: list[tuple[str, bytes, str]], tmp_path: Path
) -> None:
    outside, back = tmp_path / "outside", tmp_path / "back"
    outside.mkdir(), back.mkdir()
    (outside / "secret").write_text("secret")
    data = evil(*((n, k, link.format(outside=outside)) for n, k, link in members))
    with pytest.raises(ArchiveError) as refused:
        bring_back(data, back)
    assert refused.value.code == NEVER
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "outside"]
    assert [p.name for p in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"


def test_a_link_that_was_in_place_before_is_not_followed(tmp_path: Path) -> None:
    outside, back = tmp_path / "outside", tmp_path / "back"
    outside.mkdir(), back.mkdir()
    (back / ".collab-restore-ocean.team.7").touch()  # so that it unpacks right there
    (back / "a").symlink_to(outside)
    with pytest.raises(ArchiveError, match="link"):
        bring_back(evil(("volume/a/b", REG, "")), back)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("what", ["content", "manifest", "missing"])
def test_a_changed_copy_is_noticed(what: str, tmp_path: Path) -> None:
    folder, back = tmp_path / "v", tmp_path / "back"
    folder.mkdir(), back.mkdir()
    (folder / "file").write_bytes(b"the-content")
    data, _ = copy_of(folder)
    sha256 = hashlib.sha256(b"the-content").hexdigest().encode()
    change: dict[str, Callable[[bytes], bytes]] = {
        "content": lambda d: d.replace(b"the-content", b"not-content"),
        "manifest": lambda d: d.replace(sha256, b"0" * 64),
        "missing": lambda d: d.replace(b'"path": "file"', b'"path": "fila"'),
    }
    changed = change[what](data)
    assert changed != data
    with pytest.raises(ArchiveError, match="manifest"):
        bring_back(changed, back)
    with pytest.raises(ArchiveError):
        unpack(io.BytesIO(changed), str(back), name="a", sha256=hashlib.sha256(data).hexdigest())


def test_the_checksum_of_the_whole_counts(tmp_path: Path) -> None:
    folder, back = tmp_path / "v", tmp_path / "back"
    folder.mkdir(), back.mkdir()
    data, _ = copy_of(folder)
    with pytest.raises(ArchiveError, match="checksum"):
        unpack(io.BytesIO(data + b"\0"), str(back), name="a", sha256="0" * 64)
