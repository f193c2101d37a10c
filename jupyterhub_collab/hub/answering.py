"""The wait for a server's first answer: JupyterHub's own, with what it lacks put around it.

JupyterHub trusts what answers: it parses its headers, and may wait for minutes on a connection that
was taken and stays silent. What answers here is a member's, and so is the home it reads: neither
may make the hub exit. The wait is replaced on the server's object (`Server.wait_up`), for the one
wait that follows. Nothing is started or ended here.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import jupyterhub
from jupyterhub.utils import AnyTimeoutError

from ..timeouts import timeout
from .endings import to_last_words
from .listening import until_listening
from .reflector import PodCache, PodView
from .refusals import SpawnRefusedError

if TYPE_CHECKING:
    from .spawner import TeamSpawner

# In place of a server's own headers: they are the member's to choose, and a version that cannot be
# parsed would count as a failed start, or end the hub while it starts.
ANSWER: Final = SimpleNamespace(headers={"X-JupyterHub-Version": jupyterhub.__version__})


def distrust_answer(spawner: TeamSpawner, *, is_patient: bool = False) -> None:
    """Keep the server's headers from JupyterHub. `is_patient`: no answer is not death, either."""
    wait_up = spawner.server.wait_up

    async def without_headers(*args: Any, **kwargs: Any) -> Any:
        # JupyterHub's own wait may last for minutes where a connection is taken and silent.
        limit_s = spawner.http_timeout if is_patient else None
        try:
            async with timeout(limit_s):
                await wait_up(*args, **kwargs)
        except AnyTimeoutError:
            if not is_patient or await spawner.poll() is not None:
                raise
            spawner.log.warning("%s does not answer; its pod runs and stays", spawner._log_name)
        return ANSWER

    spawner.server.wait_up = without_headers


def guard_first_answer(spawner: TeamSpawner, pods: PodCache) -> None:
    """Have a server that never answers be a refusal, and one that ends be noticed at once.

    What is in a member's home can keep their server from answering; five such starts must not make
    the hub exit. JupyterHub's own wait does not keep to http_timeout, nor does it see a pod end.
    """
    distrust_answer(spawner)
    wait_up = spawner.server.wait_up

    async def ask(*args: Any, **kwargs: Any) -> Any:
        await until_listening(spawner.server.ip, spawner.server.port)
        return await wait_up(*args, **kwargs)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        answer = asyncio.ensure_future(ask(*args, **kwargs))
        end = asyncio.ensure_future(_wait_for_end(spawner, pods))
        try:
            await asyncio.wait({answer, end}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise end.result()
        except SpawnRefusedError:
            raise
        except Exception as e:  # whatever a member's server can make JupyterHub's wait raise
            raise _no_answer(spawner.http_timeout, type(e).__name__) from e
        finally:
            for future in (answer, end):
                future.cancel()

    spawner.server.wait_up = guarded


async def _wait_for_end(spawner: TeamSpawner, pods: PodCache) -> SpawnRefusedError:
    """Why the server will not answer any more, once that is known; that it is late, in the end."""

    def is_over(view: PodView | None) -> bool:
        own = spawner.own(view)
        return own is None or own.is_dead

    timeout_s = spawner.http_timeout
    try:
        view = await pods.wait_for(
            spawner.namespace, spawner.pod_name, is_over, timeout_s=timeout_s
        )
    except TimeoutError:
        return _no_answer(timeout_s, "timeout")
    text = "Your server was removed while it started." if view is None else to_last_words(view)
    return SpawnRefusedError(text, reason="exited", status_code=502)


def _no_answer(timeout_s: float, detail: str) -> SpawnRefusedError:
    return SpawnRefusedError(
        f"Your server runs but did not answer within {timeout_s} seconds. If that"
        " happens again, something in your home folder may keep it from starting (.jupyter,"
        " .local).",
        reason="no-answer",
        status_code=504,
        detail=detail,
    )
