"""Taking events: who may tell what, what is no event, and that what was answered is on disk."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from jupyterhub_collab.policy.audit_batch import BODY_BYTES_MAX
from jupyterhub_collab.policy.audit_emitters import Emitter, Emitters, hash_token
from jupyterhub_collab.policy.merkle import leaf_hash, root_of
from tests.services.audit.running import EMITTERS, GATEWAY, HUB, AuditService, batch, event
from tests.services.running import wait_until

Make = Callable[..., AuditService]


def bodies(url: str) -> list[dict[str, Any]]:
    """All events in a database."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT body FROM audit_events ORDER BY sequence")).all()
    engine.dispose()
    return [json.loads(row[0]) for row in rows]


def told(url: str, emitter: str = "hub") -> list[tuple[int, str, str]]:
    """Number, verb and reason of each event of an emitter."""
    return [
        (body["emitterSequence"], body["verb"], body.get("reason", ""))
        for body in bodies(url)
        if body["emitter"] == emitter
    ]


@pytest.fixture
def service(make_service: Make, url: str) -> AuditService:
    """One that runs, on each kind of database."""
    found = make_service(database_url=url)
    found.start_and_wait()
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditService]:
    """One that runs, where nothing is to be stored."""
    found = AuditService(tmp_path_factory.mktemp("shared"))
    found.start_and_wait()
    yield found
    found.kill()


def test_a_batch_is_stored_once_however_often_it_comes(service: AuditService, url: str) -> None:
    sent = batch(event(), event("server.start"))
    first = service.post(sent)
    assert first.status_code == 200, first.text
    assert first.json() == {"acknowledged": 2, "stored": [2, 3]}  # 1 is the service's own start
    again = service.post(sent)
    assert again.json() == {"acknowledged": 2, "stored": None}
    assert told(url) == [(1, "login", ""), (2, "server.start", "")]


def test_what_is_no_event_stops_nothing_and_is_never_repeated(
    service: AuditService, url: str
) -> None:
    wrong: list[dict[str, Any]] = [
        {"verb": "hunter2"},
        event(hunter2="hunter2"),
        event("server.stop", team="Not A Team hunter2"),
        event(details={"x": 1.5}),
        event(time="yesterday"),
        {},
    ]
    answer = service.post(batch(event(), *wrong, event("server.stop")))
    assert answer.status_code == 200, answer.text
    assert answer.json()["acknowledged"] == 8
    assert answer.json()["rejected"] == [2, 3, 4, 5, 6, 7]
    kept = told(url)
    assert [number for number, _, _ in kept] == list(range(1, 9))  # no gap
    assert [verb for _, verb, _ in kept] == ["login", *["audit.reject"] * 6, "server.stop"]
    assert "hunter2" not in json.dumps(bodies(url)) + service.log + answer.text


def test_an_emitter_tells_what_it_may_and_nobody_tells_what_is_the_services_own(
    service: AuditService, url: str
) -> None:
    answer = service.post(batch(event("dataset.read"), event("audit.erase"), event("server.stop")))
    assert answer.json()["rejected"] == [1, 2]
    assert told(url) == [
        (1, "audit.reject", "verb-not-allowed"),
        (2, "audit.reject", "verb-not-allowed"),
        (3, "server.stop", ""),
    ]
    assert bodies(url)[1]["details"] == {"verb": "dataset.read"}
    # One that may tell everything may not tell that either.
    service.post(batch(event("audit.retire"), event("egress.connect")), token=GATEWAY)
    assert [verb for _, verb, _ in told(url, "gateway")] == ["audit.reject", "egress.connect"]


def test_an_event_that_is_too_large_is_rejected_alone(service: AuditService, url: str) -> None:
    large = event("server.start", details={"text": "x" * 33_000})
    assert service.post(batch(event(), large, event())).json()["rejected"] == [2]
    assert told(url)[1] == (2, "audit.reject", "too-large")


