"""The log's newest signed head, for programs that tell the log of something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timezone

import pytest

from jupyterhub_collab.auditapi.client import AuditClient, DeniedError, NoAnswerError
from tests.services.audit.running import GATEWAY, HUB, AuditService, batch, event


def client_of(service: AuditService, token: str) -> AuditClient:
    return AuditClient(service.url, token, now=lambda: datetime.now(timezone.utc))


async def test_an_emitter_is_given_the_newest_signed_head(
    make_service: Callable[..., AuditService],
) -> None:
    service = make_service()
    service.start_and_wait()
    async with client_of(service, GATEWAY) as client:
        before = await client.read_checkpoint()
        size = service.signer.verifier.open(before).size if before else 0
        assert service.post(batch(event())).status_code == 200
        for _ in range(200):
            found = await client.read_checkpoint()
            if found and service.signer.verifier.open(found).size > size:
                break
            await asyncio.sleep(0.1)
        assert service.signer.verifier.open(found).size > size
    async with client_of(service, "nobodys-token-at-all") as stranger:
        # With the hub away nobody can say whose token that is: it is not let in.
        with pytest.raises((DeniedError, NoAnswerError)):
            await stranger.read_checkpoint()
    headers = {"Authorization": f"Bearer {HUB}"}
    answer = service.request("GET", "api/checkpoints?limit=x", headers=headers)
    assert answer.status_code == 422
    for path in ("api/events", "api/who", "api/export"):  # heads, and nothing of events
        assert service.request("GET", path, headers=headers).status_code != 200
    service.kill()
    async with client_of(service, GATEWAY) as client:
        with pytest.raises(NoAnswerError, match="api/checkpoints"):
            await client.read_checkpoint()
