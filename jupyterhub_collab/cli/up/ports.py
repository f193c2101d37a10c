"""Ports: is one free, who has it, which is free instead."""

from __future__ import annotations

import contextlib
import os
import socket
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError


@dataclass(frozen=True)
class PortUser:
    """A process that listens on a port."""

    pid: int
    command: str


def is_port_free(address: str, port: int) -> bool:
    """Whether this machine's ``address`` can be listened on at ``port`` now."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        # As servers do: connections that are only waiting to be forgotten do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def find_free_port(address: str, *, taken: frozenset[int] = frozenset()) -> int:
    """A port that nothing listens on at ``address``, and that is not in ``taken``."""
    while True:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            probe.bind((address, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def check_port(address: str, port: int, *, option: str) -> None:
    """Raise UserError with one sentence when the port is taken.

    Parameters
    ----------
    option
        What the person can say to have another port, such as ``--port``.
    """
    if is_port_free(address, port):
        return
    if port < 1024 and os.geteuid() != 0:
        raise UserError(
            f"Port {port} needs root; choose one of 1024 and above with {option}, such as 8000."
        )
    user = find_port_user(port)
    who = f"{user.command} (process {user.pid})" if user else "another program"
    raise UserError(f"Port {port} is taken by {who}; stop it, or choose another with {option}.")


def find_port_user(port: int) -> PortUser | None:
    """Which process listens on a TCP port; None where that cannot be seen.

    Notes
    -----
    Linux only: /proc/net/tcp names the socket's inode, /proc/PID/fd who has it open. Of other
    people's processes only root sees the latter.
    """
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # LISTEN
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        if inodes & _read_open_files(process):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                command = Path(words[0].decode(errors="replace")).name or "a program"
                return PortUser(pid=int(process.name), command=command)
    return None


def _read_open_files(process: Path) -> set[str]:
    """What a process has open; nothing when it ended or is not ours to see."""
    links = set()
    with contextlib.suppress(OSError):
        for fd in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed since the listing
                links.add(os.readlink(fd))
    return links
