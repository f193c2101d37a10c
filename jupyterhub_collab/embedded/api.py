"""The embedded API server: paths, query parameters, content types; a program of its own.

The HTTP door only: what the verbs mean is in `objects`, what follows by itself in `controllers`.

Notes
-----
https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hmac
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import yaml
from aiohttp import web

from ..errors import PermanentError
from . import resources as r
from .controllers import EVENT_LIFE_S, Controllers
from .failures import ApiError, bad_request, not_found, unsupported
from .folder import Paths, hold_lease, prepare
from .objects import FINISHED, Objects, to_time
from .patches import json_patch, merge
from .resources import Resource, make_discovery, to_table
from .selectors import Predicate, parse_selectors
from .store import Store
from .watching import Watch

Json = dict[str, Any]

_BODY_MAX_BYTES: Final = 3 << 20  # as the real API server's
_HEALTH: Final = ("healthz", "readyz", "livez")
_REVIEWS: Final = ("selfsubjectaccessreviews", "subjectaccessreviews")
_SUCCESS: Final = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
_APPLY: Final = "application/apply-patch+yaml"
_JSON_PATCH: Final = "application/json-patch+json"
_MERGES: Final = {  # whether lists of named items are merged by key
    "application/merge-patch+json": False,
    "application/strategic-merge-patch+json": True,
}


@dataclass(frozen=True)
class Target:
    """What a request's path names. `namespace` None: all; "": a cluster-scoped kind."""

    resource: Resource
    namespace: str | None
    name: str
    subresource: str


def parse_path(parts: list[str]) -> Target:
    """Raises ApiError 404 for a path that is not served."""
    group, rest = ("", parts[2:]) if parts[:2] == ["api", "v1"] else ("", [])
    if parts[:1] == ["apis"] and parts[2:3] == ["v1"]:
        group, rest = parts[1], parts[3:]
    namespace = None
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] != "status":
        namespace, rest = rest[1], rest[2:]
    resource = r.BY_PATH.get((group, rest[0])) if len(rest) in (1, 2, 3) else None
    name, subresource = (*rest[1:], "", "")[:2]
    if resource is None or (subresource and subresource not in resource.subresources):
        message = "the server could not find the requested resource"
        raise ApiError(404, "NotFound", message, {})
    return Target(resource, namespace if resource.namespaced else "", name, subresource)


def _is_set(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")  # Python clients write True


async def _read_body(request: web.Request) -> Any:
    raw = await request.read()
    kind = request.content_type
    if raw and not kind.endswith(("json", "yaml")):
        raise unsupported(kind)
    try:
        return (yaml.safe_load(raw) if kind.endswith("yaml") else json.loads(raw)) if raw else {}
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"the body cannot be read: {error}") from error


def _answer(request: web.Request, resource: Resource, obj: Json) -> web.Response:
    """An object or a list of them, as a table for those who want one."""
    if "as=Table" not in request.headers.get("Accept", ""):
        return web.json_response(obj)
    meta = obj["metadata"] if "items" in obj else {}
    return web.json_response(to_table(resource, obj.get("items", [obj]), meta))


