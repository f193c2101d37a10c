"""The embedded API server: paths, query parameters, content types, watches; a program of its own.

The HTTP door only: what the verbs mean is in `objects`, what follows by itself in `controllers`.

Notes
-----
https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hmac
import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import yaml
from aiohttp import web

from ..errors import PermanentError
from .controllers import EVENT_LIFE_S, Controllers
from .failures import ApiError, bad_request, not_found, unknown_path
from .folder import Paths, hold_lease, prepare
from .objects import Objects, to_time
from .patches import json_patch, merge
from .resources import BY_PATH, PODS, Resource, make_discovery, to_table
from .selectors import Predicate, parse_selectors
from .store import Change, Store

Json = dict[str, Any]

_BODY_MAX_BYTES: Final = 3 << 20  # as the real API server's
_WATCH_MAX_S: Final = 3600.0
_BOOKMARK_EVERY_S: Final = 60.0
_BOOKMARK_BEFORE_END_S: Final = 2.0  # a client that comes back then knows where to go on
_INITIAL_END: Final = {"k8s.io/initial-events-end": "true"}
_OPEN: Final = ("healthz", "readyz", "livez")
_REVIEWS: Final = ("selfsubjectaccessreviews", "subjectaccessreviews")


@dataclass(frozen=True)
class Target:
    """What a request's path names."""

    resource: Resource
    namespace: str | None  # None: all of them; "" for cluster-scoped kinds
    name: str
    subresource: str


def parse_path(parts: list[str]) -> Target:
    """Raises ApiError 404 for a path that is not served."""
    group, rest = ("", parts[2:]) if parts[:2] == ["api", "v1"] else ("", [])
    if len(parts) > 3 and parts[0] == "apis" and parts[2] == "v1":
        group, rest = parts[1], parts[3:]
    namespace = None
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] != "status":
        namespace, rest = rest[1], rest[2:]
    resource = BY_PATH.get((group, rest[0])) if rest else None
    name, subresource = (*rest[1:], "", "")[:2]
    unknown = resource is None or len(rest) > 3 or (namespace and not resource.namespaced)
    if unknown or (subresource and subresource not in resource.subresources):  # type: ignore[union-attr]
        raise unknown_path()
    assert resource is not None
    if not resource.namespaced:
        namespace = ""
    return Target(resource, namespace, name, subresource)


async def _read_body(request: web.Request) -> Any:
    raw = await request.read()
    if not raw:
        return {}
    try:
        return yaml.safe_load(raw) if "yaml" in request.content_type else json.loads(raw)
    except (ValueError, yaml.YAMLError) as error:
        if request.content_type.endswith("json"):
            raise bad_request(f"the body cannot be read: {error}") from error
        message = "the body of the request was in an unknown format - accepted media types "
        message += "include: application/json, application/yaml"
        raise ApiError(415, "UnsupportedMediaType", message) from error


