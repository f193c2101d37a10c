"""The data folder: everything `up` keeps, and how it knows that the folder is whole.

What: paths, secrets (mode 0600), the ports of the inner programs.
Why: one folder to back up, move or delete. It is whole once ``collab.json`` is in it, which is
written last and in one step; until then ``.preparing`` says that a first start is under way.
It must not: touch a folder that holds somebody else's files, or make a lost secret anew beside a
database that was written with the old one.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from .lease import Lease, LeaseHeldError
from .ports import find_free_port, is_port_free

FORMAT = 1
_MARKER = "collab.json"
_PREPARING = ".preparing"
_LOCK = "up.lock"
TOKENS = ("proxy", "provisioner", "spawner", "contests")
AUDIT_TOKENS = ("audit", "audit-hub", "audit-provisioner")
CONTESTS_TOKENS = ("contest-host", "audit-contests")
_PARTS = (  # services that came later: tokens and folders of each
    ("audit", AUDIT_TOKENS, ("audit", "audit-anchor", "audit-spool")),
    ("registry", CONTESTS_TOKENS, ("registry",)),
)
_FOLDERS = ("secrets", "hub", "cluster", "datasets", "contests", "logs", "run", "leases")


@dataclass(frozen=True)
class DataFolder:
    """Where things lie. Makes nothing by itself; `open_data_folder` does."""

    root: Path

    @property
    def hub(self) -> Path:
        """The hub's database and cookie secret."""
        return self.root / "hub"

    @property
    def cluster(self) -> Path:
        """All of the embedded cluster: objects, volumes, servers' files and logs."""
        return self.root / "cluster"

    @property
    def datasets(self) -> Path:
        """A folder for each data set."""
        return self.root / "datasets"

    @property
    def contests(self) -> Path:
        """The contest manifests that every start applies."""
        return self.root / "contests"

    @property
    def logs(self) -> Path:
        """A log for each program."""
        return self.root / "logs"

    @property
    def audit(self) -> Path:
        """The audit log, and what its service keeps besides."""
        return self.root / "audit"

    @property
    def audit_anchor(self) -> Path:
        """Where the audit log's checkpoints go; on another volume, where it counts."""
        return self.root / "audit-anchor"

    @property
    def registry(self) -> Path:
        """The contests service's database, and archives of volumes."""
        return self.root / "registry"

    def audit_spool(self, name: str) -> Path:
        """Where a program keeps audit events until the service has them."""
        return self.root / "audit-spool" / name

    @property
    def settings(self) -> Path:
        """What the hub's configuration reads; written at every start."""
        return self.root / "run" / "settings.json"

    @property
    def platform(self) -> Path:
        """The platform that spawner and provisioner share; written at every start."""
        return self.root / "run" / "platform.json"

    @property
    def accounts(self) -> Path:
        """Names and passwords of the demo accounts; the hub writes it."""
        return self.root / "demo-accounts.json"

    def lease(self, name: str) -> Path:
        """Lock file of one program."""
        return self.root / "leases" / f"{name}.lock"

    def secret(self, name: str) -> Path:
        """File of one token or key."""
        return self.root / "secrets" / name

    def read_token(self, name: str) -> str:
        """One of `TOKENS`, `AUDIT_TOKENS` or `CONTESTS_TOKENS`."""
        return self.secret(f"{name}-token").read_text().strip()


@dataclass(frozen=True)
class OpenFolder:
    """A data folder that is whole and ours alone.

    Attributes
    ----------
    notes
        What a person may want to know of its state, one sentence each.
    """

    folder: DataFolder
    lease: Lease
    notes: tuple[str, ...]


def open_data_folder(root: Path) -> OpenFolder:
    """Take the folder's lease and make it whole.

    Raises
    ------
    UserError
        One sentence: it is in use, not ours, incomplete, newer than this program, or cannot be
        written.
    """
    folder = DataFolder(root.expanduser().absolute())
    try:
        return _open(folder)
    except OSError as e:
        raise UserError(
            f"The data folder {folder.root} cannot be used ({e.strerror}); "
            "choose another with --data."
        ) from e


