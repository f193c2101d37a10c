"""A delivery that is cut off, as when the lease is lost, is made by the next run."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyterhub_collab.managers.tenancy_status import TeamStatus
from jupyterhub_collab.reconcile.conditions import State
from jupyterhub_collab.services.provisioner.webhook import Webhook
from tests.real_hub import find_free_port

STATUS = TeamStatus("ocean", "reef", "team-ocean", State.READY)
NAMESPACE = {"metadata": {"name": "team-ocean", "uid": "uid-1"}}


async def test_a_cancelled_delivery_is_offered_again() -> None:
    tries: asyncio.Queue[bool] = asyncio.Queue()

    async def sleep(_seconds: float) -> None:
        await asyncio.Event().wait()  # the portal is away: cut off while it waits

    kube: Any = None  # not reached: nobody listens
    webhook = Webhook(
        f"http://127.0.0.1:{find_free_port()}/hook",
        b"a-secret-of-at-least-16-bytes",
        kube,
        note=lambda _namespace: None,
        on_try=tries.put_nowait,
        sleep=sleep,
    )
    for _ in range(2):
        webhook.offer(STATUS, NAMESPACE)
        run = asyncio.create_task(webhook.run())
        assert not await asyncio.wait_for(tries.get(), 10)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
