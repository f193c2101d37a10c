"""An audit service, and places outside for its checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.audit.running import AuditService
from tests.storage.conftest import engine, postgresql, postgresql_url, url

__all__ = ["engine", "postgresql", "postgresql_url", "url"]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder on what would be another volume."""
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[..., AuditService]]:
    """Make services (not started); all end with the test."""
    made: list[AuditService] = []

    def make(**settings: Any) -> AuditService:
        folder = tmp_path / f"service-{len(made)}"
        made.append(AuditService(settings.pop("folder", folder), **settings))
        return made[-1]

    yield make
    for service in made:
        service.kill()
