"""The Kubernetes API in plain dicts, on the official asynchronous client's transport.

`kubernetes.aio` brings certificates, tokens (and their renewal) and the connection pool; its typed
models are never used, they cost seconds and hundreds of megabytes. JSON is read and written by the
library under pydantic, in a third of the time of Python's own. Every failure leaves here as one
of `kube.errors`. Nothing is retried here: who asks knows whether asking again is right.

Certificates and tokens are rotated while programs run. What the API server does not accept (401),
or a certificate that we do not accept, makes the client read its files again; if they changed, it
goes on with what they say now.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from pydantic_core import from_json, to_json
from yarl import URL

from ..constants import FIELD_MANAGER
from ..errors import PermanentError
from .errors import PermanentKubeError, Target, from_status, no_answer, refused, target_of
from .kinds import Kind, kind_of
from .watch_lines import IsKnown, WatchEvent, gather_lines, to_events

log = logging.getLogger(__name__)

Manifest = dict[str, Any]
Reload = Callable[[], Awaitable[Configuration]]
Query = Mapping[str, str | int | bool | None]
_AddressInfo = tuple[Any, ...]  # as socket.getaddrinfo tells it

_JSON: Final = "application/json"
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_READ_BYTES: Final = 2**21  # a watch's line may be long
_NO_ANSWER = (aiohttp.ClientError, asyncio.TimeoutError, OSError, ssl.SSLError)
_CLOSING_TURNS: Final = 10  # of the loop; a connection that was shut down takes about four


def check_one_kubeconfig(path: Path | str) -> None:
    """Refuse a list of files, as kubectl takes it from KUBECONFIG. Raises PermanentError.

    The library merges lists otherwise than kubectl: the last current-context would win.
    """
    if len([part for part in str(path).split(os.pathsep) if part]) > 1:
        raise PermanentError(
            f"KUBECONFIG may name one file here, not several ({path}). Make one of them: "
            "`kubectl config view --flatten > FILE`."
        )


@dataclass(frozen=True)
class Page:
    """Part of a list, and where the next part begins."""

    items: list[Manifest]
    resource_version: str
    next_token: str | None


class KubeClient:
    """Client of one API server. Use it as an async context manager, in one event loop.

    Parameters
    ----------
    configuration
        Where, and as whom.
    timeout_s
        Longest a request other than a watch may take, in seconds.
    on_request
        Told verb, kind and status (0: no answer) of every request: for counters.
    reload
        Reads where and as whom anew, from where `configuration` came. Raises PermanentError.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        timeout_s: float = 30.0,
        on_request: Callable[[str, str, int], None] | None = None,
        reload: Reload | None = None,
    ) -> None:
        self._configuration = configuration
        self._reload, self._mark = reload, _mark_of(configuration) if reload else ()
        self._retired: ApiClient | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._on_request = on_request
        self._api: ApiClient | None = None

    @classmethod
    async def from_kubeconfig(cls, path: Path | str, **options: Any) -> KubeClient:
        """Client as a kubeconfig file says.

        Raises
        ------
        PermanentError
            The file is missing, cannot be understood, or is a list of files as kubectl takes it.
        """
        check_one_kubeconfig(path)

        async def read() -> Configuration:
            return await _read_kubeconfig(path)

        return cls(await read(), reload=read, **options)

    @classmethod
    def in_cluster(cls, **options: Any) -> KubeClient:
        """Client as the pod's service account.

        Raises
        ------
        PermanentError
            This process does not run in a pod with a service account.
        """

        async def read() -> Configuration:
            return _read_service_account()

        return cls(_read_service_account(), reload=read, **options)

    async def __aenter__(self) -> KubeClient:
        self._api = _open(self._configuration, self._new_socket)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        opened, self._api, self._retired = (self._api, self._retired), None, None
        for api in opened:
            if api is not None:
                await api.close()  # type: ignore[no-untyped-call]
        await self._shut_sockets()

    def _new_socket(self, address: _AddressInfo) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        self._sockets.add(made)
        return made

    async def _shut_sockets(self) -> None:
        """End connections whose requests were cut off: TLS would wait for the server's goodbye."""
        for _ in range(_CLOSING_TURNS):
            await asyncio.sleep(0)
            open_ones = [s for s in self._sockets if s.fileno() >= 0]
            if not open_ones:
                return
            for each in open_ones:
                with suppress(OSError):  # it was not connected yet
                    each.shutdown(socket.SHUT_RDWR)

    async def _send(
        self,
        target: Target,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        content_type: str | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        """Send one request and return its answer, a success, unread."""
        if self._api is None:
            raise RuntimeError("the client is not open")
        headers = {"Accept": _JSON, "User-Agent": FIELD_MANAGER}
        if content_type is not None:
            headers["Content-Type"] = content_type
        elif body is not None:
            headers["Content-Type"] = _JSON
        url = self._configuration.host + path
        if query is not None:
            url += _query_text(tuple(query.items()))
        try:
            await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            response = await _session(self._api).request(
                method,
                URL(url, encoded=True),  # it is: aiohttp need not look for what to quote
                headers=headers,
                data=None if body is None else to_json(body),
                timeout=timeout or self._timeout,
                server_hostname=self._configuration.tls_server_name,
                proxy=self._configuration.proxy,
                proxy_headers=self._configuration.proxy_headers,
            )
            if response.status >= 400:
                refusal = await response.read()
        except ConfigException as error:  # the token file is gone, for a moment perhaps
            raise no_answer(target, error) from error
        except _NO_ANSWER as error:
            self._count(target, 0)
            if isinstance(error, aiohttp.ClientSSLError):
                await self._renew()
            raise no_answer(target, error) from error
        self._count(target, response.status)
        if response.status >= 400:
            if response.status == 401:
                await self._renew()
            raise refused(target, response.status, response.headers, refusal)
        return response

    async def _renew(self) -> None:
        """Read where and as whom anew; if that changed, go on so."""
        if self._reload is None or self._api is None:
            return
        try:
            fresh = await self._reload()
            mark = _mark_of(fresh)
        except (PermanentError, OSError) as error:  # half-written at this moment, perhaps
            log.warning("The credentials of the Kubernetes API cannot be read anew: %s", error)
            return
        if mark == self._mark:
            return
        log.info("The credentials of the Kubernetes API changed; going on with the new ones")
        # Requests under way end on the old one's connections.
        last, self._retired = self._retired, self._api
        self._configuration, self._mark = fresh, mark
        self._api = _open(fresh, self._new_socket)
        if last is not None:
            await last.close()  # type: ignore[no-untyped-call]

    def _count(self, target: Target, status: int) -> None:
        if self._on_request is not None:
            self._on_request(target.verb, target.kind, status)

    async def _request(self, target: Target, method: str, path: str, **more: Any) -> Manifest:
        response = await self._send(target, method, path, **more)
        try:
            found = from_json(await response.read())
        except (*_NO_ANSWER, ValueError) as error:
            raise no_answer(target, error) from error
        if not isinstance(found, dict):
            raise no_answer(target, TypeError("the answer is not an object"))
        return found

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest:
        """One object. Raises NotFoundError when there is none."""
        return await self._request(
            target_of("get", kind, namespace, name), "GET", kind.path(namespace, name)
        )

    async def version(self) -> tuple[int, int]:
        """The API server's Kubernetes version, major and minor; vendors add a ``+`` to it."""
        target = Target("get", "version")
        found = await self._request(target, "GET", "/version")
        try:
            numbers = [re.match(r"[0-9]+", found[key]) for key in ("major", "minor")]
            major, minor = (int(number[0]) for number in numbers if number is not None)
        except (KeyError, TypeError, ValueError) as error:
            raise no_answer(target, error) from error
        return major, minor

    async def list_page(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = 500,
        token: str | None = None,
    ) -> Page:
        """One page of a list. Raises GoneError when `token` is too old."""
        found = await self._request(
            target_of("list", kind, namespace),
            "GET",
            kind.path(namespace),
            query={
                "labelSelector": label_selector,
                "fieldSelector": field_selector,
                "limit": page_size,
                "continue": token,
            },
        )
        meta = found.get("metadata") or {}
        items = found.get("items") or []
        for item in items:  # lists leave them out
            item.setdefault("apiVersion", kind.api_version)
            item.setdefault("kind", kind.name)
        return Page(items, str(meta.get("resourceVersion", "")), meta.get("continue") or None)

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = 500,
    ) -> list[Manifest]:
        """All objects, read page by page."""
        items: list[Manifest] = []
        token = None
        while True:
            page = await self.list_page(
                kind,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                page_size=page_size,
                token=token,
            )
            items += page.items
            token = page.next_token
            if token is None:
                return items

    async def create(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Manifest:
        """Create an object. Raises ConflictError when one of that name exists."""
        kind, meta = kind_of(manifest), manifest["metadata"]
        return await self._request(
            target_of("create", kind, meta.get("namespace"), meta.get("name")),
            "POST",
            kind.path(meta.get("namespace")),
            query={"fieldManager": FIELD_MANAGER, "dryRun": "All" if dry_run else None},
            body=manifest,
        )

    async def apply(
        self,
        manifest: Mapping[str, Any],
        *,
        field_manager: str = FIELD_MANAGER,
        force: bool = True,
        uid: str | None = None,
        resource_version: str | None = None,
        dry_run: bool = False,
    ) -> Manifest:
        """Server-side apply.

        With `uid` and `resource_version` only that very object, as it was then, is changed:
        ConflictError when it is another, another by now, or gone.
        """
        kind, meta = kind_of(manifest), dict(manifest["metadata"])
        if uid is not None:
            meta["uid"] = uid
        if resource_version is not None:
            meta["resourceVersion"] = resource_version
        target = target_of("apply", kind, meta.get("namespace"), meta["name"])
        try:
            return await self._request(
                target,
                "PATCH",
                kind.path(meta.get("namespace"), meta["name"]),
                query={
                    "fieldManager": field_manager,
                    "force": force,
                    "dryRun": "All" if dry_run else None,
                    # An apply refuses unknown fields in any case; the default would have the API
                    # server parse the body once more, for warnings about keys that come twice.
                    "fieldValidation": "Ignore",
                },
                body={**manifest, "metadata": meta},
                content_type=_APPLY,
            )
        except PermanentKubeError as error:
            if uid is not None and error.status == 422 and "metadata.uid" in error.message:
                raise from_status(
                    target, 409, {"reason": "Conflict", "message": error.message}
                ) from error
            raise

    async def apply_new(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Manifest:
        """Server-side apply that only creates: ConflictError when one of that name exists.

        Notes
        -----
        An apply that names a resourceVersion is refused with 409 when the object has another; for
        one that does not exist it is left out of account. No object ever has version 1 (the
        store's own first). So nothing that somebody made in the meantime is ever adopted, and the
        fields still belong to us as applied, which a POST would not give.
        """
        return await self.apply(manifest, resource_version="1", dry_run=dry_run)

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Any,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Manifest:
        """Merge-patch an object. It may name metadata.resourceVersion and uid to insist on."""
        return await self._request(
            target_of("patch", kind, namespace, name),
            "PATCH",
            kind.path(namespace, name) + (f"/{subresource}" if subresource else ""),
            query={"fieldManager": FIELD_MANAGER, "dryRun": "All" if dry_run else None},
            body=patch,
            content_type=_MERGE,
        )

    async def delete(
        self,
        kind: Kind,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str = "Background",
        grace_s: int | None = None,
        dry_run: bool = False,
    ) -> Manifest:
        """Delete an object. ConflictError when it has not this uid and version (any more).

        `grace_s` is the time that a pod's processes have to end; None: as the pod says.
        """
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        options: Manifest = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {k: v for k, v in preconditions.items() if v is not None},
        }
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if dry_run:
            options["dryRun"] = ["All"]
        return await self._request(
            target_of("delete", kind, namespace, name),
            "DELETE",
            kind.path(namespace, name),
            body=options,
        )

    async def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout_s: int = 300,
        stall_s: float = 90.0,
        gather_s: float = 0.0,
        is_known: IsKnown | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """What happens after `resource_version`, until the server ends the watch.

        Parameters
        ----------
        timeout_s
            After so many seconds the server ends it, orderly.
        stall_s
            Silence longer than this, in seconds, is a broken connection (bookmarks come about
            once a minute): RetryableKubeError.
        gather_s
            Seconds for which lines are gathered after some that came, to be told together: of each
            object only the last state. What comes after a silence is told at once.
        is_known
            Told uid and version of a state: whether it need not be told, for it is known.

        Raises
        ------
        GoneError
            That version is too old: list anew.
        RetryableKubeError
            The connection broke or was refused.
        """
        target = target_of("watch", kind, namespace)
        response = await self._send(
            target,
            "GET",
            kind.path(namespace),
            query={
                "watch": True,
                "allowWatchBookmarks": True,
                "resourceVersion": resource_version,
                "labelSelector": label_selector,
                "fieldSelector": field_selector,
                "timeoutSeconds": timeout_s,
            },
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=stall_s),
        )
        try:
            async for lines in gather_lines(response, gather_s):
                for event in to_events(target, lines, is_known):
                    yield event
        except _NO_ANSWER as error:
            raise no_answer(target, error) from error
        finally:
            response.close()


