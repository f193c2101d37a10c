"""The hub's one connection to the cluster, shared by all spawners.

Holds the client, the two watches, and the **leavings**: pods that had to go while the API server
did not answer. Each is kept (in the spawner's state too, so that a restart of the hub forgets none)
until it is gone: JupyterHub itself calls `stop` once, and never again if that fails.

Nothing here raises at the user; spawners do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from .. import constants
from ..errors import RetryableError
from ..kube.client import KubeClient
from ..kube.errors import ConflictError, NotFoundError, PermanentKubeError
from ..kube.kinds import POD
from ..tenancy_factory import make_kube_client
from ..timeouts import TIMED_OUT, timeout
from .reflector import EventFeed, PodCache, PodView

log = logging.getLogger(__name__)

T = TypeVar("T")

LEAVINGS_KEY: Final = "collab_leavings"  # of a spawner's state

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
# A create whose answer was lost may still be carried out: the API server ends a request after a
# minute (its --request-timeout).
_REQUEST_LIFE_S: Final = 65.0


@dataclass(frozen=True)
class Leaving:
    """A pod that has to go: this very one, not a later one of the same name.

    Attributes
    ----------
    server_id
        The start it belongs to; tells it from others while its uid is not known.
    uid
        Empty: it was asked for and no answer came.
    """

    namespace: str
    name: str
    server_id: str
    uid: str

    @classmethod
    def from_state(cls, raw: object) -> Leaving | None:
        """From a spawner's state; None when it cannot be understood."""
        if not isinstance(raw, Mapping):
            return None
        fields = [raw.get(key) for key in ("namespace", "name", "server_id", "uid")]
        texts = [field for field in fields if isinstance(field, str)]
        if len(texts) < len(fields) or not (texts[0] and texts[1] and (texts[2] or texts[3])):
            return None
        return cls(*texts)

    def to_state(self) -> dict[str, str]:
        """For a spawner's state."""
        return asdict(self)


def leavings_in(state: Mapping[str, Any] | None) -> list[Leaving]:
    """What a spawner's state says has to go."""
    raw = (state or {}).get(LEAVINGS_KEY)
    found = [Leaving.from_state(item) for item in raw] if isinstance(raw, list) else []
    return [leaving for leaving in found if leaving is not None]


