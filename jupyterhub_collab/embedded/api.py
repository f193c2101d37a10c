"""The embedded API server: paths, query parameters, content types; a program of its own.

The HTTP door only: what the verbs mean is in `objects`, what follows by itself in `controllers`.

Notes
-----
https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from aiohttp import web

from ..errors import PermanentError
from ..kube import kinds as k
from .admission import FINISHED
from .controllers import Controllers
from .failures import ApiError, bad_request, not_found, unsupported
from .fields import merge, merge_items
from .folder import Paths
from .ingress import IngressController, read_names
from .objects import Objects, Write
from .program import run, until_stopped
from .resources import BY_PATH, DISCOVERY, SUBRESOURCES, Json, to_table
from .selectors import Predicate, parse_selectors
from .store import Store
from .watching import Watch

_BODY_MAX_BYTES: Final = 3 << 20  # as the real API server's
_APPLY: Final = "application/apply-patch+yaml"
_PATCHES: Final = {
    "application/merge-patch+json": merge,
    "application/strategic-merge-patch+json": merge_items,
}


@dataclass(frozen=True)
class Target:
    """What a request's path names. `namespace` None: all; "": a cluster-scoped kind."""

    kind: k.Kind
    namespace: str | None
    name: str
    subresource: str


def parse_path(path: str) -> Target:
    """Raises ApiError 404 for a path that is not served."""
    _, root, *parts = path.rstrip("/").split("/")
    version = "/".join(parts[: 1 if root == "api" else 2])
    rest, namespace = parts[1 if root == "api" else 2 :], None
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] != "status":
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource, *more = (*rest, "", "", "")
    kind = BY_PATH.get((version, plural))
    if kind is None or any(more) or subresource not in ("", *SUBRESOURCES.get(kind, ())):
        raise ApiError(404, "NotFound", "the server could not find the requested resource", {})
    return Target(kind, namespace if kind.namespaced else "", name, subresource)


