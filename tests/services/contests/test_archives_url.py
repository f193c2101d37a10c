"""An address of their own for archive Jobs: copies of volumes come and go there, nothing else."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from jupyterhub_collab import names
from jupyterhub_collab.contest_ending_factory import read_or_make_key
from jupyterhub_collab.managers.contest_archives import SAVE, ContestArchives
from jupyterhub_collab.singleuser.archive import main
from jupyterhub_collab.singleuser.archive_packing import DONE
from jupyterhub_collab.storage.archives import ArchiveFolder
from tests.real_hub import find_free_port
from tests.services.contests.running import MANAGER_TOKEN, PREFIX, ContestsService

OTHER_ADDRESS = "127.0.0.2"


@pytest.fixture
def port() -> int:
    return find_free_port()


@pytest.fixture
def service(contests: ContestsService, tmp_path: Path, port: int) -> Iterator[ContestsService]:
    more = {
        "COLLAB_CONTESTS_ARCHIVES": f"file://{tmp_path / 'archives'}",
        "COLLAB_CONTESTS_ARCHIVES_URL": f"http://{OTHER_ADDRESS}:{port}",
    }
    found = ContestsService(contests.hub, tmp_path / "contests", more=more)
    found.start_and_wait()
    yield found
    found.kill()


def ask(port: int, path: str, token: str = MANAGER_TOKEN) -> httpx.Response:
    headers = {"Authorization": f"token {token}"} if token else {}
    return httpx.get(f"http://{OTHER_ADDRESS}:{port}{path}", headers=headers, verify=False)


@pytest.mark.parametrize(
    "path", ["", "health", "metrics", "openapi.json", "api/contests", "oauth_callback", "ready"]
)
def test_nothing_else_is_answered_there(service: ContestsService, port: int, path: str) -> None:
    assert ask(port, PREFIX + path).status_code == 404
    assert ask(port, PREFIX + path, token="").status_code == 404


def test_even_there_a_token_is_asked_for(service: ContestsService, port: int) -> None:
    copy = f"{PREFIX}api/archives/{names.archive_id('ocean', 'team', 7)}"
    assert ask(port, copy, token="").status_code == 403
    assert ask(port, copy).status_code == 403, "no token of the hub opens a copy"


def test_a_copy_comes_by_it(service: ContestsService, port: int, tmp_path: Path) -> None:
    manifest = {
        "apiVersion": "jupyterhub-collab.org/v1alpha1",
        "kind": "Contest",
        "contest": {"id": "bay", "title": "Bay"},
        "tiers": {
            "s": {
                "cpu": 1,
                "memory": "1Gi",
                "storage": "2Gi",
                "ephemeralStorage": "2Gi",
                "pods": 2,
            }
        },
        "images": {"basic": {"title": "Basic", "image": "registry.example.org/basic:1"}},
        "profiles": {"s": {"title": "Small", "cpu": "500m", "memory": "512Mi"}},
        "teams": {"bay-one": {"tier": "s"}},
    }
    put = service.request("PUT", "api/contests/bay/manifest", json=manifest)
    assert put.status_code in (200, 201, 202), put.text
    archive = names.archive_id("bay-one", "team", 7)
    archives = ContestArchives(
        ArchiveFolder(tmp_path / "unused"),
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        key=read_or_make_key(service.folder / "state" / "archives.key"),
        prefix=PREFIX,
        now=lambda: None,  # type: ignore[arg-type, return-value]
    )
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "found.txt").write_text("a reef")
    (tmp_path / "token").write_text(archives.token(archive, SAVE))
    out = io.StringIO()
    url = f"http://{OTHER_ADDRESS}:{port}{archives.path(archive)}"
    code = main(["save", url, str(tmp_path / "volume"), str(tmp_path / "token")], out=out)
    assert code == DONE, out.getvalue()
    assert (tmp_path / "archives" / "bay" / f"{archive}.tar").is_file()


def test_it_ends_in_order(service: ContestsService) -> None:
    assert service.end(signal.SIGTERM) == 0, service.log[-2000:]


def test_a_name_is_refused(contests: ContestsService, tmp_path: Path) -> None:
    """It would open all addresses of the machine."""
    more = {
        "COLLAB_CONTESTS_ARCHIVES": f"file://{tmp_path / 'archives'}",
        "COLLAB_CONTESTS_ARCHIVES_URL": "http://contests.example.org:8087",
    }
    service = ContestsService(contests.hub, tmp_path / "contests", more=more)
    service.start()
    assert service.process is not None
    assert service.process.wait(30) == 1
    assert "is no place to listen: say http://ADDRESS:PORT" in service.log


def test_where_nothing_is_kept_it_is_not_opened(
    contests: ContestsService, tmp_path: Path, port: int
) -> None:
    more = {"COLLAB_CONTESTS_ARCHIVES_URL": f"http://{OTHER_ADDRESS}:{port}"}
    service = ContestsService(contests.hub, tmp_path / "contests", more=more)
    try:
        service.start_and_wait()
        with pytest.raises(httpx.ConnectError):
            ask(port, PREFIX + "health")
    finally:
        service.kill()
