"""Erasing and retiring on an administrator's word, asked over HTTP and by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from tests.real_hub import RealHub, find_free_port
from tests.services.audit.running import SERVICE_TOKEN, AuditService, batch, event
from tests.services.running import wait_until

ACCESS = "access:services!service=audit"
MANAGER, READER, METRICS, ISSUER = (
    f"{name}-token-of-the-tests" for name in ("manager", "reader", "metrics", "issuer")
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealHub, int]]:
    """A hub that knows the service, and the service's port."""
    port = find_free_port()
    names = {"manager": MANAGER, "reader": READER, "metrics": METRICS, "issuer": ISSUER}
    found = RealHub(
        tmp_path_factory.mktemp("hub"),
        services=[
            {"name": "audit", "url": f"http://127.0.0.1:{port}", "api_token": SERVICE_TOKEN},
            *({"name": name, "api_token": token} for name, token in names.items()),
        ],
        roles=[
            {
                "name": "manager",
                "services": ["manager"],
                "scopes": [ACCESS, "custom:collab:audit:manage"],
            },
            {"name": "reader", "services": ["reader"], "scopes": [ACCESS]},
            {"name": "metrics", "services": ["metrics"], "scopes": [ACCESS, "read:metrics"]},
            {"name": "issuer", "services": ["issuer"], "scopes": ["tokens", "admin:users"]},
        ],
        more=(
            "c.Authenticator.admin_users = {'host'}\n"
            "c.JupyterHub.custom_scopes = "
            "{'custom:collab:audit:manage': {'description': 'Erase and retire'}}\n"
        ),
    )
    found.start()
    yield found, port
    found.kill()


@pytest.fixture
def service(hub: tuple[RealHub, int], url: str, tmp_path: Path) -> Iterator[AuditService]:
    found = AuditService(
        tmp_path / "service", database_url=url, hub_api_url=hub[0].api_url, port=hub[1]
    )
    found.start_and_wait()
    yield found
    found.kill()


def ask(service: AuditService, path: str, body: Any, token: str = MANAGER) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"token {token}"} if token else {}
    return service.request("POST", path, content=content, headers=headers)


def run_cli(service: AuditService, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jupyterhub_collab.cli.main", "audit", *arguments],
        env={**os.environ, "COLLAB_AUDIT_URL": service.url, "JUPYTERHUB_COLLAB_TOKEN": MANAGER},
        capture_output=True,
        text=True,
        check=False,
    )


