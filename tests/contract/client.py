"""The suite's own client: raw requests, so that a statement is about the API and no library."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

Json = dict[str, Any]

MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
_PATIENCE_S: Final = 30.0
_GROUPS: Final = {
    "networkpolicies": "networking.k8s.io",
    "roles": "rbac.authorization.k8s.io",
    "rolebindings": "rbac.authorization.k8s.io",
    "clusterroles": "rbac.authorization.k8s.io",
    "clusterrolebindings": "rbac.authorization.k8s.io",
    "jobs": "batch",
    "leases": "coordination.k8s.io",
    "storageclasses": "storage.k8s.io",
    "validatingadmissionpolicies": "admissionregistration.k8s.io",
    "validatingadmissionpolicybindings": "admissionregistration.k8s.io",
}


def path_of(plural: str, namespace: str | None = None, name: str = "", sub: str = "") -> str:
    """Path of a collection or an object; `namespace` None: cluster-scoped, or all of them."""
    group = _GROUPS.get(plural)
    parts = [f"/apis/{group}/v1" if group else "/api/v1"]
    parts += [f"namespaces/{namespace}"] if namespace else []
    return "/".join([*parts, plural, *filter(None, (name, sub))])


@dataclass(frozen=True)
class Answer:
    """Status code and decoded body."""

    code: int
    body: Json

    def expect(self, *codes: int) -> Json:
        """The body; fails when the code is another."""
        assert self.code in (codes or (200, 201)), (self.code, self.body)
        return self.body


class Api:
    """Requests with a kubeconfig's credentials."""

    def __init__(
        self, session: aiohttp.ClientSession, server: str, tls: ssl.SSLContext | bool
    ) -> None:
        self._session = session
        self.server = server
        self.tls = tls

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> Answer:
        text = None if body is None else json.dumps(body)
        sent = {"Content-Type": kind, **(headers or {})}
        url = self.server + path
        parameters = {k: str(v) for k, v in query.items()}
        async with self._session.request(
            method, url, data=text, params=parameters, headers=sent, ssl=self.tls
        ) as answer:
            raw = await answer.text()
            decoded = json.loads(raw) if raw[:1] in ("{", "[") else {"text": raw}
            return Answer(answer.status, decoded)

    async def get(self, path: str, **query: Any) -> Answer:
        return await self.request("GET", path, **query)

    async def post(self, path: str, body: Json, **query: Any) -> Answer:
        return await self.request("POST", path, body, **query)

    async def put(self, path: str, body: Json, **query: Any) -> Answer:
        return await self.request("PUT", path, body, **query)

    async def patch(self, path: str, body: Any, kind: str = MERGE, **query: Any) -> Answer:
        return await self.request("PATCH", path, body, kind=kind, **query)

    async def delete(self, path: str, body: Json | None = None, **query: Any) -> Answer:
        return await self.request("DELETE", path, body, **query)

    async def apply(
        self, path: str, body: Json, manager: str = "suite", *, force: bool = False, **query: Any
    ) -> Answer:
        query = {"fieldManager": manager, **({"force": "true"} if force else {}), **query}
        return await self.request("PATCH", path, body, kind=APPLY, **query)

    async def until(
        self, path: str, holds: Callable[[Answer], bool], patience_s: float = _PATIENCE_S
    ) -> Answer:
        """Ask until the answer is as wanted."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        while True:
            answer = await self.get(path)
            if holds(answer):
                return answer
            assert loop.time() < end, f"{path} never became so: {answer}"
            await asyncio.sleep(0.05)

    async def until_gone(self, path: str) -> None:
        await self.until(path, lambda answer: answer.code == 404)

    async def watch(self, path: str, **query: Any) -> AsyncGenerator[Json, None]:
        """Events of a watch, until the server ends it."""
        url = self.server + path
        parameters = {"watch": "true", "timeoutSeconds": "30"}
        parameters |= {k: str(v) for k, v in query.items()}
        async with self._session.get(url, params=parameters, ssl=self.tls) as answer:
            assert answer.status == 200, await answer.text()
            transport = answer.connection.transport if answer.connection else None
            buffer = b""
            try:
                async for chunk in answer.content.iter_any():
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    for line in lines:
                        yield json.loads(line)
            finally:
                if transport is not None:  # left early: a polite TLS goodbye outlives the loop
                    transport.abort()

    async def events(self, path: str, count: int, **query: Any) -> list[Json]:
        """The first `count` events of a watch."""

        async def collect() -> list[Json]:
            found: list[Json] = []
            async with aclosing(self.watch(path, **query)) as stream:
                async for event in stream:
                    found.append(event)
                    if len(found) == count:
                        break
            return found

        return await asyncio.wait_for(collect(), _PATIENCE_S)


@asynccontextmanager
async def connect(kubeconfig: Path) -> AsyncIterator[Api]:
    """An `Api` for a kubeconfig's only context: by token or by client certificate."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    with tempfile.TemporaryDirectory() as folder:

        def file_of(section: Json, key: str) -> str | None:
            if f"{key}-data" in section:
                path = Path(folder) / key
                path.write_bytes(base64.b64decode(section[f"{key}-data"]))
                return str(path)
            return section.get(key)

        tls = ssl.create_default_context(cafile=file_of(cluster, "certificate-authority"))
        certificate = file_of(user, "client-certificate")
        if certificate:
            tls.load_cert_chain(certificate, file_of(user, "client-key"))
    token = user.get("token")
    headers = {"User-Agent": "contract-suite"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield Api(session, cluster["server"], tls)
