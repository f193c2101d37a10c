"""An audit service to order, and emitters that talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from jupyterhub_collab.auditapi import Emitter
from jupyterhub_collab.auditapi.spool import Spool
from tests.auditapi.scripted_service import TOKEN, Service, serving

NOW = datetime(2027, 1, 31, 18, 0, tzinfo=timezone.utc)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving(Service()) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def make_emitter(service: Service, folder: Path) -> Callable[..., Emitter]:
    """An emitter with the folder, for the service."""

    def make(*, flush_s: float = 0.0, timeout_s: float = 20.0, **spool: int) -> Emitter:
        return Emitter(
            folder,
            service.url,
            TOKEN,
            now=lambda: NOW,
            timeout_s=timeout_s,
            flush_s=flush_s,
            spool=Spool(folder, **spool),
        )

    return make
