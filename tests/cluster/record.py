"""The file in which a cluster says what it is: written by its keeper, read by everybody else."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: In the cluster's folder. A folder without it is not ours, and is never deleted.
RECORD_FILE: Final = "cluster.json"


class Level(enum.Enum):
    """How much of a cluster stands."""

    API = "api"  #: etcd, API server, controllers, scheduler on loopback
    NODE = "node"  #: these and a node with containers, volumes and network policies


@dataclass(frozen=True)
class Record:
    """What a cluster says of itself.

    Attributes
    ----------
    keeper, keeper_started
        Process number of the keeper and its start time, so that a number used again by
        another process is not taken for it.
    host_address
        Address by which pods reach the host; 127.0.0.1 where there are no pods.
    index
        Which of the address plans a node uses; None at level `api`.
    init
        Process number, on the host, of process 1 of the node's namespaces.
    """

    level: Level
    keeper: int
    keeper_started: str
    is_ready: bool = False
    server: str = ""
    host_address: str = "127.0.0.1"
    index: int | None = None
    init: int | None = None

    def is_alive(self) -> bool:
        """Say whether the keeper runs."""
        return self.keeper_started != "" and read_start_time(self.keeper) == self.keeper_started


def read_start_time(pid: int) -> str:
    """Return a mark of when process `pid` started, empty if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        try:  # no /proc (macOS): the number alone has to do
            os.kill(pid, 0)
        except OSError:
            return ""
        return "alive"
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def write_record(directory: Path, record: Record) -> None:
    """Replace the record of the cluster in `directory` in one step."""
    data = dataclasses.asdict(record) | {"level": record.level.value}
    scratch = directory / f"{RECORD_FILE}.new"
    scratch.write_text(json.dumps(data, indent=2) + "\n")
    scratch.replace(directory / RECORD_FILE)


def read_record(directory: Path) -> Record | None:
    """Return the record of the cluster in `directory`, None if there is none."""
    try:
        data = json.loads((directory / RECORD_FILE).read_text())
    except (OSError, ValueError):
        return None
    return Record(**{**data, "level": Level(data["level"])})
