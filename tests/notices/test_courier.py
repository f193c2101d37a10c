"""Notices that leave the hub: each once on each way, to whom they are for, whatever dies."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import create_engine

from jupyterhub_collab.anchors.email import (
    MailServer,
    MailServerAwayError,
    NotThisMessageError,
    RecipientsRefusedError,
)
from jupyterhub_collab.anchors.notice_channel import (
    ChannelAwayError,
    NotAllTookItError,
    NoticeMessage,
)
from jupyterhub_collab.anchors.notice_email import NoticeEmail
from jupyterhub_collab.anchors.notice_webhook import NoticeWebhook
from jupyterhub_collab.contest_factory import make_notice_channels
from jupyterhub_collab.errors import PermanentError, RetryableError
from jupyterhub_collab.managers.notices import (
    AT_ONCE,
    GIVEN_UP_AFTER,
    TRIES_MAX,
    NoticeCourier,
    closes_of,
)
from jupyterhub_collab.models import ContestManifest, Invitation, NamedIdentity
from jupyterhub_collab.models.contest_life import (
    ContestRecord,
    ContestState,
    Notice,
    TeamRecord,
    TeamState,
)
from jupyterhub_collab.policy.notices import closing_notices, notice_id
from jupyterhub_collab.reconcile.backoff import Backoff
from jupyterhub_collab.storage import contest_tables as tables
from jupyterhub_collab.storage.contests import EVERYBODY, ContestStore, DeliveryState
from tests.real_hub import find_free_port
from tests.storage.contest_samples import manifest as plain_manifest

AT = datetime(2027, 3, 27, 12, 0, tzinfo=timezone.utc)


def contest(closes: str | None = "2027-03-28T12:00", **more: Any) -> ContestRecord:
    """One that runs, in Berlin; the clocks go forward in the night before its round closes."""
    wire = plain_manifest("sea").to_wire()
    wire["contest"]["timeZone"] = "Europe/Berlin"
    wire["rounds"] = [{"title": "First", "closes": closes} if closes else {"title": "First"}]
    made = ContestManifest.model_validate(wire)
    values: dict[str, Any] = {"state": ContestState.RUNNING, "round": 1, **more}
    return ContestRecord(id="sea", manifest=made, **values)


def told(record: ContestRecord, now: datetime) -> list[Notice]:
    return list(closing_notices(record, closes_of(record, now), now=now))


def test_a_day_and_an_hour_before_a_round_closes() -> None:
    record = contest()
    closes = datetime(2027, 3, 28, 10, 0, tzinfo=timezone.utc)  # summer time began in the night
    assert closes_of(record, AT) == closes
    assert told(record, closes - timedelta(hours=24, seconds=1)) == []
    (day,) = told(record, closes - timedelta(hours=24))
    assert "Round 1, First, closes at 2027-03-28 12:00 CEST, in less than 24 hours." in day.text
    assert (day.team, day.until) == ("", closes)
    (later,) = told(record, closes - timedelta(hours=2))
    assert later.key == day.key, "told once"
    (hour,) = told(record, closes - timedelta(minutes=59))
    assert "in less than an hour." in hour.text
    assert hour.key != day.key
    assert told(record, closes) == []


@pytest.mark.parametrize("state", [s for s in ContestState if s is not ContestState.RUNNING])
def test_only_of_a_round_that_runs(state: ContestState) -> None:
    assert told(contest(state=state), AT + timedelta(hours=21, minutes=30)) == []


def test_a_round_that_closes_at_another_moment_is_told_anew() -> None:
    (before,) = told(contest(), AT)
    (after,) = told(contest("2027-03-28T13:00"), AT + timedelta(hours=1))
    assert before.key != after.key
    assert told(contest(None), AT) == [], "a host closes it"


def test_a_notice_has_one_id_wherever_it_is_shown() -> None:
    notice = Notice("sea", "", "text", AT)
    assert notice_id(notice) == notice_id(replace(notice, key="another"))
    assert notice_id(notice) != notice_id(replace(notice, team="a"))


class Clock:
    at = AT

    def __call__(self) -> datetime:
        return self.at


class Channel:
    """Keeps what was sent; fails, or dies, when it is told to."""

    def __init__(self, name: str, *, is_per_team: bool = False) -> None:
        self.name, self.is_per_team = name, is_per_team
        self.sent: list[NoticeMessage] = []
        self.failing: Exception | None = None
        self.refusing: dict[str, Exception] = {}  # by team
        self.stuck: set[str] = set()  # teams for which a call never ends
        self.asked: list[tuple[int, str]] = []
        self.dies_after: int | None = None

    async def send(self, message: NoticeMessage) -> None:
        self.asked.append((message.number, message.team))
        if message.team in self.stuck:
            await asyncio.Event().wait()
        if message.team in self.refusing:
            raise self.refusing[message.team]
        if self.dies_after is not None and len(self.sent) >= self.dies_after:
            raise asyncio.CancelledError
        if self.failing is not None:
            raise self.failing
        self.sent.append(message)

    async def close(self) -> None:
        pass

    @property
    def names(self) -> list[tuple[int, str]]:
        return [(message.number, message.team) for message in self.sent]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ContestStore]:
    """A contest of three teams, whose people are named in all three ways."""
    engine = create_engine(f"sqlite:///{tmp_path / 'contests.sqlite'}")
    made = ContestStore(engine)
    made.upgrade()
    mail = [Invitation(issuer="portal", email=f"{name}@example.org") for name in "abc"]
    rosters = {
        "ocean": ("ada", mail[0], NamedIdentity(issuer="portal", subject="x@example.org")),
        "pond": ("bob",),
        "river": (mail[1], mail[2]),
    }
    teams = [TeamRecord(t, "sea", tier="small", state=TeamState.ACTIVE) for t in rosters]
    record = contest(None)
    await made.put_contest(record, teams, rosters, expected_generation=None, by="host", at=AT)
    yield made
    made.close()
    engine.dispose()


def courier(store: ContestStore, clock: Clock, *channels: Channel) -> NoticeCourier:
    backoff = Backoff(first_s=10, longest_s=40, uniform=lambda low, high: high)
    return NoticeCourier(store, channels, now=clock, backoff=backoff, away=backoff)


async def test_each_once_and_to_whom_it_is_for(store: ContestStore) -> None:
    hook, mail = Channel("hook"), Channel("mail", is_per_team=True)
    made = courier(store, Clock(), hook, mail)
    await store.put_notice(Notice("sea", "", "to all", AT))
    await store.put_notice(Notice("sea", "river", "to one", AT))
    for _ in range(2):
        await made.run_once()
    assert hook.names == [(1, ""), (2, "")]
    assert mail.names == [(1, "ocean"), (1, "river"), (2, "river")]
    assert [message.recipients for message in mail.sent] == [
        ("a@example.org",),
        ("b@example.org", "c@example.org"),
        ("b@example.org", "c@example.org"),
    ]
    assert await store.undelivered(limit=10) == ()


async def test_what_fails_is_tried_ever_more_seldom_and_the_other_way_is_not_repeated(
    store: ContestStore,
) -> None:
    hook, mail, clock = Channel("hook"), Channel("mail", is_per_team=True), Clock()
    made = courier(store, clock, hook, mail)
    hook.failing = RetryableError("it stumbled")
    await store.put_notice(Notice("sea", "", "x", AT))
    tries = []
    for second in range(0, 120, 5):
        clock.at = AT + timedelta(seconds=second)
        before = len(hook.asked)
        await made.run_once()
        tries += [second] * (len(hook.asked) - before)
    assert tries == [0, 10, 30, 70, 110]
    assert mail.names == [(1, "ocean"), (1, "river")]
    (waiting,) = (await store.deliveries.of(1, "hook")).values()
    assert (waiting.attempts, waiting.why) == (5, "it stumbled")
    hook.failing = None
    clock.at = AT + timedelta(seconds=200)
    await made.run_once()
    assert hook.names == [(1, "")]
    assert mail.names == [(1, "ocean"), (1, "river")]
    assert await store.undelivered(limit=10) == ()


async def test_one_who_refuses_holds_up_nobody_and_is_given_up_in_the_end(
    store: ContestStore,
) -> None:
    mail, clock = Channel("mail", is_per_team=True), Clock()
    made = courier(store, clock, mail)
    mail.refusing["ocean"] = RetryableError("mailbox full")
    for i in range(3):
        await store.put_notice(Notice("sea", "", f"x{i}", AT, key=str(i)))
    await made.run_once()
    assert mail.names == [(number, "river") for number in (1, 2, 3)]
    mail.refusing["river"] = PermanentError("no such user")
    await store.put_notice(Notice("sea", "river", "y", AT, key="y"))
    for _ in range(2 * TRIES_MAX):
        clock.at += timedelta(seconds=40)
        await made.run_once()
    assert mail.asked.count((1, "ocean")) == TRIES_MAX
    assert mail.asked.count((4, "river")) == 1, "for good is for good"
    undone = await store.deliveries.undone("sea", limit=10)
    assert [(n.text, d.recipient, d.attempts, d.why) for n, d in undone] == [
        ("y", "river", 1, "no such user"),
        ("x2", "ocean", TRIES_MAX, "mailbox full"),
        ("x1", "ocean", TRIES_MAX, "mailbox full"),
        ("x0", "ocean", TRIES_MAX, "mailbox full"),
    ]
    assert await store.deliveries.count_undone() == {DeliveryState.GIVEN_UP: 4}
    assert await store.undelivered(limit=10) == ()


async def test_a_way_that_is_away_is_asked_by_one_call_and_uses_up_no_try(
    store: ContestStore,
) -> None:
    mail, clock = Channel("mail", is_per_team=True), Clock()
    made = courier(store, clock, mail)
    mail.failing = ChannelAwayError("connection refused")
    for i in range(5):
        await store.put_notice(Notice("sea", "", f"x{i}", AT, key=str(i)))
    await made.run_once()
    assert len(mail.asked) <= AT_ONCE, "those that were under way at once"
    assert made.away == 1
    for _ in range(3 * TRIES_MAX):
        clock.at += timedelta(seconds=40)
        before = len(mail.asked)
        await made.run_once()
        assert len(mail.asked) == before + 1
    before = len(mail.asked)
    clock.at += timedelta(seconds=39)
    await made.run_once()
    assert len(mail.asked) == before, "left alone"
    assert await store.deliveries.count_undone() == {}
    mail.failing = None
    clock.at += timedelta(seconds=1)
    await made.run_once()
    assert sorted(mail.names) == [(n, t) for n in range(1, 6) for t in ("ocean", "river")]
    assert made.away == 0
    assert await store.undelivered(limit=10) == ()


async def test_one_way_that_is_away_holds_up_no_other(store: ContestStore) -> None:
    hook, mail = Channel("hook"), Channel("mail", is_per_team=True)
    hook.failing = ChannelAwayError("connection refused")
    await store.put_notice(Notice("sea", "", "x", AT))
    await courier(store, Clock(), hook, mail).run_once()
    assert mail.names == [(1, "ocean"), (1, "river")]


async def test_who_is_slow_takes_one_place_and_no_more(store: ContestStore) -> None:
    mail, clock = Channel("mail", is_per_team=True), Clock()
    turns = asyncio.Semaphore(0)

    async def sleep(_: float) -> None:
        await turns.acquire()

    made = NoticeCourier(store, [mail], now=clock, sleep=sleep)
    mail.stuck = {"ocean"}
    notices = [Notice("sea", "river", f"x{i}", AT, key=str(i)) for i in range(20)]
    await store.put_notice(Notice("sea", "ocean", "slow", AT))
    for notice in notices:
        await store.put_notice(notice)
    running = asyncio.create_task(made.run())
    for _ in range(1_000_000):
        if len(mail.sent) == len(notices):
            break
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert mail.names == [(number, "river") for number in range(2, 22)]
    mail.stuck = set()
    await courier(store, clock, mail).run_once()
    assert mail.names[20:] == [(1, "ocean")], "what had come was kept when it was ended"


async def test_notices_behind_a_thousand_that_wait_are_brought(store: ContestStore) -> None:
    mail, clock = Channel("mail", is_per_team=True), Clock()
    mail.refusing["ocean"] = RetryableError("mailbox full")
    for i in range(210):  # more than are looked at in one page
        await store.put_notice(Notice("sea", "ocean", f"x{i}", AT, key=str(i)))
    made = courier(store, clock, mail)
    await made.run_once()
    await store.put_notice(Notice("sea", "river", "y", AT))
    await made.run_once()
    assert mail.names == [(211, "river")]


async def test_of_a_team_s_addresses_only_the_refused_one_is_tried_again(
    store: ContestStore,
) -> None:
    mail, clock = Channel("mail", is_per_team=True), Clock()
    made = courier(store, clock, mail)
    mail.refusing["river"] = NotAllTookItError({"b@example.org": False})
    await store.put_notice(Notice("sea", "river", "x", AT))
    await made.run_once()
    assert await store.undelivered(limit=10) != ()
    rows = await store.deliveries.of(1, "mail")
    assert "example" not in repr(rows), "an address is not kept"
    mail.refusing.clear()
    clock.at += timedelta(seconds=40)
    await made.run_once()
    assert [message.recipients for message in mail.sent] == [("b@example.org",)]
    assert await store.undelivered(limit=10) == ()
    mail.refusing["river"] = NotAllTookItError({"c@example.org": True})
    await store.put_notice(Notice("sea", "river", "y", AT))
    await made.run_once()
    ((notice, delivery),) = await store.deliveries.undone("sea", limit=10)
    assert (notice.text, delivery.state) == ("y", DeliveryState.GIVEN_UP)
    assert delivery.recipient.startswith("river/")


async def test_who_left_the_team_meanwhile_is_sent_nothing(store: ContestStore) -> None:
    mail, clock = Channel("mail", is_per_team=True), Clock()
    made = courier(store, clock, mail)
    mail.refusing["river"] = NotAllTookItError({"gone@example.org": False})
    await store.put_notice(Notice("sea", "river", "x", AT))
    await made.run_once()
    mail.refusing.clear()
    clock.at += timedelta(seconds=40)
    await made.run_once()
    assert mail.sent == []
    assert await store.undelivered(limit=10) == ()


async def test_a_defect_in_a_way_is_that_one_s(store: ContestStore) -> None:
    mail = Channel("mail", is_per_team=True)
    mail.refusing["ocean"] = UnicodeEncodeError("ascii", "ö@example.org", 0, 1, "no")
    await store.put_notice(Notice("sea", "", "x", AT))
    await courier(store, Clock(), mail).run_once()
    assert mail.names == [(1, "river")]
    ((_, delivery),) = await store.deliveries.undone("sea", limit=10)
    assert delivery.why == "a defect (UnicodeEncodeError); the log has it"


async def test_a_contest_that_cannot_be_read_silences_no_other(
    store: ContestStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("bad", "odd"):
        made = contest(None)
        wire = plain_manifest(name).to_wire()
        record = replace(made, id=name, manifest=ContestManifest.model_validate(wire))
        await store.put_contest(record, (), {}, expected_generation=None, by="host", at=AT)
    with store._engine.begin() as connection:
        broken = tables.contests.update().where(tables.contests.c.id == "bad")
        connection.execute(broken.values(manifest='{"contest": 1}'))

    def deadlines(record: ContestRecord, now: datetime) -> Any:
        if record.id == "odd":
            raise ValueError("no such day")
        return real(record, now)

    from jupyterhub_collab.managers import notices as managed

    real = managed.calendar_deadlines
    monkeypatch.setattr(managed, "calendar_deadlines", deadlines)
    found = await store.contest("sea")
    assert found is not None
    changed = replace(found, manifest=contest().manifest)
    await store.put_contest(changed, (), {}, expected_generation=found.generation, by="host", at=AT)
    hook = Channel("hook")
    for name in ("bad", "odd", "sea"):
        await store.put_notice(Notice(name, "", f"to {name}", AT))
    for _ in range(3):
        await courier(store, Clock(), hook).run_once()
    told = [(m.notice.contest, m.notice.text[:7]) for m in hook.sent]
    assert told == [("odd", "to odd"), ("sea", "to sea"), ("sea", "Round 1")]
    assert sum("contest bad" in record.message for record in caplog.records) == 1


async def test_a_team_that_cannot_be_read_holds_up_no_other(store: ContestStore) -> None:
    with store._engine.begin() as connection:
        broken = tables.teams.update().where(tables.teams.c.id == "ocean")
        connection.execute(broken.values(datasets="7"))
    for team in ("ocean", "river"):
        await store.put_notice(Notice("sea", team, f"to {team}", AT))
    mail = Channel("mail", is_per_team=True)
    await courier(store, Clock(), mail).run_once()
    assert mail.names == [(1, "ocean"), (2, "river")]


async def test_the_loops_outlive_what_goes_wrong(
    store: ContestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, tries = Channel("hook"), 0

    async def sleep(_: float) -> None:
        if hook.sent and tries == 3:
            raise asyncio.CancelledError
        await asyncio.sleep(0)

    async def broken() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ValueError("no such contest")
        await asyncio.Event().wait()

    await store.put_notice(Notice("sea", "", "x", AT))
    made = NoticeCourier(store, [hook], now=Clock(), sleep=sleep)
    monkeypatch.setattr(made, "write_once", broken)
    with pytest.raises(asyncio.CancelledError):
        await made.run()
    assert hook.names == [(1, "")]


@pytest.mark.parametrize("after", range(3))
async def test_killed_anywhere_it_goes_on_where_it_was(store: ContestStore, after: int) -> None:
    hook, mail = Channel("hook"), Channel("mail", is_per_team=True)
    mail.dies_after = after
    await store.put_notice(Notice("sea", "", "to all", AT))
    await store.put_notice(Notice("sea", "river", "to one", AT))
    with pytest.raises(asyncio.CancelledError):
        await courier(store, Clock(), hook, mail).run_once()
    mail.dies_after = None
    await courier(store, Clock(), hook, mail).run_once()
    assert mail.names == [(1, "ocean"), (1, "river"), (2, "river")]
    assert hook.names == [(1, ""), (2, "")]


async def test_a_notice_that_is_over_is_brought_to_nobody(store: ContestStore) -> None:
    hook, clock = Channel("hook"), Clock()
    await store.put_notice(Notice("sea", "", "x", AT, AT + timedelta(minutes=1)))
    await store.put_notice(Notice("sea", "", "y", AT))
    clock.at = AT + GIVEN_UP_AFTER
    await courier(store, clock, hook).run_once()
    assert hook.sent == []
    assert await store.undelivered(limit=10) == ()
    undone = await store.deliveries.undone("sea", limit=10)
    assert [(d.recipient, d.state) for _, d in undone] == [
        (EVERYBODY, DeliveryState.GIVEN_UP)
    ] * 2, "hosts see that nobody was told"


async def test_without_ways_nothing_waits_and_a_round_s_end_is_told(store: ContestStore) -> None:
    found = await store.contest("sea")
    assert found is not None
    changed = replace(found, manifest=contest().manifest)
    await store.put_contest(changed, (), {}, expected_generation=found.generation, by="host", at=AT)
    clock = Clock()
    for _ in range(3):
        await courier(store, clock).run_once()
    (shown,) = await store.notices(contest="sea", now=AT)
    assert shown.text.startswith("Round 1, First, closes")
    assert await store.undelivered(limit=10) == ()


MESSAGE = NoticeMessage(
    7,
    Notice("sea", "river", "Round 1 closes.\n.\nSoon ☂", AT),
    "Sea\r\nBcc: x@example.org",
    team="river",
    recipients=("b@example.org", "c@example.org"),
)


async def test_a_webhook_is_signed() -> None:
    port = find_free_port()
    asked: list[tuple[bytes, Any]] = []
    statuses = [200, 503, 302, 401, 404, 429, 500, 413, 422]
    away = [ChannelAwayError] * 5
    kinds: list[Any] = [None, *away, RetryableError, PermanentError, PermanentError]

    async def take(request: web.Request) -> web.Response:
        asked.append((await request.read(), request.headers))
        return web.Response(status=statuses[len(asked) - 1], headers={"Location": "/other"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    secret = b"secret-of-the-tests-of-notices"
    channel = NoticeWebhook("hook", f"http://127.0.0.1:{port}/hook", secret)
    try:
        await channel.send(MESSAGE)
        body, headers = asked[0]
        assert json.loads(body)["text"] == MESSAGE.notice.text
        assert headers["X-Collab-Delivery"] == "notice/7"
        expected = hmac.new(secret, body, hashlib.sha256).hexdigest()
        assert headers["X-Collab-Signature-256"] == f"sha256={expected}"
        for status, error in zip(statuses[1:], kinds[1:], strict=True):
            with pytest.raises(error, match=str(status)) as raised:
                await channel.send(MESSAGE)
            assert type(raised.value) is error
        assert len(asked) == len(statuses), "redirects are not followed"
    finally:
        await channel.close()
        await runner.cleanup()
    with pytest.raises(ChannelAwayError, match="does not answer") as lost:
        await channel.send(MESSAGE)
    assert "secret" not in str(lost.value)
    await channel.close()


class Server:
    """Stands in for `MailServer`: what it was handed over, and what it says."""

    def __init__(self) -> None:
        self.taken: list[tuple[Any, tuple[str, ...]]] = []
        self.failing: Exception | None = None

    def send(self, message: Any, recipients: tuple[str, ...]) -> None:
        if self.failing is not None:
            raise self.failing
        self.taken.append((message, recipients))


async def test_an_e_mail_names_nobody_and_has_the_same_id_at_each_try() -> None:
    server = Server()
    channel = NoticeEmail("mail", server, sender="robot@example.org")  # type: ignore[arg-type]
    await channel.send(MESSAGE)
    await channel.send(MESSAGE)
    (first, recipients), (second, _) = server.taken
    assert recipients == MESSAGE.recipients
    assert first["Message-ID"] == second["Message-ID"] == "<notice-7-river@example.org>"
    text = first.as_string()
    assert "b@example.org" not in text
    assert first["Bcc"] is None, "a title is no header"
    assert first.get_content().startswith("Round 1 closes.")
    for failing, error in (
        (RecipientsRefusedError({"b@example.org": True}), NotAllTookItError),
        (MailServerAwayError("away"), ChannelAwayError),
        (PermanentError("password"), ChannelAwayError),
        (NotThisMessageError("too large"), NotThisMessageError),
        (RetryableError("later"), RetryableError),
    ):
        server.failing = failing
        with pytest.raises(error) as raised:
            await channel.send(MESSAGE)
        assert type(raised.value) is error
    assert len(server.taken) == 2
    await channel.close()
    server.failing = None
    await channel.send(MESSAGE)  # by who has the lease again
    assert len(server.taken) == 3
    await channel.close()
    await channel.close()


class Scripted(threading.Thread):
    """A mail server that answers as it is told, by the command's first word or its address."""

    def __init__(self, answers: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._answers = answers

    def run(self) -> None:
        link, _ = self._socket.accept()
        with link, link.makefile("rwb", buffering=0) as lines:
            lines.write(f"{self._answers.get('hello', '220 mail')}\r\n".encode())
            is_data = False
            while raw := lines.readline():
                line = raw.decode().strip()
                if is_data and line != ".":
                    continue
                word = "end" if is_data else line.split()[0].lower()
                is_data = False
                said = self._answers.get(word, "250 ok")
                for name, answer in self._answers.items():
                    if "@" in name and name in line and word == "rcpt":
                        said = answer
                if word == "data" and said == "250 ok":
                    said, is_data = "354 go on", True
                if word == "quit":
                    said = "221 bye"
                lines.write(f"{said}\r\n".encode())
        self._socket.close()


@pytest.mark.parametrize(
    ("answers", "kind", "refused"),
    [
        ({}, None, None),
        ({"b@": "550 no"}, RecipientsRefusedError, {"b@example.org": True}),
        ({"b@": "450 later"}, RecipientsRefusedError, {"b@example.org": False}),
        (
            {"b@": "450 later", "c@": "550 no"},
            RecipientsRefusedError,
            {"b@example.org": False, "c@example.org": True},
        ),
        ({"data": "554 no"}, NotThisMessageError, None),
        ({"data": "451 later"}, RetryableError, None),
        ({"mail": "552 too large"}, NotThisMessageError, None),
        ({"mail": "421 bye"}, MailServerAwayError, None),
        ({"hello": "554 no"}, MailServerAwayError, None),
    ],
)
def test_what_a_mail_server_says_is_about_one_or_about_all(
    answers: dict[str, str], kind: Any, refused: Any
) -> None:
    server = Scripted(answers)
    server.start()
    made = EmailMessage()
    made["From"], made["To"] = "robot@example.org", "undisclosed-recipients:;"
    made.set_content("text\n")
    mail = MailServer("127.0.0.1", server.port)
    if kind is None:
        mail.send(made, MESSAGE.recipients)
    else:
        with pytest.raises(kind) as raised:
            mail.send(made, MESSAGE.recipients)
        assert type(raised.value) is kind
        assert refused is None or raised.value.refused == refused
    server.join(10)


def test_nobody_listens() -> None:
    with pytest.raises(MailServerAwayError):
        MailServer("127.0.0.1", find_free_port()).send(EmailMessage(), ("b@example.org",))


def test_ways_as_a_file_says(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x" * 16)
    channels = [
        {"kind": "webhook", "url": "https://example.org/", "secret_file": str(tmp_path / "secret")},
        {"kind": "email", "host": "mail.example.org", "sender": "robot@example.org"},
    ]
    file = tmp_path / "notices.json"
    file.write_text(json.dumps({"channels": channels}))
    assert [c.name for c in make_notice_channels(file)] == ["webhook", "email"]
    (tmp_path / "secret").write_text("short")
    with pytest.raises(PermanentError, match="shorter than 16 bytes"):
        make_notice_channels(file)
    file.write_text(json.dumps({"channels": [{"kind": "pigeon"}]}))
    with pytest.raises(PermanentError, match="pigeon"):
        make_notice_channels(file)
