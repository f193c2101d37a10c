"""The client's errors: what can be done about them, in sentences without secrets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from jupyterhub_collab.errors import KubeError, PermanentError, RetryableError
from jupyterhub_collab.kube import kinds
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.kube.errors import ConflictError, GoneError, NotFoundError

TOKEN = "a-very-secret-token"
DATE = "Mon, 01 Mar 2027 10:00:00 GMT"
Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handle], Awaitable[KubeClient]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(handler)` gives a client of a server that answers so."""
    ends: list[Callable[[], Awaitable[Any]]] = []

    async def start(handle: Handle) -> KubeClient:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        configuration = Configuration(host=f"http://{host}:{port}")
        configuration.api_key["BearerToken"] = f"Bearer {TOKEN}"
        client = KubeClient(configuration, timeout_s=2)
        await client.__aenter__()
        ends.append(runner.cleanup)
        ends.append(lambda: client.__aexit__(None, None, None))
        return client

    yield start
    for end in reversed(ends):
        await end()


def status(code: int, **fields: Any) -> Handle:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "code": code, **fields}, status=code)

    return handle


TERMINATING = {"details": {"causes": [{"reason": "NamespaceTerminating"}]}}


@pytest.mark.parametrize(
    ("code", "fields", "expected"),
    [
        (400, {}, PermanentError),
        (401, {}, RetryableError),  # the credentials are read again
        (403, {}, PermanentError),
        (403, TERMINATING, RetryableError),
        (404, {}, NotFoundError),
        (409, {}, ConflictError),
        (410, {}, GoneError),
        (422, {}, PermanentError),
        (429, {}, RetryableError),
        (500, {}, RetryableError),
        (503, {}, RetryableError),
        (504, {}, RetryableError),
    ],
)
async def test_refusals_are_sorted_by_what_can_be_done(
    serve: Serve, code: int, fields: dict[str, Any], expected: type[Exception]
) -> None:
    client = await serve(status(code, reason="Because", message="the API's own words", **fields))
    with pytest.raises(expected) as refused:
        await client.get(kinds.NETWORK_POLICY, "deny-all", "team-ocean")
    error = refused.value
    assert isinstance(error, KubeError)
    assert (error.status, error.reason, error.name) == (code, "Because", "deny-all")
    assert "get NetworkPolicy deny-all in namespace team-ocean" in str(error)
    assert "the API's own words" in str(error)
    assert TOKEN not in str(error)


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"Retry-After": "7"}, {}, 7.0),
        ({}, {"details": {"retryAfterSeconds": 3}}, 3.0),
        ({"Retry-After": "soon"}, {}, None),
        ({"Retry-After": "1000000"}, {}, 300.0),
        ({"Retry-After": "Mon, 01 Mar 2027 10:00:07 GMT", "Date": DATE}, {}, 7.0),
        ({"Retry-After": "Mon, 01 Mar 2027 09:00:00 GMT", "Date": DATE}, {}, 0.0),
        ({"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}, {}, 300.0),
        ({"Retry-After": "Mon, 40 Mar 2027 10:00:07 GMT", "Date": DATE}, {}, None),
        ({}, {}, None),
    ],
)
async def test_retry_after(
    serve: Serve, headers: dict[str, str], body: dict[str, Any], expected: float | None
) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response(body, status=429, headers=headers)

    client = await serve(handle)
    with pytest.raises(RetryableError) as refused:
        await client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})
    assert refused.value.retry_after_s == expected


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{", b"null"])
async def test_an_answer_that_is_none_is_no_answer(serve: Serve, body: bytes) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=body)

    client = await serve(handle)
    with pytest.raises(RetryableError) as refused:
        await client.get(kinds.NAMESPACE, "x")
    assert refused.value.status == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("body", [b"", b"<html>gateway</html>", b"[1]"])
async def test_refusals_of_something_in_between_are_understood(serve: Serve, body: bytes) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=body, status=502)

    client = await serve(handle)
    with pytest.raises(RetryableError, match="502"):
        await client.get(kinds.NAMESPACE, "x")


