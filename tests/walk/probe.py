"""Runs in a JupyterLab terminal of a pod: what can this process see and reach.

Standard library alone; reads ``targets.json``, writes ``found.json`` beside itself.
"""

import http.client
import json
import os
import socket
import stat
from pathlib import Path

TIMEOUT_S = 2.0


def connect(host: str, port: int) -> str:
    """``open``, or why not."""
    try:
        with socket.create_connection((host, port), TIMEOUT_S):
            return "open"
    except OSError as e:
        return type(e).__name__ if e.errno is None else os.strerror(e.errno)


def read_status() -> dict[str, str]:
    """What the kernel says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: fields[name].strip() for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}


def find_files(name: str) -> list[str]:
    """Every file of that name in the whole file system, other people's processes included."""
    found = []
    for root, folders, files in os.walk("/"):
        if root == "/":
            folders[:] = [f for f in folders if f not in ("sys", "proc")]
        if name in files:
            found.append(f"{root}/{name}")
    return found


def read_memory_limit() -> int:
    """Bytes, by cgroup v2 or v1."""
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup", file)
        if path.exists():
            return int(path.read_text())
    return -1


def main() -> None:
    here = Path(__file__).resolve().parent
    targets = json.loads((here / "targets.json").read_text())
    found = {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "status": read_status(),
        "reach": {name: connect(host, port) for name, (host, port) in targets["reach"].items()},
        "resolves": {name: resolves(name) for name in targets["names"]},
        "login_page": read_login_page(*targets["login_page"]),
        "files": find_files(targets["file"]),
        "service_account": os.path.lexists("/var/run/secrets/kubernetes.io"),
        "memory_limit_bytes": read_memory_limit(),
        "devices": [f for f in os.listdir("/dev") if is_disk(f"/dev/{f}")],
        "data_is_writable": os.access(here / "data" / targets["dataset"], os.W_OK),
    }
    fresh = here / "found.json.new"
    fresh.write_text(json.dumps(found, indent=1))
    fresh.rename(here / "found.json")


def resolves(name: str) -> bool:
    try:
        return bool(socket.getaddrinfo(name, 443))
    except OSError:
        return False


def read_login_page(host: str, port: int, name: str) -> str:
    """The hub's login page, asked for under its public name, with a header that lies."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.request("GET", "/hub/login", headers={"Host": name, "X-Forwarded-For": "127.0.0.1"})
    return connection.getresponse().read().decode()


def is_disk(path: str) -> bool:
    return stat.S_ISBLK(os.lstat(path).st_mode)


main()