async def _read_kubeconfig(path: Path | str) -> Configuration:
    configuration = Configuration()
    try:
        await load_kube_config(  # type: ignore[no-untyped-call]
            config_file=str(path), client_configuration=configuration, persist_config=False
        )
    except (ConfigException, OSError, ValueError) as error:
        raise PermanentError(f"The kubeconfig {path} cannot be used: {error}") from error
    return configuration


def _read_service_account() -> Configuration:
    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise PermanentError(
            f"This is not a pod with a service account token ({error}). "
            "Set KUBECONFIG to say which cluster to use."
        ) from error
    return configuration


def _open(
    configuration: Configuration, new_socket: Callable[[_AddressInfo], socket.socket]
) -> ApiClient:
    """Connections of a configuration.

    The library has aiohttp look into the environment and into ~/.netrc before each request, in a
    thread each, and would send a password that it finds there. The environment's proxy is looked
    up once instead, and no other credentials than the configuration's are ever sent.
    """
    if configuration.proxy is None:
        parts = urlsplit(configuration.host)
        if parts.hostname and not proxy_bypass(parts.hostname):
            configuration.proxy = getproxies().get(parts.scheme)
    api = ApiClient(configuration)
    api.rest_client.pool_manager = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=configuration.connection_pool_maxsize,
            ssl=api.rest_client.ssl_context,
            socket_factory=new_socket,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        read_bufsize=_READ_BYTES,
    )
    return api


def _session(api: ApiClient) -> aiohttp.ClientSession:
    """Its connections, asked directly: the library's `request` would encode bodies itself."""
    session = api.rest_client.pool_manager
    if session is None:
        raise RuntimeError("the connections are not open")
    return session


def _mark_of(configuration: Configuration) -> tuple[object, ...]:
    """What a client goes by: equal marks, equal credentials."""
    files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    contents = [Path(file).read_bytes() if file else None for file in files]
    return (configuration.host, configuration.api_key.get("BearerToken"), *contents)


@lru_cache(maxsize=64)  # thousands of writes have the same
def _query_text(query: tuple[tuple[str, str | int | bool | None], ...]) -> str:
    pairs = {
        key: str(value).lower() if isinstance(value, bool) else value
        for key, value in query
        if value is not None
    }
    return "?" + urlencode(pairs) if pairs else ""