def _open(folder: DataFolder) -> OpenFolder:
    folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    foreign = sorted(p.name for p in folder.root.iterdir() if p.name != _LOCK)
    is_whole = (folder.root / _MARKER).exists()
    is_begun = (folder.root / _PREPARING).exists()
    if foreign and not is_whole and not is_begun:
        raise UserError(
            f"The folder {folder.root} holds other files ({', '.join(foreign[:3])}); "
            "choose an empty or new one with --data."
        )
    lease = Lease(folder.root / _LOCK)
    try:
        crashed = lease.take("up")
    except LeaseHeldError as e:
        who = f"process {e.holder.pid}" if e.holder else "another process"
        end = f"kill {e.holder.pid}" if e.holder else "Ctrl-C in its terminal"
        raise UserError(
            f"jupyterhub-collab already runs on {folder.root} as {who}; stop it with Ctrl-C "
            f"in its terminal or `{end}`, or choose another folder with --data."
        ) from e
    notes = []
    if crashed:
        notes.append(
            f"The last run (process {crashed.pid}) ended without an orderly stop; "
            "going on from what it left."
        )
    try:
        if is_whole:
            _check_whole(folder)
        else:
            if is_begun:
                notes.append("The first start in this folder was cut short; completing it.")
            _complete(folder)
    except BaseException:
        lease.release()
        raise
    return OpenFolder(folder=folder, lease=lease, notes=tuple(notes))


def _check_whole(folder: DataFolder) -> None:
    stored = _read_marker(folder)
    if stored.get("format") != FORMAT:
        raise UserError(
            f"The data folder {folder.root} was written in format {stored.get('format')!r} and "
            f"this version reads format {FORMAT}; use the version that wrote it, or another "
            "folder with --data."
        )
    wanted = [folder.secret(f"{name}-token") for name in TOKENS]
    wanted += [folder.root / name for name in _FOLDERS]
    for part, tokens, folders in _PARTS:
        if stored.get(part):
            wanted += [folder.secret(f"{name}-token") for name in tokens]
            wanted += [folder.root / name for name in folders]
        else:  # written before there was such a service
            _complete_part(folder, tokens, folders)
            stored[part] = True
            write_file(folder.root / _MARKER, json.dumps(stored) + "\n")
    missing = [str(path.relative_to(folder.root)) for path in wanted if not path.exists()]
    if missing:
        raise UserError(
            f"The data folder {folder.root} is incomplete ({', '.join(missing)} missing); restore "
            "it from a backup, or delete it and start anew."
        )


def _complete(folder: DataFolder) -> None:
    """First start, or what is left of one: each step may have been done before."""
    (folder.root / _PREPARING).touch()
    for name in _FOLDERS:
        (folder.root / name).mkdir(mode=0o700, exist_ok=True)
    for name in TOKENS:
        if not folder.secret(f"{name}-token").exists():
            write_file(folder.secret(f"{name}-token"), secrets.token_hex(32) + "\n")
    marker: dict[str, object] = {"format": FORMAT, "ports": {}}
    for part, tokens, folders in _PARTS:
        _complete_part(folder, tokens, folders)
        marker[part] = True
    write_file(folder.root / _MARKER, json.dumps(marker) + "\n")
    (folder.root / _PREPARING).unlink()


def _complete_part(folder: DataFolder, tokens: Iterable[str], folders: Iterable[str]) -> None:
    """What a service needs that came later; each step may have been done before."""
    for name in folders:
        (folder.root / name).mkdir(mode=0o700, exist_ok=True)
    for name in tokens:
        if not folder.secret(f"{name}-token").exists():
            write_file(folder.secret(f"{name}-token"), secrets.token_hex(32) + "\n")


def choose_ports(
    folder: DataFolder, wanted: Mapping[str, str], *, public_port: int
) -> dict[str, int]:
    """Ports of the inner programs: the same at every start unless one was taken meanwhile.

    Servers that outlive a crash know the hub by its port, so ports are kept where they can be.

    Parameters
    ----------
    wanted
        Program name -> address it listens on.
    """
    stored = _read_marker(folder)
    before = stored.get("ports")
    known: Mapping[str, object] = before if isinstance(before, dict) else {}
    chosen: dict[str, int] = {}
    for name, address in wanted.items():
        port = known.get(name)
        taken = frozenset({public_port, *chosen.values()})
        if not isinstance(port, int) or port in taken or not is_port_free(address, port):
            port = find_free_port(address, taken=taken)
        chosen[name] = port
    if chosen != known:
        stored["ports"] = chosen
        write_file(folder.root / _MARKER, json.dumps(stored) + "\n")
    return chosen


def _read_marker(folder: DataFolder) -> dict[str, object]:
    try:
        stored = json.loads((folder.root / _MARKER).read_text())
        if not isinstance(stored, dict):
            raise ValueError("not an object")
    except ValueError as e:
        raise UserError(
            f"The data folder {folder.root} is damaged ({_MARKER} cannot be read); restore it "
            "from a backup, or delete it and start anew."
        ) from e
    return stored


def write_file(path: Path, text: str) -> None:
    """Write a whole file in one step, readable by its owner only."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 by itself
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
