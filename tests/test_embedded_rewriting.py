"""What a pod's process sees in place of its own file system and network."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyterhub_collab.embedded.mounts import Rewriter
from jupyterhub_collab.embedded.node import pick_address

ROOT = "/d/pods/u/root"
REWRITE = Rewriter(
    Path(ROOT),
    ("/home/jovyan/team", "/home/jovyan", "/data"),
    "127.77.1.2",
    {"hub": "127.0.0.1", "egress.collab": "127.0.0.9"},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/jovyan", f"{ROOT}/home/jovyan"),
        ("/home/jovyan/", f"{ROOT}/home/jovyan/"),
        ("/home/jovyan/team/x", f"{ROOT}/home/jovyan/team/x"),
        ("--dir=/home/jovyan/a", f"--dir={ROOT}/home/jovyan/a"),
        ("/data:/data/b", f"{ROOT}/data:{ROOT}/data/b"),
        ("cd '/data'", f"cd '{ROOT}/data'"),
        # not on a component boundary, or not a path of the pod
        ("/home/jovyans", "/home/jovyans"),
        ("/data.csv", "/data.csv"),
        ("/data-2", "/data-2"),
        ("/mnt/data", "/mnt/data"),
        ("http://hub.example/data", "http://hub.example/data"),
        ("/user/home/jovyan", "/user/home/jovyan"),
    ],
)
def test_paths(text: str, expected: str) -> None:
    assert REWRITE(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0", "127.77.1.2"),
        ("--ip=0.0.0.0", "--ip=127.77.1.2"),
        ("--ip=", "--ip=127.77.1.2"),
        ("http://0.0.0.0:8888/user/a/", "http://127.77.1.2:8888/user/a/"),
        ("http://:8888/user/a/", "http://127.77.1.2:8888/user/a/"),
        ("http://[::]:8888/user/a/", "http://127.77.1.2:8888/user/a/"),
        ("10.0.0.0", "10.0.0.0"),
        ("0.0.0.0.1", "0.0.0.0.1"),
        ("http://127.0.0.1:8888", "http://127.0.0.1:8888"),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    assert REWRITE(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://hub:8081/hub/api", "http://127.0.0.1:8081/hub/api"),
        ("http://hub", "http://127.0.0.1"),
        ("http://user:pass@egress.collab:3128", "http://user:pass@127.0.0.9:3128"),
        ("localhost,hub,x", "localhost,127.0.0.1,x"),
        ("hub:8081", "127.0.0.1:8081"),
        ("http://hubs/hub/", "http://hubs/hub/"),
        ("http://my-hub/", "http://my-hub/"),
        ("/hub/api", "/hub/api"),
    ],
)
def test_host_names(text: str, expected: str) -> None:
    assert REWRITE(text) == expected


def test_addresses_are_a_pods_own() -> None:
    """The same for the same pod, never one that is taken, never a network's first or last."""
    used: set[str] = set()
    for number in range(2000):
        address = pick_address(f"uid-{number}", used)
        assert address not in used
        assert address == pick_address(f"uid-{number}", used)
        assert 0 < int(address.rpartition(".")[2]) < 255
        used.add(address)
