"""The client's own: whom it trusts, whom it tells the token, what it makes of hostile answers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest
from aiohttp import web

from jupyterhub_collab.auditapi import Emitter
from jupyterhub_collab.auditapi.client import (
    Answer,
    AuditClient,
    DeniedError,
    NoAnswerError,
    NotTakenError,
)
from jupyterhub_collab.errors import AuditUnavailableError, CollabError, PermanentError
from jupyterhub_collab.models.audit import AuditEvent, Verb
from tests.auditapi.scripted_service import TOKEN, Service, serving
from tests.identity.publishing import make_certificate

NOW = datetime(2027, 1, 31, 18, 0, tzinfo=timezone.utc)


@asynccontextmanager
async def answering(response: web.Response) -> AsyncIterator[tuple[AuditClient, list[web.Request]]]:
    """A client, and a server that always gives this answer; what it was asked."""
    asked: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request)
        # A response is good for one request.
        return web.Response(
            status=response.status, body=response.body, headers=dict(response.headers)
        )

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        async with AuditClient(f"http://{host}:{port}/audit/", TOKEN, now=lambda: NOW) as client:
            yield client, asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "1", '{"acknowledged": "5"}', "\0" * 9])
async def test_a_yes_must_say_what_is_stored(text: str) -> None:
    async with answering(web.Response(text=text)) as (client, _):
        with pytest.raises(NoAnswerError):
            await client.post(b"{}")


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    async with answering(web.Response(text="9" * 10_000_000)) as (client, _):
        with pytest.raises(NoAnswerError):
            await client.post(b"{}")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ('{"acknowledged": 7, "stored": [3, 5]}', Answer(7, True)),
        ('{"acknowledged": 7, "stored": null}', Answer(7, False)),
        ('{"acknowledged": 7, "stored": [null, null]}', Answer(7, False)),
        ('{"acknowledged": 7}', Answer(7, True)),
        ('{"acknowledged": 7, "stored": [3, 5], "rejected": [6]}', Answer(7, True, frozenset({6}))),
    ],
)
async def test_what_a_yes_means(said: str, meant: Answer) -> None:
    async with answering(web.Response(text=said)) as (client, asked):
        assert await client.post(b"{}") == meant
    assert asked[0].path == "/audit/api/events"
    assert asked[0].headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, DeniedError),
        (400, DeniedError),
        (401, DeniedError),
        (403, DeniedError),
        (404, DeniedError),
        (413, NotTakenError),
        (422, NotTakenError),
        (408, NoAnswerError),
        (429, NoAnswerError),
        (500, NoAnswerError),
        (503, NoAnswerError),
    ],
)
async def test_refusals_say_what_to_do_next(status: int, error: type[CollabError]) -> None:
    said = '{"message": "line one\\nline two"}'
    response = web.Response(status=status, text=said, headers={"Location": "/elsewhere"})
    async with answering(response) as (client, asked):
        with pytest.raises(error, match=f"{status} line oneline two") as caught:
            await client.post(b"{}")
    assert len(asked) == 1  # a redirect would carry the token elsewhere
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Sun, 31 Jan 2027 18:00:30 GMT", 30.0),
        ("Sun, 31 Jan 2027 17:00:00 GMT", 0.0),
        ("-1", 0.0),
        ("nan", None),
        ("soon", None),
    ],
)
async def test_retry_after(header: str, seconds: float | None) -> None:
    response = web.Response(status=503, headers={"Retry-After": header})
    async with answering(response) as (client, _):
        with pytest.raises(NoAnswerError) as caught:
            await client.post(b"{}")
    assert caught.value.retry_after_s == seconds


async def test_only_a_certificate_that_is_trusted_is_told_the_token(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    context, certificate = make_certificate(tmp_path)
    event = AuditEvent(time=NOW, verb=Verb.LOGIN, thing="1")
    async with serving(Service(), tls=context) as service:
        made = Emitter(folder, service.url, TOKEN, now=lambda: NOW, timeout_s=0.5, flush_s=0)
        async with made as emitter:
            with pytest.raises(AuditUnavailableError):
                await emitter.record(event)
        assert service.requests == 0
        assert "is not trusted; name its issuer's as ca_file" in caplog.text
        made = Emitter(folder, service.url, TOKEN, now=lambda: NOW, ca_file=certificate, flush_s=0)
        async with made as emitter:
            await emitter.record(event)
    assert [one["outcome"] for one in service.events] == ["succeeded", "refused", "succeeded"]
    assert TOKEN not in caplog.text


async def test_a_file_without_certificates_is_said(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    made = Emitter(
        folder,
        "https://audit.example.org",
        TOKEN,
        now=lambda: NOW,
        ca_file=tmp_path / "ca.pem",
    )
    with pytest.raises(PermanentError, match=r"ca\.pem holds no certificates"):
        await made.__aenter__()
    # And the folder is free again.
    async with (
        serving(Service()) as service,
        Emitter(folder, service.url, TOKEN, now=lambda: NOW) as emitter,
    ):
        await emitter.record(AuditEvent(time=NOW, verb=Verb.LOGIN))
