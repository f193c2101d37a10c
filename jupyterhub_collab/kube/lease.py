"""One at a time: a Kubernetes Lease that a process holds while it works.

The holder renews it; whoever finds it not renewed for its whole duration, by its own clock, takes
it. An orderly end gives it back at once. A holder on the same machine that is known to be dead is
not waited for. Clocks of different machines are never compared.

Notes
-----
https://kubernetes.io/docs/concepts/architecture/leases/
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from pathlib import Path

from ..errors import CollabError
from ..timeouts import TIMED_OUT, timeout
from . import kinds
from .client import KubeClient, Manifest
from .errors import ConflictError, NotFoundError

log = logging.getLogger(__name__)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _start_of(pid: str) -> str:
    """When a process of this machine began, in clock ticks; empty when there is none."""
    stat = _read(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if ")" in stat else ""


def _world() -> str:
    """This boot and process id space: within it, process ids mean something."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    boot = _read("/proc/sys/kernel/random/boot_id")
    return f"{boot}/{space}" if boot and space else ""


def make_identity() -> str:
    """Name of this process among all that ever hold the lease."""
    pid = str(os.getpid())
    world = _world()
    return f"{world}/{pid}/{_start_of(pid)}" if world else str(uuid.uuid4())


def is_dead(identity: str) -> bool:
    """Whether that holder was on this machine and its process is certainly gone."""
    world, _, rest = identity.rpartition("]/")
    pid, _, start = rest.partition("/")
    if not world or world + "]" != _world() or not pid.isdecimal():
        return False
    return _start_of(pid) != start


class Lease:
    """One lease.

    Parameters
    ----------
    duration_s
        Seconds after which a holder that does not renew loses it. Renewed every third of it.
    """

    def __init__(
        self,
        client: KubeClient,
        name: str,
        namespace: str,
        *,
        identity: str | None = None,
        duration_s: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client, self._name, self._namespace = client, name, namespace
        self.identity = identity or make_identity()
        self._duration_s, self._clock, self._sleep = duration_s, clock, sleep
        self._seen: tuple[str, float] = ("", 0.0)  # version of another's lease, since when
        self.held = False
        self.holder = ""  # who had it when we last looked
        self.last_error = ""

    async def acquire(self) -> None:
        """Wait until it is ours."""
        pause = min(2.0, self._duration_s / 6)
        while not await self._try():
            await self._sleep(pause)

    async def hold(self) -> None:
        """Renew until it is lost: another has it, or it could not be renewed in time."""
        renewed = self._clock()
        while True:
            await self._sleep(self._duration_s / 3)
            began = self._clock()
            if await self._try_in_time():
                renewed = began
            elif self.holder not in ("", self.identity):
                log.error("Another process took the lease %s: %s", self._name, self.holder)
                break
            elif self._clock() - renewed >= self._duration_s * 2 / 3:
                log.error("The lease %s could not be renewed in time", self._name)
                break
        self.held = False

    async def release(self) -> None:
        """Give it back; the next one need not wait."""
        if not self.held:
            return
        self.held = False
        try:
            lease = await self._client.get(kinds.LEASE, self._name, self._namespace)
            if lease.get("spec", {}).get("holderIdentity") == self.identity:
                await self._write(lease, holder="")
        except CollabError as error:
            log.info("The lease %s was not given back: %s", self._name, error)

    async def _try_in_time(self) -> bool:
        """As `_try`, but an answer that would come too late is none."""
        try:
            async with timeout(self._duration_s / 3):
                return await self._try()
        except TIMED_OUT:
            return False

    async def _try(self) -> bool:
        """Take or renew it; False when another holds it or nobody answers."""
        try:
            taken = await self._attempt()
        except ConflictError:
            taken = False  # somebody was faster
        except CollabError as error:
            self.last_error = str(error)
            log.warning("Cannot take the lease %s: %s", self._name, error)
            return False  # still ours perhaps; `hold` looks at the time
        else:
            self.last_error = ""
        self.held = self.held or taken
        return taken

    async def _attempt(self) -> bool:
        try:
            lease = await self._client.get(kinds.LEASE, self._name, self._namespace)
        except NotFoundError:
            await self._client.create(self._manifest())
            self.holder = self.identity
            return True
        self.holder = lease.get("spec", {}).get("holderIdentity") or ""
        if self.holder not in ("", self.identity) and not self._is_stale(lease):
            return False
        await self._write(lease, holder=self.identity)
        self.holder = self.identity
        return True

    def _is_stale(self, lease: Manifest) -> bool:
        if is_dead(self.holder):
            return True
        version, now = lease["metadata"]["resourceVersion"], self._clock()
        if self._seen[0] != version:
            self._seen = (version, now)
        return now - self._seen[1] > self._duration_s

    def _spec(self, holder: str) -> Manifest:
        now = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(self._duration_s)),
            "renewTime": now.replace("+00:00", "Z"),
        }

    def _manifest(self) -> Manifest:
        return {
            "apiVersion": kinds.LEASE.api_version,
            "kind": kinds.LEASE.name,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._spec(self.identity),
        }

    async def _write(self, lease: Manifest, *, holder: str) -> None:
        version = lease["metadata"]["resourceVersion"]
        await self._client.patch(
            kinds.LEASE,
            self._name,
            {"metadata": {"resourceVersion": version}, "spec": self._spec(holder)},
            namespace=self._namespace,
        )
