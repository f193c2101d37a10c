"""The node's agent: network policies into the kernel, folders for volumes.

Runs in the node's namespaces. Between its end and its next start the rules in force stay in
force, and pods that came meanwhile stay closed.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.cluster import conntrack, netpol, nftables
from tests.cluster.address_plan import AddressPlan
from tests.cluster.errors import ClusterError
from tests.cluster.volumes import VolumeAgent
from tests.cluster.watch import RETRY_S, Api

POLICIES: Final = "/apis/networking.k8s.io/v1/networkpolicies"
NAMESPACES: Final = "/api/v1/namespaces"
PODS: Final = "/api/v1/pods"


class PolicyAgent:
    """Brings the kernel's rules in line with policies, pods and namespaces at every change."""

    def __init__(self, api: Api, plan: AddressPlan) -> None:
        self._api, self._plan = api, plan
        self._policies: dict[str, Any] = {}
        self._pods: dict[str, Any] = {}
        self._namespaces: dict[str, Any] = {}
        self._dirty = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        keep, changed = self._api.keep, self._dirty.set
        await asyncio.gather(
            keep(POLICIES, self._policies, changed),
            keep(NAMESPACES, self._namespaces, changed),
            keep(PODS, self._pods, changed),
            self._serve(),
        )

    async def _has_read(self, *more: tuple[str, dict[str, Any]]) -> bool:
        """Read policies, namespaces and more besides the watches; False if nobody answers."""
        try:
            for path, objects in (
                (POLICIES, self._policies),
                (NAMESPACES, self._namespaces),
                *more,
            ):
                await self._api.add_listed(path, objects)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            print(f"{error!r}; reading again", flush=True)
            await asyncio.sleep(RETRY_S)
            return False
        return True

    def _compute(self) -> netpol.Rules:
        return netpol.compute(
            self._policies.values(), self._pods.values(), self._namespaces.values()
        )

    async def _serve(self) -> None:
        in_force = ""
        cutting: asyncio.Task[int] | None = None
        known: set[IPv4Address] = set()
        pod_range, node_address = self._plan.pod_range, self._plan.node_address
        # Before all is known, pods that run would be taken for unknown ones and be cut off.
        while not await self._has_read((PODS, self._pods)):
            pass
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            rules = self._compute()
            if rules.pods.keys() - known:
                # A pod is opened only by policies that were read after it was seen: its own
                # may still be on their way in another watch.
                if not await self._has_read():
                    self._dirty.set()
                    continue
                rules = self._compute()
            known = set(rules.pods)
            ruleset = netpol.render(rules, pod_range=pod_range)
            if ruleset == in_force:
                continue
            try:
                await asyncio.to_thread(nftables.load, ruleset)
            except ClusterError as error:
                print(f"{error}\n{ruleset}", flush=True)
                self._dirty.set()
                await asyncio.sleep(RETRY_S)
                continue
            in_force = ruleset
            # New connections obey already; the open ones follow, without holding up the next
            # change.
            if cutting is not None:
                await cutting
            cutting = asyncio.create_task(
                asyncio.to_thread(
                    conntrack.cut_denied, rules, pod_range=pod_range, node_address=node_address
                )
            )


def make_context(directory: Path) -> ssl.SSLContext:
    """Return the TLS settings of the administrator, from the cluster's folder."""
    certificates = directory / "certificates"
    context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    context.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")
    return context


async def serve(directory: Path, plan: AddressPlan) -> None:
    """Run both agents; the end of either ends the process, which is then started again."""
    kubeconfig = json.loads((directory / "kubeconfig").read_text())
    server = kubeconfig["clusters"][0]["cluster"]["server"]
    api = Api(server, make_context(directory))
    try:
        await asyncio.gather(
            PolicyAgent(api, plan).run(), VolumeAgent(api, directory / "volumes").run()
        )
    finally:
        await api.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), AddressPlan(int(sys.argv[2]))))