def _is_set(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")  # Python clients write True


async def _read_body(request: web.Request) -> Any:
    raw, content_type = await request.read(), request.content_type
    if raw and not content_type.endswith(("json", "yaml")):
        raise unsupported(content_type)
    return yaml.safe_load(raw) if content_type.endswith("yaml") else json.loads(raw or b"{}")


class Server:
    """Requests to verbs."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._token = f"Bearer {paths.token}"
        self.store = Store(paths.database)
        self._objects = Objects(self.store)
        ca = paths.ca_certificate.read_text()
        self._controllers = Controllers(self._objects, paths.volumes, ca)
        self._controllers.bootstrap()
        self._controllers.settle()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request; failures become Status bodies."""
        try:
            return await self._route(request)
        except ApiError as error:
            return web.json_response(error.to_status(), status=error.code)
        except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
            found = bad_request(f"the object is not of the right form: {error!r}")
            return web.json_response(found.to_status(), status=400)
        finally:
            # After the answer, as the real controllers: clients see the state they caused first.
            asyncio.get_running_loop().call_soon(self._controllers.settle)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        method, query = request.method, request.query
        if request.path == "/readyz":
            return web.Response(text="ok")
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise ApiError(401, "Unauthorized", "Unauthorized")
        if (document := DISCOVERY.get(request.path.rstrip("/"))) is not None:
            return web.json_response(document)
        target = parse_path(request.path)
        selects = parse_selectors(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        if method == "GET" and _is_set(query, "watch"):
            return await self._watch(request, target, selects)
        if method == "GET" and target.subresource == "log":
            return await self._log(request, self._live(target))
        if method == "GET":
            found = self._live(target) if target.name else self._list(query, target, selects)
            if "as=Table" in request.headers.get("Accept", ""):
                meta = found["metadata"] if "items" in found else {}
                found = to_table(target.kind, found.get("items", [found]), meta)
            return web.json_response(found)
        body = await _read_body(request)
        if method == "DELETE":
            return self._delete(query, target, body)
        return self._write(request, target, body)

    def _live(self, target: Target) -> Json:
        found = self.store.get(target.kind, target.namespace or "", target.name)
        if found is None:
            raise not_found(target.kind, target.name)
        return found

    def _write(self, request: web.Request, target: Target, body: Any) -> web.Response:
        kind, namespace, query = target.kind, target.namespace or "", request.query
        method, content_type = request.method, request.content_type
        manager = query.get("fieldManager", "")
        agent = manager or request.headers.get("User-Agent", "unknown").split("/")[0]
        by = Write(agent, query.get("dryRun") == "All", _is_set(query, "force"))
        if method == "POST" and not target.name:
            made = self._objects.create(kind, namespace, body, by)
            return web.json_response(made, status=201)
        if method == "PATCH" and content_type == _APPLY:
            if not manager:
                why = "fieldManager: Required value: is required for apply patch"
                raise ApiError(422, "Invalid", f'PatchOptions.meta.k8s.io "" is invalid: {why}', {})
            body.setdefault("metadata", {})["name"] = target.name
            made, is_new = self._objects.apply(kind, namespace, body, by)
            return web.json_response(made, status=201 if is_new else 200)
        live = self._live(target)
        if method == "PATCH" and content_type in _PATCHES:
            body = _PATCHES[content_type](live, body)
        elif method != "PUT":
            raise unsupported(content_type)
        is_status = target.subresource == "status"
        return web.json_response(self._objects.update(kind, live, body, by, status=is_status))

    def _delete(self, query: Mapping[str, str], target: Target, options: Json) -> web.Response:
        kind, dry_run = target.kind, query.get("dryRun") == "All" or bool(options.get("dryRun"))
        if "gracePeriodSeconds" in query:
            options = {**options, "gracePeriodSeconds": int(query["gracePeriodSeconds"])}
        last, gone = self._objects.delete(kind, self._live(target), options, dry_run=dry_run)
        if not gone or kind is k.POD:
            return web.json_response(last)
        details = {"name": target.name, "kind": kind.plural, "uid": last["metadata"]["uid"]}
        done = {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details}
        return web.json_response(done)

    def _list(self, query: Mapping[str, str], target: Target, selects: Predicate) -> Json:
        """A page of objects. A later page shows newer objects, but tells the first page's version:
        a watch from there misses nothing."""
        version, *after = str(self.store.version), "", ""
        if token := query.get("continue"):
            version, *after = json.loads(base64.urlsafe_b64decode(token))
        kind, limit = target.kind, int(query.get("limit") or 0)
        found = [
            obj
            for obj in self.store.select(kind, target.namespace)
            if [obj["metadata"].get("namespace", ""), obj["metadata"]["name"]] > after
            and selects(obj)
        ]
        meta: Json = {"resourceVersion": version}
        if limit and len(found) > limit:
            last = found[limit - 1]["metadata"]
            position = json.dumps([version, last.get("namespace", ""), last["name"]]).encode()
            meta["continue"] = base64.urlsafe_b64encode(position).decode()
            found = found[:limit]
        head = {"kind": f"{kind.name}List", "apiVersion": kind.api_version}
        return {**head, "metadata": meta, "items": found}

    async def _watch(
        self, request: web.Request, target: Target, selects: Predicate
    ) -> web.StreamResponse:
        def in_scope(obj: Json) -> bool:
            meta = obj["metadata"]
            here = target.namespace in (None, meta.get("namespace", ""))
            return here and target.name in ("", meta["name"]) and selects(obj)

        query, as_table = request.query, "as=Table" in request.headers.get("Accept", "")
        bookmarks = _is_set(query, "allowWatchBookmarks")
        watch = Watch(self.store, target.kind, in_scope, as_table, bookmarks)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        initial = _is_set(query, "sendInitialEvents")
        since = query.get("resourceVersion", "")
        from_now = since in ("", "0") or initial
        length_s = float(query.get("timeoutSeconds") or "inf")
        lines = watch.run(None if from_now else int(since), initial, length_s)
        # When the client goes away this ends by ConnectionResetError or by cancellation.
        with contextlib.suppress(ConnectionResetError):
            async with contextlib.aclosing(lines):
                async for some in lines:
                    await response.write(some)
        return response

    async def _log(self, request: web.Request, pod: Json) -> web.StreamResponse:
        """A container's output, from the node's file; `follow` goes on until the pod has ended."""
        names, meta = [c["name"] for c in pod["spec"]["containers"]], pod["metadata"]
        name = request.query.get("container") or names[0]
        path = self._paths.pods / meta["uid"] / f"{name}.log"
        if name not in names or not path.exists():
            where = f'container "{name}" in pod "{meta["name"]}"'
            raise bad_request(f"{where} is waiting to start: ContainerCreating")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with path.open("rb") as file:
            lines = file.read().splitlines(keepends=True)
            shown = min(int(request.query.get("tailLines", len(lines))), len(lines))
            await response.write(b"".join(lines[len(lines) - shown :]))
            while _is_set(request.query, "follow"):
                live = self.store.get(k.POD, meta["namespace"], meta["name"])
                await response.write(file.read())
                if live is None or live["status"]["phase"] in FINISHED:
                    break
                await asyncio.sleep(0.2)
        return response


async def serve(paths: Paths) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises
    ------
    PermanentError
        Busy port, broken data.
    """
    server = Server(paths)
    app = web.Application(client_max_size=_BODY_MAX_BYTES)
    app.router.add_route("*", "/{path:.*}", server.handle)
    host, _, port = paths.server.removeprefix("https://").rpartition(":")
    names, runners, following = read_names(paths), [], []
    try:
        runners.append(await _listen(app, host, int(port), paths.server_context()))
        if names is not None:
            controller, routed = IngressController(server.store, names), web.Application()
            routed.router.add_route("*", "/{path:.*}", controller.handle)
            runners.append(await _listen(routed, host, names.port, None))
            following.append(asyncio.create_task(controller.follow()))
        await until_stopped()
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        for runner in runners:
            await runner.cleanup()
        server.store.close()


async def _listen(
    app: web.Application, host: str, port: int, context: ssl.SSLContext | None
) -> web.AppRunner:
    """Raises PermanentError: the port is busy."""
    # A watch of a client that is gone is cancelled; writes have no await that could be.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
    except OSError as error:
        await runner.cleanup()
        message = f"The embedded API server cannot listen on {host}:{port} ({error.strerror}): "
        message += "stop the program that uses this port, or choose another."
        raise PermanentError(message) from error
    return runner


if __name__ == "__main__":
    run("api", serve)
