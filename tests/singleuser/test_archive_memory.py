"""A copy's size in files is nobody's memory; what keeps it so loses nothing."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyterhub_collab.singleuser import archive_packing, archive_unpacking
from jupyterhub_collab.singleuser.archive_packing import NEVER, ArchiveError, Saver
from jupyterhub_collab.singleuser.archive_unpacking import unpack
from tests.real_hub import ROOT
from tests.singleuser.archive_samples import tree_of

WORK = """
import hashlib, sys
from jupyterhub_collab.singleuser import archive_packing, archive_unpacking
# What is held of the manifest is bounded; small, so that it hides nothing that is not.
archive_packing.MANIFEST_ENTRIES = archive_unpacking.MANIFEST_ENTRIES = 40
from jupyterhub_collab.singleuser.archive_packing import Saver
from jupyterhub_collab.singleuser.archive_unpacking import unpack
what, folder, copy = sys.argv[1:]
if what == "save":
    with open(copy, "wb") as file:
        Saver(lambda data: file.write(data) and None).save(folder)
else:
    with open(copy, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest() if sys.version_info >= (3, 11) \\
            else hashlib.sha256(file.read()).hexdigest()
        file.seek(0)
        unpack(file, folder, name="a", sha256=sha256)
# Not ru_maxrss: what a process was before it became this program counts there.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak_kib(what: str, folder: Path, copy: Path) -> int:
    """Most memory that this takes, in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORK, what, str(folder), str(copy)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environ)
    return int(done.stdout)


def test_many_files_and_folders_take_no_more_memory_than_few(tmp_path: Path) -> None:
    peaks: dict[str, list[int]] = {"save": [], "restore": []}
    for count in (50, 3000):
        volume, back = tmp_path / f"v{count}", tmp_path / f"b{count}"
        volume.mkdir(), back.mkdir()
        for number in range(count):
            folder = volume / f"{number:06d}-{'f' * 200}"
            folder.mkdir()
            (folder / "x").write_bytes(b"%d" % number)
        peaks["save"].append(peak_kib("save", volume, tmp_path / "copy"))
        peaks["restore"].append(peak_kib("restore", back, tmp_path / "copy"))
        assert len(os.listdir(back)) == count
    for what, (few, many) in peaks.items():
        assert many < 1.2 * few, f"{what}: {few} KiB for 50, {many} KiB for 3000"


def copy_of(folder: Path) -> tuple[bytes, Saver]:
    out = io.BytesIO()
    saver = Saver(lambda data: out.write(data) and None)
    saver.save(str(folder))
    return out.getvalue(), saver


def bring_back(data: bytes, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    unpack(io.BytesIO(data), str(folder), name="a", sha256=hashlib.sha256(data).hexdigest())


def linked(folder: Path, count: int) -> Path:
    """Files with three names each, in folders."""
    for name in ("a", "b", "c"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        (folder / "a" / str(number)).write_text(f"file {number}")
        for name in ("b", "c"):
            os.link(folder / "a" / str(number), folder / name / str(number))
    return folder


def test_links_are_forgotten_once_all_were_met(tmp_path: Path) -> None:
    data, saver = copy_of(linked(tmp_path / "v", 20))
    assert saver._links == {}
    assert saver.files == 20
    bring_back(data, tmp_path / "b")
    assert {path.stat().st_nlink for path in (tmp_path / "b").rglob("*") if path.is_file()} == {3}


def test_beyond_what_is_remembered_a_file_is_copied_for_each_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_packing, "_LINKS_MAX", 2)
    volume = linked(tmp_path / "v", 5)
    data, saver = copy_of(volume)
    assert saver.files == 2 + 3 * 3
    bring_back(data, tmp_path / "b")
    assert tree_of(tmp_path / "b") == tree_of(volume)


def test_a_copy_without_its_manifest_is_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_unpacking, "MANIFEST_ENTRIES", 3)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(9):
            tar.addfile(tarfile.TarInfo(f"volume/{number}"))
    with pytest.raises(ArchiveError, match="does not name") as refused:
        bring_back(out.getvalue(), tmp_path / "b")
    assert refused.value.code == NEVER
    assert len(list((tmp_path / "b").glob("[0-9]"))) <= 4


def test_a_tower_of_folders_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_unpacking, "_DEPTH_MAX", 3)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for depth in range(1, 6):
            info = tarfile.TarInfo("volume/" + "/".join("d" * depth))
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
    with pytest.raises(ArchiveError, match="folders in folders"):
        bring_back(out.getvalue(), tmp_path / "b")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="collab-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_who_may_do_nothing_special_brings_closed_folders_back_and_does_so_again(
    open_folder: Path,
) -> None:
    """The pod is nobody special: a folder that nobody may enter is one to it, too."""
    volume = linked(open_folder / "v", 3)
    (volume / "d").mkdir()
    (volume / "d" / "inside").write_text("x")
    for name, mode in (("a", 0o070), ("b", 0o555), ("c", 0o300), ("d", 0o000)):
        os.utime(volume / name, ns=(1, 1_234_567_890_000_000_001))
        (volume / name).chmod(mode)
    if os.geteuid() != 0:
        pytest.skip("only root can copy these folders: not proved that others bring them back")
    data, _ = copy_of(volume)
    back = open_folder / "b"
    back.mkdir()
    back.chmod(0o777)
    child = os.fork()
    if child == 0:  # nothing but this: it never returns into the tests
        status = 1
        try:
            os.setgid(65534), os.setuid(65534)
            for cut in (len(data) // 2, len(data) - 1):
                try:
                    sha256 = hashlib.sha256(data).hexdigest()
                    unpack(io.BytesIO(data[:cut]), str(back), name="a", sha256=sha256)
                except (ArchiveError, tarfile.TarError):
                    status = 0
            bring_back(data, back)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            status = 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert tree_of(back) == tree_of(volume)
    assert stat.S_IMODE((back / "c").stat().st_mode) == 0o300
    assert (back / "a" / "1").stat().st_ino == (back / "c" / "1").stat().st_ino
