"""The process that starts one cluster, keeps it running, and ends with it.

Started by `tests.cluster.lifecycle`, never by hand. A tied keeper holds its standard input, a
pipe from whoever wants the cluster, and takes the cluster down when that pipe closes: a killed
test run leaves nothing. A detached one runs until it gets a signal.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import sys
import time
from pathlib import Path

from tests.cluster.api_client import ApiClient
from tests.cluster.control_plane import ControlPlane, Endpoints, free_ports, prepare
from tests.cluster.errors import ClusterError
from tests.cluster.record import Level, Record, read_start_time, write_record
from tests.cluster.supervisor import Supervisor

#: Services of a cluster without pods get addresses that nothing routes.
API_LEVEL_SERVICE_RANGE = "10.96.0.0/16"
#: Much more than a start takes (4 s): a busy machine may be ten times slower.
START_TIMEOUT_S = 90.0
DEFAULT_SERVICE_ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"


def start_control_plane(supervisor: Supervisor, plane: ControlPlane) -> ApiClient:
    """Start the programs of `plane` and return a client once the API is ready."""
    endpoints = plane.endpoints
    client = ApiClient(endpoints.server, plane.authority.certificate_file, plane.admin)
    for program in plane.first:
        supervisor.start(program)
    supervisor.wait_until(
        lambda: client.is_found("/readyz"), what="the API server", timeout_s=START_TIMEOUT_S
    )
    for program in plane.then:
        supervisor.start(program)
    return client


def keep_api_level(directory: Path, binaries: Path, record: Record, *, is_tied: bool) -> None:
    """Run the programs of level `api` until told to stop."""
    port, etcd_port, etcd_peer_port = free_ports(3)
    endpoints = Endpoints(
        "127.0.0.1", port, etcd_port, etcd_peer_port, service_range=API_LEVEL_SERVICE_RANGE
    )
    begun = time.monotonic()
    supervisor = Supervisor(directory)
    try:
        now = datetime.datetime.now(datetime.timezone.utc)
        plane = prepare(directory, binaries, endpoints, now=now)
        client = start_control_plane(supervisor, plane)
        # A pod made before its namespace has this account is refused.
        supervisor.wait_until(
            lambda: client.is_found(DEFAULT_SERVICE_ACCOUNT),
            what="the default service account",
            timeout_s=START_TIMEOUT_S,
        )
        print(f"ready after {time.monotonic() - begun:.1f} s", flush=True)
        write_record(directory, dataclasses.replace(record, is_ready=True, server=endpoints.server))
        supervisor.run(until_closed=0 if is_tied else None)
    finally:
        supervisor.kill_all()


def main(arguments: list[str] | None = None) -> int:
    """Run the keeper; exit code 1 and one message if the cluster cannot be started."""
    parser = argparse.ArgumentParser(prog="tests.cluster.keeper")
    parser.add_argument("directory", type=Path)
    parser.add_argument("binaries", type=Path)
    parser.add_argument("--level", type=Level, required=True)
    parser.add_argument("--tied", action="store_true")
    options = parser.parse_args(arguments)
    pid = os.getpid()
    record = Record(options.level, keeper=pid, keeper_started=read_start_time(pid))
    write_record(options.directory, record)
    try:
        keep_api_level(options.directory, options.binaries, record, is_tied=options.tied)
    except ClusterError as error:
        print(f"error: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