async def test_a_cut_connection_is_retryable(serve: Serve) -> None:
    async def handle(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    client = await serve(handle)
    with pytest.raises(RetryableError, match="no answer"):
        await client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})


async def test_nobody_there_is_retryable() -> None:
    async with KubeClient(Configuration(host="http://127.0.0.1:9")) as client:
        with pytest.raises(RetryableError, match="no answer"):
            await client.get(kinds.NAMESPACE, "x")


async def test_a_watch_reads_events_of_any_size_in_any_pieces(serve: Serve) -> None:
    large = {
        "type": "ADDED",
        "object": {"metadata": {"resourceVersion": "1"}, "x": "y" * 3_000_000},
    }
    small = {"type": "MODIFIED", "object": {"metadata": {"resourceVersion": "2"}}}

    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.query["allowWatchBookmarks"] == "true"
        response = web.StreamResponse()
        await response.prepare(request)
        text = (json.dumps(large) + "\n" + json.dumps(small) + "\n").encode()
        for start in range(0, len(text), 1_000_003):
            await response.write(text[start : start + 1_000_003])
        return response

    client = await serve(handle)
    events = [event async for event in client.watch(kinds.NAMESPACE, resource_version="0")]
    assert [event.type for event in events] == ["ADDED", "MODIFIED"]


async def test_410_in_a_watch_is_gone(serve: Serve) -> None:
    async def handle(_: web.Request) -> web.Response:
        body = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
        return web.Response(text=json.dumps(body) + "\n")

    client = await serve(handle)
    with pytest.raises(GoneError):
        async for _ in client.watch(kinds.NAMESPACE, resource_version="1"):
            pass


async def test_a_silent_watch_is_a_broken_one(serve: Serve) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"\n")
        await asyncio.Event().wait()  # cancelled when the client goes away, or the server ends
        return response

    client = await serve(handle)
    with pytest.raises(RetryableError, match="no answer"):
        async for _ in client.watch(kinds.NAMESPACE, resource_version="1", stall_s=0.1):
            pass


async def test_a_kubeconfig_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"kubeconfig .*nowhere cannot be used"):
        await KubeClient.from_kubeconfig(tmp_path / "nowhere")


def test_outside_a_pod_it_says_what_to_set() -> None:
    with pytest.raises(PermanentError, match="Set KUBECONFIG"):
        KubeClient.in_cluster()


@pytest.mark.parametrize(
    ("kind", "namespace", "name", "path"),
    [
        (kinds.NAMESPACE, None, "x", "/api/v1/namespaces/x"),
        (kinds.POD, None, None, "/api/v1/pods"),
        (kinds.POD, "a", "b", "/api/v1/namespaces/a/pods/b"),
        (kinds.LEASE, "a", None, "/apis/coordination.k8s.io/v1/namespaces/a/leases"),
        (kinds.POD, "../..", "x/y?z", "/api/v1/namespaces/..%2F../pods/x%2Fy%3Fz"),
    ],
)
def test_paths(kind: kinds.Kind, namespace: str | None, name: str | None, path: str) -> None:
    assert kind.path(namespace, name) == path


async def test_no_cookie_is_kept(serve: Serve) -> None:
    """No credentials but the configuration's are ever sent, a load balancer's neither."""
    sent: list[str | None] = []

    async def handle(request: web.Request) -> web.Response:
        sent.append(request.headers.get("Cookie"))
        answer = web.json_response({"kind": "Namespace"})
        answer.set_cookie("route", "1")
        return answer

    client = await serve(handle)
    # By name: for addresses aiohttp keeps none in any case.
    client._configuration.host = client._configuration.host.replace("127.0.0.1", "localhost")
    await client.get(kinds.NAMESPACE, "ocean")
    await client.get(kinds.NAMESPACE, "ocean")
    assert sent == [None, None]
