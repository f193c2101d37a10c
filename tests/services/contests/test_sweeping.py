"""The running service deletes copies whose time is over, and the audit log knows of it before."""

from __future__ import annotations

import asyncio
import hashlib
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from jupyterhub_collab.storage.archives import ArchiveFolder, StoredArchive
from tests.real_hub import find_free_port
from tests.services.audit.running import GATEWAY, AuditService
from tests.services.contests.running import ContestsService
from tests.services.running import wait_until

OLD, NEW = "sea/ocean.0123456789abcdef.1.tar", "sea/ocean.0123456789abcdef.2.tar"


def keep(folder: Path, key: str, until: datetime) -> None:
    """A copy with its note, as an archive folder has them."""
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"copy")
    at, sha256 = until - timedelta(days=365), hashlib.sha256(b"copy").hexdigest()
    path.with_name(f"{path.name}.json").write_text(
        StoredArchive(key, 4, sha256, at, keep_until=until).to_text()
    )


async def kept(place: ArchiveFolder) -> set[str]:
    return {stored.key for stored in await place.all()}


def test_the_service_sweeps_by_itself(contests: ContestsService, tmp_path: Path) -> None:
    place = ArchiveFolder(tmp_path / "archives")
    now = datetime.now(timezone.utc)
    keep(tmp_path / "archives", OLD, now - timedelta(days=1))
    keep(tmp_path / "archives", NEW, now + timedelta(days=1))
    assert asyncio.run(kept(place)) == {OLD, NEW}
    audit = AuditService(tmp_path / "audit")
    token = tmp_path / "token"
    token.write_text(GATEWAY)
    service = ContestsService(
        contests.hub,
        tmp_path / "contests",
        more={
            "COLLAB_CONTESTS_ARCHIVES": f"file://{tmp_path / 'archives'}",
            "COLLAB_AUDIT_URL": audit.url,
            "COLLAB_AUDIT_TOKEN_FILE": str(token),
        },
    )
    try:
        audit.start_and_wait()
        service.start_and_wait()
        wait_until(
            lambda: asyncio.run(kept(place)) == {NEW},
            timeout_s=30,
            what=lambda: service.log[-2000:],
        )
        assert service.end() == 0, service.log[-2000:]
    finally:
        service.kill()
        audit.kill()


def test_who_stands_by_clears_its_own_folder(contests: ContestsService, tmp_path: Path) -> None:
    """A copy may be brought to any process, and killed there."""
    pytest.importorskip("minio")
    away = f"http://127.0.0.1:{find_free_port()}"
    both = [
        ContestsService(
            contests.hub,
            tmp_path / name,
            database_url=f"sqlite:///{tmp_path}/shared.sqlite",
            more={"COLLAB_CONTESTS_ARCHIVES": f"s3://copies?endpoint={away}&region=eu"},
        )
        for name in ("first", "second")
    ]
    left = tmp_path / "second" / "state" / "archives-incoming" / ("a" * 32)
    left.parent.mkdir(parents=True)
    left.write_text("half a copy")
    os.utime(left, (0, 0))
    try:
        for service in both:
            service.start_and_wait()
        wait_until(lambda: not left.exists(), timeout_s=30, what=lambda: both[1].log[-2000:])
        assert "does the contests' work from now on" not in both[1].log
        assert [service.end() for service in both] == [0, 0]
    finally:
        for service in both:
            service.kill()
