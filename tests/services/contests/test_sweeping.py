"""The running service deletes copies whose time is over, and the audit log knows of it before."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

from jupyterhub_collab.storage.archives import ArchiveFolder, StoredArchive
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