class Server:
    """Requests to verbs."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._token = f"Bearer {paths.token}"
        self.store = Store(paths.database)
        self._objects = Objects(self.store)
        ca = paths.ca_certificate.read_text()
        self.controllers = Controllers(self._objects, paths.volumes, ca)
        self.controllers.bootstrap()
        self.controllers.settle()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request; failures become Status bodies."""
        try:
            return await self._route(request)
        except ApiError as error:
            return web.json_response(error.to_status(), status=error.code)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            found = bad_request(f"the object is not of the right form: {error!r}")
            return web.json_response(found.to_status(), status=400)
        finally:
            # After the answer, as the real controllers: clients see the state they caused first.
            asyncio.get_running_loop().call_soon(self.controllers.settle)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        parts = [p for p in request.path.split("/") if p]
        if parts and parts[0] in _HEALTH:
            return web.Response(text="ok")
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise ApiError(401, "Unauthorized", "Unauthorized")
        if (document := make_discovery(parts)) is not None:
            return web.json_response(document)
        if parts[1:3] == ["authorization.k8s.io", "v1"] and parts[3] in _REVIEWS:
            review = await _read_body(request)  # whoever holds the token may do everything
            return web.json_response({**review, "status": {"allowed": True}}, status=201)
        target, query = parse_path(parts), request.query
        selects = parse_selectors(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        if request.method == "GET" and _is_set(query, "watch"):
            return await self._watch(request, target, selects)
        if request.method == "GET" and target.subresource == "log":
            return await self._log(request, self._live(target))
        if request.method == "GET":
            found = self._live(target) if target.name else self._list(query, target, selects)
            return _answer(request, target.resource, found)
        body = await _read_body(request)
        if request.method == "DELETE":
            return self._delete(query, target, selects, body)
        return self._write(request, target, body)

    def _live(self, target: Target) -> Json:
        found = self.store.get(target.resource, target.namespace or "", target.name)
        if found is None:
            raise not_found(target.resource, target.name)
        return found

    def _write(self, request: web.Request, target: Target, body: Any) -> web.Response:
        query, resource, namespace = request.query, target.resource, target.namespace or ""
        method, kind = request.method, request.content_type
        dry_run = query.get("dryRun") == "All"
        manager = query.get("fieldManager")
        agent = manager or request.headers.get("User-Agent", "unknown").split("/")[0]
        if method == "POST" and target.subresource == "eviction":
            self._objects.delete(resource, self._live(target), body.get("deleteOptions") or {})
            return web.json_response({**_SUCCESS, "code": 201}, status=201)
        if method == "POST" and not target.name:
            made = self._objects.create(resource, namespace, body, agent, dry_run=dry_run)
            return web.json_response(made, status=201)
        if method == "PATCH" and kind == _APPLY:
            if not manager:
                why = "fieldManager: Required value: is required for apply patch"
                raise ApiError(422, "Invalid", f'PatchOptions.meta.k8s.io "" is invalid: {why}', {})
            body.setdefault("metadata", {})["name"] = target.name
            force = _is_set(query, "force")
            made, is_new = self._objects.apply(
                resource, namespace, body, manager, force=force, dry_run=dry_run
            )
            return web.json_response(made, status=201 if is_new else 200)
        live = self._live(target)
        if method == "PUT":
            new = body
        elif method != "PATCH":
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method", {})
        elif kind == _JSON_PATCH:
            new = json_patch(live, body)
        elif kind in _MERGES:
            new = merge(live, body, keyed=_MERGES[kind])
        else:
            raise unsupported(kind)
        status = target.subresource == "status"
        return web.json_response(
            self._objects.update(resource, live, new, agent, status=status, dry_run=dry_run)
        )

    def _delete(
        self, query: Mapping[str, str], target: Target, selects: Predicate, options: Json
    ) -> web.Response:
        dry_run = query.get("dryRun") == "All" or bool(options.get("dryRun"))
        if "gracePeriodSeconds" in query:
            options = {**options, "gracePeriodSeconds": int(query["gracePeriodSeconds"])}
        resource = target.resource
        if not target.name:
            found = [o for o in self.store.select(resource, target.namespace) if selects(o)]
            for obj in found:
                self._objects.delete(resource, obj, options, dry_run=dry_run)
            return web.json_response({**_SUCCESS, "items": found})
        last, gone = self._objects.delete(resource, self._live(target), options, dry_run=dry_run)
        if not gone or resource is r.PODS:
            return web.json_response(last)
        details = {"name": target.name, "kind": resource.plural, "uid": last["metadata"]["uid"]}
        return web.json_response({**_SUCCESS, "details": details})

    def _list(self, query: Mapping[str, str], target: Target, selects: Predicate) -> Json:
        """A page of objects. A later page shows newer objects, but tells the first page's version:
        a watch from there misses nothing."""
        version, after = str(self.store.version), ("", "")
        if token := query.get("continue"):
            version, *after_ = json.loads(base64.urlsafe_b64decode(token))
            after = (after_[0], after_[1])
        resource, limit = target.resource, int(query.get("limit") or 0)
        found = [o for o in self.store.select(resource, target.namespace, after) if selects(o)]
        meta: Json = {"resourceVersion": version}
        if limit and len(found) > limit:
            last = found[limit - 1]["metadata"]
            position = json.dumps([version, last.get("namespace", ""), last["name"]]).encode()
            meta["continue"] = base64.urlsafe_b64encode(position).decode()
            meta["remainingItemCount"] = len(found) - limit
            found = found[:limit]
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.group_version}
        return {**head, "metadata": meta, "items": found}

    async def _watch(
        self, request: web.Request, target: Target, selects: Predicate
    ) -> web.StreamResponse:
        def in_scope(obj: Json) -> bool:
            meta = obj["metadata"]
            here = target.namespace in (None, meta.get("namespace", ""))
            return here and target.name in ("", meta["name"]) and selects(obj)

        query, response = request.query, web.StreamResponse()
        response.content_type = "application/json"
        watch = Watch(self.store, target.resource, in_scope)
        watch.as_table = "as=Table" in request.headers.get("Accept", "")
        watch.bookmarks = _is_set(query, "allowWatchBookmarks")
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
        response = web.StreamResponse()
        response.content_type = "text/plain"
        await response.prepare(request)
        with path.open("rb") as file:
            lines = file.read().splitlines(keepends=True)
            shown = min(int(request.query.get("tailLines", len(lines))), len(lines))
            await response.write(b"".join(lines[len(lines) - shown :]))
            while _is_set(request.query, "follow"):
                live = self.store.get(r.PODS, meta["namespace"], meta["name"])
                await response.write(file.read())
                if live is None or live["status"]["phase"] in FINISHED:
                    break
                await asyncio.sleep(0.2)
        return response


async def _expire_events(controllers: Controllers) -> None:
    while True:
        now = datetime.now(timezone.utc)
        controllers.expire_events(to_time(now - timedelta(seconds=EVENT_LIFE_S)))
        await asyncio.sleep(60)


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
    # A watch of a client that is gone is cancelled; writes have no await that could be.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
    await runner.setup()
    host, _, port = paths.server.removeprefix("https://").rpartition(":")
    try:
        await web.TCPSite(runner, host, int(port), ssl_context=paths.server_context()).start()
    except OSError as error:
        await runner.cleanup()
        message = f"The embedded API server cannot listen on {host}:{port} ({error.strerror}): "
        message += "stop the program that uses this port, or choose another."
        raise PermanentError(message) from error
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    cleaner = asyncio.create_task(_expire_events(server.controllers))
    print("ready", flush=True)  # noqa: T201  (whoever started it waits for this line)
    await stop.wait()
    cleaner.cancel()
    await runner.cleanup()
    server.store.close()


def main() -> None:
    """Command line of the API server."""
    parser = argparse.ArgumentParser(prog="python -m jupyterhub_collab.embedded.api")
    parser.add_argument("--dir", type=Path, required=True, help="folder of the cluster")
    parser.add_argument("--port", type=int, help="default: the kubeconfig's, or a free one")
    given = parser.parse_args()
    try:
        # The lease first: a new port must not get into the kubeconfig of one that runs.
        with hold_lease(Paths(given.dir), "api"):
            asyncio.run(serve(prepare(given.dir, given.port)))
    except PermanentError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