def everything(url: str) -> str:
    """All rows of all tables, as text."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = [
            connection.execute(text(f"SELECT * FROM {table}")).all()
            for table in ("audit_events", "audit_people")
        ]
    engine.dispose()
    return str(rows)


def test_a_person_is_erased_by_whoever_may_and_an_event_says_so(
    service: AuditService, hub: tuple[RealHub, int], url: str
) -> None:
    mary = {"name": "mary-of-the-reef", "address": "10.1.2.3"}
    service.post(batch(event(subject=mary), event(actor=mary), event()))
    wanted = {"person": "mary-of-the-reef", "reason": "asked for it"}
    assert ask(service, "api/erase", wanted, token="").status_code == 401
    assert ask(service, "api/erase", wanted, token=READER).status_code == 403
    # A token that an admin made for something else is not the admin.
    headers = {"Authorization": f"token {ISSUER}"}
    made = httpx.post(f"{hub[0].api_url}/users/host", headers=headers, verify=False)
    assert made.status_code in (201, 409), made.text
    made = httpx.post(f"{hub[0].api_url}/users/host/tokens", headers=headers, verify=False)
    refused = ask(service, "api/erase", wanted, token=made.json()["token"])
    assert refused.status_code == 403
    assert "custom:collab:audit:manage" in refused.json()["message"]
    dry = ask(service, "api/erase", {**wanted, "dryRun": True})
    assert dry.json() == {"events": 2, "dryRun": True}
    assert "mary-of-the-reef" in everything(url)
    done = ask(service, "api/erase", wanted).json()
    assert (done["events"], done["parts"]) == (2, 2)
    kept = everything(url)
    assert "mary-of-the-reef" not in kept
    assert "10.1.2.3" not in kept
    assert "audit.erase" in kept
    assert "asked for it" in kept
    assert "ada" in kept
    assert "mary-of-the-reef" not in service.log
    assert ask(service, "api/erase", wanted).json()["events"] == 0


def test_what_cannot_be_read_is_refused_with_the_field(service: AuditService) -> None:
    for body, status, field in [
        (b"{", 400, None),
        ({"person": "ada"}, 422, "reason"),
        ({"person": "", "reason": "x"}, 422, "person"),
        ({"person": "ada", "reason": "x", "dry": True}, 422, "dry"),
        ({"person": "ada", "reason": "two\nlines"}, 422, "reason"),
    ]:
        answer = ask(service, "api/erase", body)
        assert answer.status_code == status, answer.text
        if field:
            assert answer.json()["problems"][0]["field"] == field
    answer = ask(service, "api/retire", {"olderThanDays": 0, "reason": "x"})
    assert answer.status_code == 422


def test_the_command_line_erases_and_retires(service: AuditService, url: str) -> None:
    service.post(batch(*[event()] * 300))
    tried = run_cli(service, "erase", "ada", "--reason=asked for it", "--dry-run")
    assert tried.stdout == "In 300 events. Nothing is erased.\n", tried.stderr
    done = run_cli(service, "erase", "ada", "--reason=asked for it")
    assert done.stdout.startswith("Erased from 300 events; said by event "), done.stderr
    assert "'ada'" not in everything(url)
    none = run_cli(service, "retire", "--older-than-days=1", "--reason=old")
    assert none.stdout == "Nothing is as old as that.\n", none.stderr


def test_metrics_are_for_admins_and_those_with_the_hubs_own_scope(service: AuditService) -> None:
    service.post(batch(event()))
    headers = {"Authorization": f"token {METRICS}"}
    text_of = service.request("GET", "metrics", headers=headers).text
    assert "collab_audit_events 2.0" in text_of
    assert 'collab_audit_stored_total{emitter="hub"} 1.0' in text_of
    assert 'collab_audit_emitter_silent_seconds{emitter="hub"}' in text_of
    headers = {"Authorization": f"token {READER}"}
    assert service.request("GET", "metrics", headers=headers).status_code == 403


def test_the_oldest_events_go_by_rule_but_for_what_is_held(
    hub: tuple[RealHub, int], tmp_path: Path
) -> None:
    service = AuditService(tmp_path / "service", hub_api_url=hub[0].api_url, port=hub[1])
    service.start_and_wait()
    service.post(batch(*[event()] * 500))
    service.post(batch(event(contest="reef"), *[event()] * 400, first=501))
    service.end()
    url = f"sqlite:///{service.sqlite}"
    engine = create_engine(url)
    # As if 100 days had gone by: the log's own clock cannot be turned back from outside.
    with engine.begin() as connection:
        connection.execute(text("UPDATE audit_events SET stored_us = stored_us - 8640000000000"))
    engine.dispose()

    def first_kept() -> int:
        engine = create_engine(url)
        with engine.connect() as connection:
            found = connection.execute(text("SELECT min(sequence) FROM audit_events")).scalar_one()
        engine.dispose()
        return int(found)

    try:
        service.start_and_wait("--AuditApp.retention_days=90", "--AuditApp.retention_hold=['reef']")
        # 1 is the start, 502 the first of what is held: one whole tile of 256 comes before it.
        wait_until(lambda: first_kept() == 257, timeout_s=20, what=lambda: service.log[-2000:])
        assert service.health()["status"] == "warning"  # it has no anchor
        service.end()
        service.start_and_wait("--AuditApp.retention_days=90")
        wait_until(lambda: first_kept() == 769, timeout_s=20, what=lambda: service.log[-2000:])
        service.post(batch(event(), first=902))
        assert service.end() == 0
        service.start_and_wait()  # what is left is whole
    finally:
        service.kill()