@pytest.mark.parametrize("token", ["", "wrong", HUB[:-1], HUB + "x", "ä"])
def test_strangers_store_nothing(shared: AuditService, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}".encode()} if token else {}
    content = json.dumps(batch(event()))
    answer = shared.request("POST", "api/events", content=content, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    # A token of the hub is none of an emitter, and a cookie is nothing.
    headers = {"Authorization": f"token {HUB}"}
    assert shared.request("POST", "api/events", content=content, headers=headers).status_code == 401
    assert told(f"sqlite:///{shared.sqlite}") == []
    assert HUB not in shared.log


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "the body"),
        (b"{", "the body"),
        (b"\xff", "the body"),
        (b"[]", "the body"),
        (b"[" * 100_000, "the body"),
        (json.dumps({**batch(event()), "more": 1}).encode(), "the body"),
        (json.dumps(batch(event(), incarnation="x")).encode(), "incarnation"),
        (json.dumps(batch()).encode(), "events"),
        (json.dumps(batch(*[event()] * 501)).encode(), "events"),
        (json.dumps(batch(event(), first=0)).encode(), "events[0].sequence"),
        (json.dumps({**batch(), "events": [3]}).encode(), "events[0].sequence"),
        (
            json.dumps({**batch(), "events": batch(event())["events"] * 2}).encode(),
            "events",
        ),
    ],
)
def test_what_is_no_batch_is_refused_with_the_field(
    shared: AuditService, body: bytes, field: str
) -> None:
    answer = shared.post(body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["problems"][0]["field"] == field
    assert told(f"sqlite:///{shared.sqlite}") == []


def test_a_body_that_is_too_large_is_refused_and_the_next_one_taken(shared: AuditService) -> None:
    large = b" " * (BODY_BYTES_MAX + 1)
    assert shared.post(large).status_code == 413
    try:  # far too large: it is not even read
        answer = shared.post(b" " * (3 * BODY_BYTES_MAX))
        assert answer.status_code in (400, 413)
    except httpx.HTTPError:
        pass  # the connection was cut before all was sent
    assert shared.post(b"{}").status_code == 422


def test_a_gap_in_an_emitters_numbers_is_recorded(service: AuditService, url: str) -> None:
    service.post(batch(event()))
    service.post(batch(event(), first=5))
    (gap,) = [body for body in bodies(url) if body["verb"] == "audit.gap"]
    assert (gap["details"]["first"], gap["details"]["last"]) == (2, 4)
    assert gap["details"]["emitter"] == "hub"


def test_emitters_come_and_go_while_it_runs_and_a_broken_file_changes_nothing(
    service: AuditService,
) -> None:
    file = service.folder / "emitters.json"
    new = Emitter(name="jobs", token_sha256=hash_token("jobs-token"), verbs=("job.*",))
    assert service.post(batch(event("job.end")), token="jobs-token").status_code == 401
    file.write_text(Emitters((*EMITTERS.all, new)).to_text())
    wait_until(
        lambda: service.post(batch(event("job.end")), token="jobs-token").status_code == 200,
        timeout_s=15,
        what=lambda: service.log,
    )
    file.write_text("{")
    wait_until(
        lambda: service.health()["status"] == "warning" and "emitters" in service.log,
        timeout_s=15,
        what=lambda: service.log,
    )
    assert service.post(batch(event("job.end"), first=2), token="jobs-token").status_code == 200
    file.write_text(EMITTERS.to_text())
    wait_until(
        lambda: (
            service.post(batch(event("job.end"), first=3), token="jobs-token").status_code == 401
        ),
        timeout_s=15,
        what=lambda: service.log,
    )


def test_killed_in_the_middle_it_has_all_that_it_acknowledged(
    service: AuditService, url: str
) -> None:
    acknowledged = [0] * 4
    stop = threading.Event()

    def emit(number: int) -> None:
        incarnation = f"{number:032x}"
        while not stop.is_set():
            sent = batch(*[event()] * 7, first=acknowledged[number] + 1, incarnation=incarnation)
            try:
                answer = service.post(sent)
            except httpx.HTTPError:
                continue
            if answer.status_code == 200:
                acknowledged[number] = answer.json()["acknowledged"]

    threads = [threading.Thread(target=emit, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            wanted = [n + 30 for n in acknowledged]
            wait_until(
                lambda wanted=wanted: all(
                    a >= w for a, w in zip(acknowledged, wanted, strict=True)
                ),
                timeout_s=60,
                what=lambda: f"{acknowledged} {service.log[-2000:]}",
            )
            service.kill()
            service.start_and_wait()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    kept = bodies(url)
    for number in range(4):
        mine = [b["emitterSequence"] for b in kept if b["incarnation"] == f"{number:032x}"]
        assert mine == list(range(1, len(mine) + 1))  # each once, in order, no gap
        assert len(mine) >= acknowledged[number]
    assert [b["sequence"] for b in kept] == list(range(1, len(kept) + 1))
    assert [b["verb"] for b in kept].count("audit.start") == 4
    service.end()
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT body FROM audit_events ORDER BY sequence")).all()
        newest = "SELECT note FROM audit_checkpoints ORDER BY size DESC LIMIT 1"
        note = connection.execute(text(newest)).scalar_one()
    engine.dispose()
    held = service.signer.verifier.open(note)
    assert held.size == len(rows)
    assert held.root == root_of(leaf_hash(row[0].encode()) for row in rows)


def test_two_services_on_one_database_are_refused(
    service: AuditService, make_service: Make, url: str
) -> None:
    second = make_service(database_url=url, signer=service.signer)
    second.start()
    assert second.process is not None
    assert second.process.wait(20) == 1
    line = second.log.strip().splitlines()[-1]
    assert line.startswith("audit: "), second.log
    assert "Traceback" not in second.log
    assert service.post(batch(event())).status_code == 200
