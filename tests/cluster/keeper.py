"""The process that starts one cluster, keeps it running, and ends with it.

Started by `tests.cluster.lifecycle`, never by hand. A tied keeper holds its standard input, a
pipe from whoever wants the cluster, and takes the cluster down when that pipe closes: a killed
test run leaves nothing. A detached one runs until it gets a signal.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.cluster.api_level import keep_api_level
from tests.cluster.errors import ClusterError
from tests.cluster.node_level import keep_node_level
from tests.cluster.record import Level, Record, read_start_time, write_record


def main(arguments: list[str] | None = None) -> int:
    """Run the keeper; exit code 1 and one message if the cluster cannot be started."""
    parser = argparse.ArgumentParser(prog="tests.cluster.keeper")
    parser.add_argument("directory", type=Path)
    parser.add_argument("binaries", type=Path)
    parser.add_argument("--level", type=Level, required=True)
    parser.add_argument("--store", type=Path, help="images for a node")
    parser.add_argument("--tied", action="store_true")
    options = parser.parse_args(arguments)
    pid = os.getpid()
    record = Record(options.level, keeper=pid, keeper_started=read_start_time(pid))
    write_record(options.directory, record)
    try:
        if options.level is Level.API:
            keep_api_level(options.directory, options.binaries, record, is_tied=options.tied)
        else:
            keep_node_level(
                options.directory,
                options.binaries,
                options.store,
                record,
                is_tied=options.tied,
            )
    except ClusterError as error:
        print(f"error: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