class ClusterLink:
    """Client, watches and leavings. One for a process and event loop: `open_link`."""

    def __init__(self, client: KubeClient, *, hub_id: str) -> None:
        self.client = client
        self.pods = PodCache(client, hub_id=hub_id)
        self.events = EventFeed(client)
        self.is_swept = False  # somebody takes up what an earlier process left to delete
        self._leavings: dict[Leaving, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self) -> None:
        """Begin to watch."""
        self.keep(self.pods.run(), name="watch pods")
        self.keep(self.events.run(), name="watch events")

    def keep(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run something for as long as the link is open. The log says so if an error ends it."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_log_error)
        self._tasks.append(task)

    async def close(self) -> None:
        """End the watches; what has to go and is not gone yet stays in the spawners' state."""
        tasks = [*self._tasks, *self._leavings.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks, self._leavings = [], {}

    async def wait_synced(self, *, timeout_s: float) -> bool:
        """Whether the pods are known, waiting so many seconds at most."""
        try:
            async with timeout(timeout_s):
                await self.pods.synced.wait()
        except TIMED_OUT:
            return False
        return True

    def see_off(self, leaving: Leaving) -> asyncio.Task[None]:
        """Delete a pod, for as long as it takes. Asking twice is asking once."""
        task = self._leavings.get(leaving)
        if task is None:
            task = asyncio.create_task(self._see_off(leaving), name=f"delete {leaving.name}")
            self._leavings[leaving] = task
            task.add_done_callback(lambda _: self._leavings.pop(leaving, None))
        return task

    async def _see_off(self, leaving: Leaving) -> None:
        loop = asyncio.get_running_loop()
        pause_s, uid, began = _FIRST_PAUSE_S, leaving.uid, loop.time()
        while True:
            try:
                uid = uid or await self._uid_of(leaving)
                if not uid:
                    return  # it was never made
                await self.client.delete(POD, leaving.name, namespace=leaving.namespace, uid=uid)
                break
            except (NotFoundError, ConflictError):
                return  # gone, or another pod of that name by now
            except PermanentKubeError as error:
                # Such as 403 for ever, when the namespace went with the hub's rights in it.
                is_old = bool(uid) or loop.time() - began > _REQUEST_LIFE_S
                if is_old and self.pods.synced.is_set() and self._seen(leaving) is None:
                    return
                log.error("Pod %s cannot be deleted: %s", leaving.name, error)
                pause_s = _LONGEST_PAUSE_S * 6
            except RetryableError as error:
                log.warning("Pod %s cannot be deleted yet: %s", leaving.name, error)
                pause_s = max(min(pause_s * 2, _LONGEST_PAUSE_S), error.retry_after_s or 0)
            await asyncio.sleep(pause_s)
        while True:
            try:
                await self.pods.wait_for(
                    leaving.namespace,
                    leaving.name,
                    lambda view: view is None or view.uid != uid,
                    timeout_s=3600,
                )
            except TimeoutError:
                log.warning("Pod %s was deleted and does not go", leaving.name)
                continue
            return

    async def _uid_of(self, leaving: Leaving) -> str:
        """Uid of a pod of which only the start is known; empty once it cannot come any more.

        That there is none proves nothing at first: its create may still be under way.
        """
        with contextlib.suppress(NotFoundError):
            pod = await self.client.get(POD, leaving.name, leaving.namespace)
            annotations = pod["metadata"].get("annotations") or {}
            if annotations.get(constants.ANNOTATION_SERVER_ID) == leaving.server_id:
                return str(pod["metadata"]["uid"])
        try:
            view = await self.pods.wait_for(
                leaving.namespace,
                leaving.name,
                lambda _: self._seen(leaving) is not None,
                timeout_s=_REQUEST_LIFE_S,
            )
        except TimeoutError:
            return ""
        return "" if view is None else view.uid

    def _seen(self, leaving: Leaving) -> PodView | None:
        """The very pod, as far as the watch knows."""
        view = self.pods.get(leaving.namespace, leaving.name)
        if view is None:
            return None
        same = view.uid == leaving.uid if leaving.uid else view.server_id == leaving.server_id
        return view if same else None


def _log_error(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("%r ended, and stays so until the hub restarts", task.get_name(), exc_info=error)


async def create(client: KubeClient, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Create an object; None when there is one of that name already.

    Any other conflict is the quota's own bookkeeping, and comes out: the same may do in a moment.
    """
    try:
        return await client.create(manifest)
    except ConflictError as error:
        if error.reason != "AlreadyExists":
            raise
        return None


async def retry(
    attempt: Callable[[], Awaitable[T]], *, for_s: float, log_name: str = "request"
) -> T:
    """Repeat what fails for the moment, for so many seconds; then let its error out."""
    loop = asyncio.get_running_loop()
    deadline, pause_s = loop.time() + for_s, _FIRST_PAUSE_S
    while True:
        try:
            return await attempt()
        except RetryableError as error:
            wait_s = max(pause_s, error.retry_after_s or 0)
            if loop.time() + wait_s > deadline:
                raise
            log.info("%s: trying again in %.1f s: %s", log_name, wait_s, error)
            await asyncio.sleep(wait_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


async def _open_client() -> KubeClient:
    """As KUBECONFIG says, else as the pod's service account, else as ~/.kube/config says."""
    path = os.environ.get("KUBECONFIG")
    if not path and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return await make_kube_client(None)
    return await make_kube_client(path or _HOME_KUBECONFIG)


_HOME_KUBECONFIG: Final = Path.home() / ".kube" / "config"
_links: dict[tuple[int, str], asyncio.Future[ClusterLink]] = {}


async def open_link(*, hub_id: str) -> ClusterLink:
    """The process's link, made at the first call. Ends with the event loop's tasks.

    Raises
    ------
    PermanentError
        No cluster is configured.
    """
    loop = asyncio.get_running_loop()
    key = (id(loop), hub_id)
    ready = _links.get(key)
    if ready is None or ready.cancelled() or (ready.done() and ready.exception() is not None):
        ready = _links[key] = loop.create_future()
        keeper = loop.create_task(_keep_link(hub_id, ready), name="cluster link")
        _keepers.add(keeper)  # the loop itself holds tasks weakly
        keeper.add_done_callback(lambda _: _links.pop(key, None))
        keeper.add_done_callback(_keepers.discard)
    return await asyncio.shield(ready)


_keepers: set[asyncio.Task[None]] = set()


async def _keep_link(hub_id: str, ready: asyncio.Future[ClusterLink]) -> None:
    """Owns the link until it is cancelled, as JupyterHub does with every task when it ends."""
    try:
        async with await _open_client() as client:
            link = ClusterLink(client, hub_id=hub_id)
            link.start()
            try:
                ready.set_result(link)
                await asyncio.Event().wait()
            finally:
                await link.close()
    except Exception as error:
        if ready.done():
            raise
        ready.set_exception(error)
