"""The emitter between a real spool and a service that answers to order."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab.auditapi import Emitter, NoRecorder, correlated, correlation
from jupyterhub_collab.errors import AuditUnavailableError, PermanentError
from jupyterhub_collab.models.audit import AuditEvent, Outcome, Person, Verb
from jupyterhub_collab.timeouts import TIMED_OUT, timeout
from tests.auditapi.scripted_service import (
    CUT,
    LOST,
    NONSENSE,
    REJECT,
    SILENCE,
    TOKEN,
    Service,
    Status,
    serving,
)

NOW = datetime(2027, 1, 31, 18, 0, tzinfo=timezone.utc)
Make = Callable[..., Emitter]


def event(thing: object, **more: Any) -> AuditEvent:
    more = {"verb": Verb.DATASET_READ, "outcome": Outcome.ALLOWED} | more
    return AuditEvent(time=NOW, thing=str(thing), **more)


def things(*numbers: int) -> list[str]:
    return [str(number) for number in range(*numbers)]


async def test_what_is_emitted_arrives_in_order_and_whole(
    service: Service, make_emitter: Make
) -> None:
    who = Person(name="ada", roles=("captain of team ocean",), note="“für Ämter”")
    told = event(0, subject=who, team="ocean", details={"digest": "sha256:1", "many": ("a", "b")})
    async with make_emitter() as emitter:
        emitter.emit(told)
        for number in range(1, 2000):
            emitter.emit(event(number))
        await service.until(2000)
    assert service.things == things(2000)
    assert service.sequences == list(range(1, 2001))
    assert AuditEvent.model_validate(service.events[0]) == told
    assert not service.late


@pytest.mark.parametrize(
    "fault",
    [LOST, CUT, NONSENSE, Status(503), Status(500), Status(401), Status(403), Status(404)],
    ids=str,
)
async def test_each_event_arrives_once_whatever_is_answered_at_first(
    service: Service, make_emitter: Make, fault: Any
) -> None:
    service.script.extend([fault, fault, fault])
    async with make_emitter() as emitter:
        for number in range(700):
            emitter.emit(event(number))
        await emitter.record(event(700))
    assert service.things == things(701)
    assert service.sequences == list(range(1, 702))


async def test_what_nobody_took_at_first_is_marked(service: Service, make_emitter: Make) -> None:
    service.script.extend([Status(503)] * 2)
    async with make_emitter() as emitter:
        emitter.emit(event(1))
        await service.until(1)
        await emitter.record(event(2))
    assert service.late == {1}


async def test_what_somebody_waits_for_is_not_marked_until_they_give_up(
    service: Service, make_emitter: Make
) -> None:
    # The service stores late what it refuses otherwise: what it tells of was not done.
    service.script.append(Status(503))
    async with make_emitter() as emitter:
        await emitter.record(event(1))
    assert not service.late
    service.always = Status(503)
    async with make_emitter(timeout_s=0.3) as emitter:
        with pytest.raises(AuditUnavailableError):
            await emitter.record(event(2))
        await service.until_asked(service.requests + 2)  # so its refusal was not taken either
        service.always = None
        await service.until(3)
    assert service.late == {2, 3}


async def test_retry_after_is_kept_to(service: Service, make_emitter: Make) -> None:
    service.script.append(Status(503, retry_after="1"))
    async with make_emitter() as emitter:
        start = time.monotonic()
        await emitter.record(event(1))  # waits, and does not cut short what was asked for
        assert time.monotonic() - start >= 1
    assert service.requests == 2


async def test_a_record_that_must_wait_too_long_is_refused_at_once(
    service: Service, make_emitter: Make
) -> None:
    service.script.append(Status(429, retry_after="30"))
    async with make_emitter() as emitter:
        emitter.emit(event(1))
        await service.until_asked(1)
        while True:  # the answer is on its way
            try:
                async with timeout(0.2):
                    await emitter.record(event(2))
            except TIMED_OUT:
                continue
            except AuditUnavailableError as e:
                asked_s = e.retry_after_s
                break
    assert asked_s is not None
    assert 20 < asked_s <= 30


async def test_what_is_not_acknowledged_in_time_is_refused_and_the_log_says_so(
    service: Service, make_emitter: Make
) -> None:
    service.always = Status(503)
    async with make_emitter(timeout_s=0.3) as emitter:
        start = time.monotonic()
        with pytest.raises(AuditUnavailableError, match="never done unrecorded") as caught:
            await emitter.record(event(1, correlation="walk-7", subject=Person(name="ada")))
        assert 0.25 < time.monotonic() - start < 3
        assert TOKEN not in str(caught.value)
        service.always = None
        await service.until(2)
    first, second = service.events
    assert first["outcome"] == "allowed"
    assert (second["outcome"], second["reason"]) == ("refused", "not-recorded")
    for same in ("verb", "thing", "correlation", "subject"):
        assert first[same] == second[same]


async def test_who_goes_away_while_it_is_recorded_leaves_a_refusal(
    service: Service, make_emitter: Make
) -> None:
    service.script.append(SILENCE)
    async with make_emitter() as emitter:
        waiting = asyncio.create_task(emitter.record(event(1)))
        await service.until_asked(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert emitter.spool.last == 2


async def test_a_service_that_says_nothing_does_not_keep_anybody_waiting(
    service: Service, make_emitter: Make
) -> None:
    service.always = SILENCE
    async with make_emitter(timeout_s=0.2, flush_s=0.2) as emitter:
        with pytest.raises(AuditUnavailableError):
            await emitter.record(event(1))
        start = time.monotonic()
        emitter.emit(event(2))
        assert time.monotonic() - start < 0.1


async def test_what_the_service_rejected_was_not_recorded(
    service: Service, make_emitter: Make
) -> None:
    service.script.append(REJECT)
    async with make_emitter() as emitter:
        with pytest.raises(AuditUnavailableError):
            await emitter.record(event(1))
        await emitter.record(event(2))


async def test_an_event_that_nobody_takes_does_not_hold_up_the_others(
    service: Service, make_emitter: Make, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service.indigestible = {"137"}
    async with make_emitter() as emitter:
        for number in range(300):
            emitter.emit(event(number))
        with pytest.raises(AuditUnavailableError):
            await emitter.record(event(137))
        await emitter.record(event(300))
    assert service.things == [one for one in things(301) if one != "137"]
    # Its number is missing, so the service tells of a gap; the event itself is at hand.
    assert set(range(1, 304)) - set(service.sequences) == {138, 301, 302}
    aside = [json.loads(line) for line in (folder / "refused.jsonl").read_bytes().splitlines()]
    assert [(one["sequence"], one["event"]["thing"]) for one in aside] == [
        (138, "137"),
        (301, "137"),
        (302, "137"),
    ]
    assert "put aside: number=138" in caplog.text


async def test_batches_shrink_to_what_the_service_takes(
    service: Service, make_emitter: Make
) -> None:
    service.bytes_max = 2000
    async with make_emitter() as emitter:
        for number in range(100):
            emitter.emit(event(number))
        await service.until(100)
    assert service.things == things(100)


async def test_what_was_not_delivered_is_by_the_next_process(
    service: Service, make_emitter: Make
) -> None:
    service.always = CUT
    async with make_emitter() as emitter:
        for number in range(5):
            emitter.emit(event(number))
    service.always = None
    async with make_emitter() as emitter:
        await service.until(5)
        await emitter.record(event(5))
    async with make_emitter() as emitter:
        await emitter.record(event(6))
    assert service.things == things(7)
    assert service.sequences == list(range(1, 8))
    assert service.late == {1, 2, 3, 4, 5}
    assert len(service.stored) == 1


async def test_the_end_waits_for_what_is_on_its_way(service: Service, make_emitter: Make) -> None:
    service.script.extend([CUT, CUT])
    async with make_emitter(flush_s=20) as emitter:
        for number in range(1500):
            emitter.emit(event(number))
    assert service.things == things(1500)


async def test_events_wait_until_the_emitter_is_started(
    service: Service, make_emitter: Make, caplog: pytest.LogCaptureFixture
) -> None:
    emitter = make_emitter()
    emitter.emit(event(0))
    with pytest.raises(AuditUnavailableError):
        await emitter.record(event("unrecorded"))
    async with emitter:
        emitter.emit(event(1))
        await service.until(3)
    assert service.things == ["0", "unrecorded", "1"]
    assert [one["outcome"] for one in service.events] == ["allowed", "refused", "allowed"]
    # And what comes too late neither fails nor is recorded, and is told.
    emitter.emit(event(2))
    assert "came after the end" in caplog.text
    with pytest.raises(AuditUnavailableError):
        await emitter.record(event(3))


async def test_a_loop_that_was_blocked_loses_nothing(service: Service, make_emitter: Make) -> None:
    async with make_emitter() as emitter:
        recording = asyncio.create_task(emitter.record(event(0)))
        await asyncio.sleep(0)
        for number in range(1, 4):
            emitter.emit(event(number))
            time.sleep(0.2)  # noqa: ASYNC251 - the fault
        await recording
        await service.until(4)
    assert service.things == things(4)


async def test_threads_may_emit(service: Service, make_emitter: Make) -> None:
    async with make_emitter() as emitter:

        def tell(base: int) -> None:
            for number in range(200):
                emitter.emit(event(base + number))

        await asyncio.gather(*(asyncio.to_thread(tell, base) for base in range(0, 1000, 200)))
        await service.until(1000)
    assert sorted(map(int, service.things)) == list(range(1000))
    assert service.sequences == list(range(1, 1001))


async def test_an_older_copy_of_a_spool_loses_nothing_that_is_told_after(
    service: Service, make_emitter: Make, folder: Path
) -> None:
    async with make_emitter(flush_s=20) as emitter:
        for number in range(5):
            emitter.emit(event(number))
    copied = {path.name: path.read_bytes() for path in folder.iterdir()}
    async with make_emitter(flush_s=20) as emitter:
        for number in range(5, 10):
            emitter.emit(event(number))
    for name, content in copied.items():
        (folder / name).write_bytes(content)
    async with make_emitter(flush_s=20) as emitter:
        for number in range(10, 13):
            emitter.emit(event(number))
    async with make_emitter(flush_s=20) as emitter:
        emitter.emit(event(13))
    assert service.things == things(14)
    first, second = service.stored.values()
    assert [sequence for sequence, _ in first] == list(range(1, 11))
    assert [sequence for sequence, _ in second] == list(range(1, 5))


async def test_a_service_that_always_knows_more_is_not_believed(
    service: Service, make_emitter: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"acknowledged": 10**9, "stored": [1, 1]}
    monkeypatch.setattr(service, "take", lambda *_, **__: answer)
    async with make_emitter(timeout_s=1) as emitter:
        with pytest.raises(AuditUnavailableError):
            await emitter.record(event(1))
        incarnation = emitter.spool.incarnation
        await service.until_asked(5)
        assert emitter.spool.incarnation == incarnation


async def test_troubles_are_told_once_and_never_with_the_token(
    service: Service, make_emitter: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service.script.extend([Status(401)] * 5)
    async with make_emitter() as emitter:
        await emitter.record(event(1))
    told = [one for one in caplog.records if one.name.startswith("jupyterhub_collab")]
    assert [one.levelname for one in told] == ["ERROR", "WARNING"]
    assert "401" in told[0].getMessage()
    assert "takes events again" in told[1].getMessage()
    assert TOKEN not in caplog.text


async def test_a_service_that_comes_later_gets_all(folder: Path) -> None:
    async with serving(Service()) as service:
        port = int(service.url.rsplit(":", 1)[1])
    async with Emitter(folder, service.url, TOKEN, now=lambda: NOW, timeout_s=20) as emitter:
        for number in range(3):
            emitter.emit(event(number))
        recording = asyncio.create_task(emitter.record(event(3)))
        await asyncio.sleep(0.3)  # tries in vain meanwhile
        async with serving(Service(), port=port) as service:
            await recording
    assert service.things == things(4)


async def test_correlation_goes_along_with_the_task(service: Service, make_emitter: Make) -> None:
    async with make_emitter() as emitter:
        with correlated("from-another-program") as known:
            assert correlation() == known == "from-another-program"
            emitter.emit(event(0))
            await asyncio.create_task(emitter.record(event(1)))
        with correlated("no id\n") as fresh:
            emitter.emit(event(2))
        emitter.emit(event(3))
        emitter.emit(event(4, correlation="its-own"))
        await service.until(5)
    found = [one.get("correlation") for one in service.events]
    assert found == ["from-another-program", "from-another-program", fresh, None, "its-own"]
    assert re.fullmatch("[0-9a-f]{32}", fresh)


async def test_an_event_too_large_is_told_without_its_details(
    service: Service, make_emitter: Make
) -> None:
    async with make_emitter() as emitter:
        await emitter.record(event(1, details={"text": "x" * 40_000}))
        many = tuple(f"dataset-{number:022}" for number in range(1000))
        hopeless = event(2, contest="sea", datasets=many, subject=Person(roles=("x" * 1000,) * 5))
        emitter.emit(hopeless)
        with pytest.raises(AuditUnavailableError):
            await emitter.record(hopeless)
    assert [one["details"] for one in service.events] == [{"cut": True}]


async def test_without_a_service_nothing_protected_is_done() -> None:
    NoRecorder().emit(event(1))
    with pytest.raises(AuditUnavailableError, match="no audit service"):
        await NoRecorder().record(event(1))


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("ftp://audit.example.org", TOKEN),
        ("audit.example.org", TOKEN),
        (f"https://hub:{TOKEN}@audit.example.org", TOKEN),
        ("https://audit.example.org", ""),
        ("https://audit.example.org", f"{TOKEN}\n"),
    ],
)
def test_what_is_no_address_or_token_is_refused(folder: Path, url: str, token: str) -> None:
    with pytest.raises(PermanentError) as caught:
        Emitter(folder, url, token, now=lambda: NOW)
    assert TOKEN not in str(caught.value)
