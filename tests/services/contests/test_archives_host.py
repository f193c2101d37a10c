"""Copies of volumes for hosts: what is kept, and bringing a copy back, over HTTP and as typed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from typer.testing import CliRunner

from jupyterhub_collab import names
from jupyterhub_collab.cli.main import app
from jupyterhub_collab.models.contest_life import Archive
from jupyterhub_collab.storage.archives import StoredArchive
from jupyterhub_collab.storage.contests import ContestStore
from tests.services.audit.running import GATEWAY, AuditService
from tests.services.contests.manifests import manifest
from tests.services.contests.provisioner import ReadyProvisioner
from tests.services.contests.running import MANAGER_TOKEN, ContestsService

NOW = datetime.now(timezone.utc).replace(microsecond=0)
ARCHIVE = names.archive_id("vault-one", "team", 7)
OLDER = names.archive_id("vault-one", "team", 3)


@dataclass
class Vault:
    """A service with copies, and the provisioner that it asks."""

    service: ContestsService
    provisioner: ReadyProvisioner
    audit: AuditService
    host: str


@pytest.fixture(scope="module")
def vault(contests: ContestsService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    folder: Path = tmp_path_factory.mktemp("vault")
    provisioner, audit = ReadyProvisioner(contests.hub), AuditService(folder / "audit")
    service = ContestsService(
        contests.hub,
        folder / "contests",
        provisioner_url=provisioner.url,
        more={
            "COLLAB_CONTESTS_ARCHIVES": f"file://{folder / 'kept'}",
            "COLLAB_AUDIT_URL": audit.url,
            "COLLAB_AUDIT_TOKEN_FILE": str(folder / "token"),
        },
    )
    (folder / "token").write_text(GATEWAY)
    try:
        audit.start_and_wait()
        service.start_and_wait()
        for contest in ("vault", "cellar"):
            teams = {f"{contest}-{n}": {"tier": "small"} for n in ("one", "two")}
            path = f"api/contests/{contest}/manifest"
            assert service.request("PUT", path, json=manifest(contest, teams=teams)).is_success
        asyncio.run(put_copies(service, folder / "kept"))
        yield Vault(service, provisioner, audit, contests.issue_token("host-vault"))
    finally:
        service.kill()
        audit.kill()
        provisioner.close()


async def put_copies(service: ContestsService, kept: Path) -> None:
    """Three volumes with copies and one without; an older copy that the registry forgot."""
    engine = create_engine(f"sqlite:///{service.folder / 'state' / 'contests.sqlite'}")
    store = ContestStore(engine)
    rows = [("vault-one", "personal-ada"), ("vault-one", "team"), ("vault-two", "team")]
    for team, claim in rows:
        archive = names.archive_id(team, claim, 7)
        await store.put_archive(keep(kept, archive, claim))
    lost = Archive("vault", "vault-two", "personal-bob", "", "", 1 << 30, "", NOW)
    await store.put_archive(lost)
    keep(kept, OLDER, "team")
    store.close()
    engine.dispose()


def keep(kept: Path, archive: str, claim: str) -> Archive:
    key, data = f"vault/{archive}.tar", archive.encode()
    path = kept / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    sha256, until = hashlib.sha256(data).hexdigest(), NOW + timedelta(days=30)
    stored = StoredArchive(key, len(data), sha256, NOW, keep_until=until)
    path.with_name(f"{path.name}.json").write_text(stored.to_text())
    team = archive.partition(".")[0]
    return Archive("vault", team, claim, "folder", key, len(data), sha256, NOW, until)


def test_a_host_sees_what_is_kept_page_by_page(vault: Vault) -> None:
    found: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        path = "api/contests/vault/archives"
        params: dict[str, Any] = {"after": after, "limit": 2}
        answer = vault.service.request("GET", path, token=vault.host, params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["archives"]) <= 2
        found += page["archives"]
        after = page["next"]
    assert [(a["team"], a["volume"]) for a in found] == [
        ("vault-one", "personal-ada"),
        ("vault-one", "team"),
        ("vault-two", "team"),
    ]
    [one] = [a for a in found if a["archive"] == ARCHIVE]
    assert one["bytes"] == len(ARCHIVE)
    assert one["sha256"] == hashlib.sha256(ARCHIVE.encode()).hexdigest()
    assert one["place"] == "folder"
    assert datetime.fromisoformat(one["keepUntil"].replace("Z", "+00:00")) > NOW
    for wrong in ("x", "/", "x/", "/x"):
        answer = vault.service.request(
            "GET", "api/contests/vault/archives", params={"after": wrong}
        )
        assert answer.status_code == 422


def test_a_copy_is_brought_back_into_another_team(vault: Vault) -> None:
    path = "api/teams/vault-two/archives/restore"
    for _ in range(2):
        answer = vault.service.request("POST", path, json={"archive": ARCHIVE}, token=vault.host)
        assert answer.status_code == 202, answer.text
    [job, *_] = answer.json()["jobs"]
    assert (job["work"], job["archive"], job["volume"]) == ("restore", ARCHIVE, "team")
    asked = vault.provisioner.restored[-1]
    assert asked["path"] == f"/services/contests/api/archives/{ARCHIVE}"
    assert asked["token"] not in answer.text
    assert asked["token"] not in vault.service.log
    token = {"Authorization": f"token {asked['token']}"}
    fetched = vault.service.request("GET", f"api/archives/{ARCHIVE}", token="", headers=token)
    assert fetched.content == ARCHIVE.encode()
    seen = vault.service.request("GET", "api/teams/vault-two/archives", token=vault.host).json()
    assert [volume["volume"] for volume in seen["volumes"]] == ["team"]


def test_what_cannot_be_brought_back_is_said(vault: Vault) -> None:
    path = "api/teams/vault-two/archives/restore"

    def ask(body: dict[str, Any], where: str = path, token: str = MANAGER_TOKEN) -> tuple[int, str]:
        answer = vault.service.request("POST", where, json=body, token=token)
        return answer.status_code, str(answer.json()["message"])

    before = len(vault.provisioner.restored)
    unknown = names.archive_id("vault-one", "team", 99)
    for archive in (unknown, names.archive_id("nobody", "team", 7)):
        assert ask({"archive": archive})[0] == 404
    for archive in ("x", "../x.0123456789abcdef.1", f"{ARCHIVE}/..", ""):
        assert ask({"archive": archive})[0] == 422
    assert ask({"archive": ARCHIVE, "volume": "../x"})[0] == 422
    status, said = ask({"archive": ARCHIVE, "volume": "personal-nobody"})
    assert (status, "has no such volume" in said) == (409, True)
    status, said = ask({"archive": OLDER})
    assert (status, "Name the volume" in said) == (409, True)
    # A host of one contest puts nothing of it into another's team, and takes nothing from it.
    assert ask({"archive": ARCHIVE}, "api/teams/cellar-one/archives/restore", vault.host)[0] == 404
    cellar = vault.service.issue_token("host-cellar")
    assert ask({"archive": ARCHIVE}, "api/teams/cellar-one/archives/restore", cellar)[0] == 404
    assert len(vault.provisioner.restored) == before
    answer = vault.service.request("POST", path, json={"archive": OLDER, "volume": "team"})
    assert answer.status_code == 202, "an older copy too, where its volume is named"


def test_as_a_host_types_it(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("JUPYTERHUB_COLLAB_CONTESTS_URL", vault.service.url)
    monkeypatch.setenv("JUPYTERHUB_COLLAB_TOKEN", MANAGER_TOKEN)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["contest", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    listed = run("archives", "vault")
    assert ARCHIVE in listed
    assert "personal-ada" in listed
    said = run("restore-archive", ARCHIVE, "--team", "vault-one", "--wait")
    assert f"restore {ARCHIVE} of volume team: done" in said


def test_nothing_is_brought_back_unrecorded(vault: Vault) -> None:
    before = len(vault.provisioner.restored)
    vault.audit.end()
    path = "api/teams/vault-two/archives/restore"
    answer = vault.service.request("POST", path, json={"archive": ARCHIVE}, timeout=60)
    assert answer.status_code == 503
    assert "Nothing is brought back unrecorded" in answer.json()["message"]
    assert len(vault.provisioner.restored) == before