def _is_set(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")  # Python clients write True


def _wants_table(request: web.Request) -> bool:
    return "as=Table" in request.headers.get("Accept", "")


def _line(kind: str, obj: Json) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


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
        if parts and parts[0] in _OPEN:
            return web.Response(text="ok")
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise ApiError(401, "Unauthorized", "Unauthorized")
        document = make_discovery(parts)
        if document is not None:
            return web.json_response(document)
        if parts[1:] in (["authorization.k8s.io", "v1", review] for review in _REVIEWS):
            review = await _read_body(request)  # whoever holds the token may do everything
            return web.json_response({**review, "status": {"allowed": True}}, status=201)
        target = parse_path(parts)
        query = request.query
        selects = parse_selectors(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        if request.method == "GET" and _is_set(query, "watch"):
            return await self._watch(request, target, selects)
        if request.method == "GET" and not target.name:
            return self._list(request, target, selects)
        if request.method == "GET" and target.subresource == "log":
            return await self._log(request, self._live(target))
        if request.method == "GET":
            live = self._live(target)
            return web.json_response(
                to_table(target.resource, [live], {}) if _wants_table(request) else live
            )
        body = await _read_body(request)
        if request.method == "DELETE":
            return self._delete(request, target, selects, body)
        return self._write(request, target, body)

    def _live(self, target: Target) -> Json:
        found = self.store.get(target.resource, target.namespace or "", target.name)
        if found is None:
            raise not_found(target.resource, target.name)
        return found

    def _write(self, request: web.Request, target: Target, body: Any) -> web.Response:
        query, resource, namespace = request.query, target.resource, target.namespace or ""
        dry_run = query.get("dryRun") == "All"
        manager = query.get("fieldManager")
        agent = manager or request.headers.get("User-Agent", "unknown").split("/")[0]
        if request.method == "POST" and target.subresource == "eviction":
            self._objects.delete(resource, self._live(target), body.get("deleteOptions") or {})
            success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
            return web.json_response({**success, "code": 201}, status=201)
        if request.method == "POST" and not target.name:
            made = self._objects.create(resource, namespace, body, agent, dry_run=dry_run)
            return web.json_response(made, status=201)
        status = target.subresource == "status"
        if request.method == "PUT":
            new = body
        elif request.method != "PATCH":
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method", {})
        elif request.content_type == "application/apply-patch+yaml":
            if not manager:
                why = "fieldManager: Required value: is required for apply patch"
                raise ApiError(422, "Invalid", f'PatchOptions.meta.k8s.io "" is invalid: {why}', {})
            body.setdefault("metadata", {})["name"] = target.name
            forced = _is_set(query, "force")
            made, created = self._objects.apply(
                resource, namespace, body, manager, force=forced, dry_run=dry_run
            )
            return web.json_response(made, status=201 if created else 200)
        elif request.content_type == "application/json-patch+json":
            new = json_patch(self._live(target), body)
        elif request.content_type.endswith("merge-patch+json"):
            keyed = request.content_type == "application/strategic-merge-patch+json"
            new = merge(self._live(target), body, keyed=keyed)
            if "resourceVersion" not in body.get("metadata", {}):
                new["metadata"] = {**new["metadata"], "resourceVersion": ""}
        else:
            message = f"the body of the request was in an unknown format - {request.content_type}"
            raise ApiError(415, "UnsupportedMediaType", message)
        live = self._live(target)
        return web.json_response(
            self._objects.update(resource, live, new, agent, status=status, dry_run=dry_run)
        )

    def _delete(
        self, request: web.Request, target: Target, selects: Predicate, options: Json
    ) -> web.Response:
        dry_run = request.query.get("dryRun") == "All" or bool(options.get("dryRun"))
        if "gracePeriodSeconds" in request.query:
            options = {**options, "gracePeriodSeconds": int(request.query["gracePeriodSeconds"])}
        resource = target.resource
        if not target.name:
            found = [o for o in self.store.select(resource, target.namespace) if selects(o)]
            for obj in found:
                self._objects.delete(resource, obj, options, dry_run=dry_run)
            return web.json_response(self._to_list(resource, found, {}))
        last, gone = self._objects.delete(resource, self._live(target), options, dry_run=dry_run)
        if not gone or resource is PODS:
            return web.json_response(last)
        details = {"name": target.name, "kind": resource.plural, "uid": last["metadata"]["uid"]}
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return web.json_response({**body, "details": details})

    @staticmethod
    def _to_list(resource: Resource, items: list[Json], meta: Json) -> Json:
        version = {"kind": f"{resource.kind}List", "apiVersion": resource.group_version}
        return {**version, "metadata": meta, "items": items}

    def _list(self, request: web.Request, target: Target, selects: Predicate) -> web.Response:
        """A page of objects. A later page shows newer objects, but tells the first page's version:
        a watch from there misses nothing."""
        limit, version, after = int(request.query.get("limit") or 0), str(self.store.version), ""
        if token := request.query.get("continue"):
            version, space, name = json.loads(base64.urlsafe_b64decode(token))
            start = (space, name)
        else:
            start = ("", after)
        found = [o for o in self.store.select(target.resource, target.namespace, start) if selects(o)]
        if target.name:
            found = [o for o in found if o["metadata"]["name"] == target.name]
        meta: Json = {"resourceVersion": version}
        if limit and len(found) > limit:
            last = found[limit - 1]["metadata"]
            position = json.dumps([version, last.get("namespace", ""), last["name"]]).encode()
            meta["continue"] = base64.urlsafe_b64encode(position).decode()
            meta["remainingItemCount"] = len(found) - limit
            found = found[:limit]
        if _wants_table(request):
            return web.json_response(to_table(target.resource, found, meta))
        return web.json_response(self._to_list(target.resource, found, meta))

    # -- watch

    async def _watch(
        self, request: web.Request, target: Target, selects: Predicate
    ) -> web.StreamResponse:
        resource, query = target.resource, request.query

        def in_scope(obj: Json) -> bool:
            meta = obj["metadata"]
            here = target.namespace is None or meta.get("namespace", "") == target.namespace
            return here and target.name in ("", meta["name"]) and selects(obj)

        def to_line(change: Change) -> bytes:
            """The event that this watch sees: objects enter and leave its selection."""
            was = change.old is not None and in_scope(change.old)
            now = not change.deleted and in_scope(change.obj)
            if not was and not now:
                return b""
            kind = "DELETED" if not now else "MODIFIED" if was else "ADDED"
            shown = to_table(resource, [change.obj], {}) if table else change.obj
            return _line(kind, shown)

        def bookmark(annotations: Json) -> bytes:
            meta: Json = {"resourceVersion": str(self.store.version), "creationTimestamp": None}
            meta.update({"annotations": annotations} if annotations else {})
            version = {"kind": resource.kind, "apiVersion": resource.group_version}
            return _line("BOOKMARK", {**version, "metadata": meta})

        table = _wants_table(request)
        given, initial = query.get("resourceVersion", ""), _is_set(query, "sendInitialEvents")
        from_now = given in ("", "0") or initial
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            past, queue = self.store.watch(resource, None if from_now else int(given))
        except ApiError as error:
            await response.prepare(request)
            await response.write(_line("ERROR", error.to_status()))
            return response
        try:
            objects = self.store.select(resource, target.namespace) if from_now else []
            first = [
                _line("ADDED", to_table(resource, [o], {}) if table else o)
                for o in objects
                if in_scope(o)
            ]
            first += [to_line(change) for change in past]
            first += [bookmark(_INITIAL_END)] if initial else []
            await response.prepare(request)
            await response.write(b"".join(first))
            marks = _is_set(query, "allowWatchBookmarks")
            length_s = float(query.get("timeoutSeconds") or _WATCH_MAX_S)
            await self._follow(response, queue, to_line, bookmark if marks else None, length_s)
        except ConnectionResetError:
            pass  # the client went away
        finally:
            self.store.unwatch(resource, queue)
        return response

    @staticmethod
    async def _follow(
        response: web.StreamResponse,
        queue: asyncio.Queue[Change],
        to_line: Callable[[Change], bytes],
        bookmark: Callable[[Json], bytes] | None,
        length_s: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + length_s
        mark = min(loop.time() + _BOOKMARK_EVERY_S, end - _BOOKMARK_BEFORE_END_S)
        while (now := loop.time()) < end:
            until = min(end, mark) if bookmark else end
            try:
                change = await asyncio.wait_for(queue.get(), max(0.0, until - now))
            except asyncio.TimeoutError:
                if bookmark and mark <= loop.time() < end:
                    await response.write(bookmark({}))
                    last = end - _BOOKMARK_BEFORE_END_S
                    mark = min(mark + _BOOKMARK_EVERY_S, last) if mark < last else end
                continue
            lines = to_line(change)
            while not queue.empty():
                lines += to_line(queue.get_nowait())
            if lines:
                await response.write(lines)

    async def _log(self, request: web.Request, pod: Json) -> web.StreamResponse:
        """A container's output, from the node's file; `follow` goes on until the pod has ended."""
        names = [c["name"] for c in pod["spec"]["containers"]]
        name, meta = request.query.get("container") or names[0], pod["metadata"]
        if name not in names:
            raise bad_request(f"container {name} is not valid for pod {meta['name']}")
        path = self._paths.pods / meta["uid"] / f"{name}.log"
        if not path.exists():
            why = f'container "{name}" in pod "{meta["name"]}" is waiting to start'
            raise bad_request(f"{why}: ContainerCreating")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        with path.open("rb") as file:
            text = file.read()
            if "tailLines" in request.query:
                count = int(request.query["tailLines"])
                text = b"".join(text.splitlines(keepends=True)[-count:]) if count else b""
            await response.prepare(request)
            await response.write(text)
            while _is_set(request.query, "follow"):
                live = self.store.get(PODS, meta["namespace"], meta["name"])
                ended = live is None or live["status"]["phase"] in ("Succeeded", "Failed")
                await response.write(file.read())
                if ended:
                    break
                await asyncio.sleep(0.2)
        return response


async def _housekeeping(controllers: Controllers) -> None:
    while True:
        controllers.expire_events(
            to_time(datetime.now(timezone.utc) - timedelta(seconds=EVENT_LIFE_S))
        )
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
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    host, _, port = paths.server.removeprefix("https://").rpartition(":")
    site = web.TCPSite(runner, host, int(port), ssl_context=paths.server_context())
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise PermanentError(
            f"The embedded API server cannot listen on {host}:{port} ({error.strerror}): stop the "
            "program that uses this port, or choose another."
        ) from error
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    cleaner = asyncio.create_task(_housekeeping(server.controllers))
    print("ready", flush=True)
    await stop.wait()
    cleaner.cancel()
    await runner.cleanup()
    server.store.close()


def main() -> None:
    """Command line of the API server."""
    parser = argparse.ArgumentParser(prog="python -m jupyterhub_collab.embedded.api")
    parser.add_argument("--dir", type=Path, required=True, help="folder of the cluster")
    parser.add_argument("--port", type=int, help="default: the kubeconfig's, or a free one")
    arguments = parser.parse_args()
    try:
        arguments.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The lease first: a new port must not get into the kubeconfig of one that runs.
        with hold_lease(Paths(arguments.dir.resolve()), "api"):
            asyncio.run(serve(prepare(arguments.dir, arguments.port)))
    except PermanentError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
