"""Level `api`: the control plane on loopback, for anybody, on any system that has the programs."""

from __future__ import annotations

import dataclasses
import datetime
import time
from pathlib import Path
from typing import Final

from tests.cluster.api_client import ApiClient
from tests.cluster.control_plane import ControlPlane, Endpoints, free_ports, prepare
from tests.cluster.record import Record, write_record
from tests.cluster.supervisor import Supervisor

#: Services of a cluster without pods get addresses that nothing routes.
API_LEVEL_SERVICE_RANGE: Final = "10.96.0.0/16"
#: Much more than a start takes (4 s): a busy machine may be ten times slower.
START_TIMEOUT_S: Final = 90.0
DEFAULT_SERVICE_ACCOUNT: Final = "/api/v1/namespaces/default/serviceaccounts/default"


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
        # envtest's folder (KUBEBUILDER_ASSETS) has no controllers and no scheduler.
        if Path(program.argv[0]).exists():
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
        if (binaries / "kube-controller-manager").exists():
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
