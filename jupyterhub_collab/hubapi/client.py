"""Client of the hub's groups, users and servers.

Every call is safe to repeat: what is there already is not an error, so an answer that was lost
costs a second call and nothing else. Lists of names go out 20 at a time: the hub looks each up
while it serves nobody else (500 names in one call stop it for seconds). Nothing is retried here:
who asks knows how long it may wait.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from pydantic import TypeAdapter
from yarl import URL

from ..models import HubDecider, HubGroup, RosterEntry
from ..models.hub_user import HubUser, TeamServer
from ..models.standing import PersonStanding
from .errors import HubRefusedError, HubUnavailableError

NAMES_PER_CALL: Final = 20
PAGE_SIZE: Final = 200  # a page of teams stays below 1 MiB
TIMEOUT_S: Final = 30.0
_LIST_TRIES: Final = 4
_PAGES: Final = "application/jupyterhub-pagination+json"
_ENTRY: Final[TypeAdapter[RosterEntry]] = TypeAdapter(RosterEntry)
_NO_ANSWER = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
_SCOPES: Final = (
    "it needs the scopes list:groups, read:groups, admin:groups and groups; and admin:users where"
    " this program makes the users"
)


def to_api_url(url: str) -> str:
    """API of a hub from its address, with or without ``/hub/api``.

    Raises
    ------
    HubRefusedError
        It is no http(s) address, or holds a user name or password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HubRefusedError(f"{url!r} is no address of a hub; write https://hub.example.org")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise HubRefusedError("the hub's address must not hold a user, password, query or fragment")
    base = url.rstrip("/")
    return base if base.endswith("/hub/api") else f"{base.removesuffix('/hub')}/hub/api"


_Named = TypeVar("_Named", HubGroup, HubUser)


@dataclass(frozen=True)
class Page(Generic[_Named]):
    """Some of a list, in its order.

    Attributes
    ----------
    total
        How many there are in all.
    following
        Position of what comes next; None: nothing.
    """

    items: tuple[_Named, ...]
    total: int
    following: int | None


GroupPage = Page[HubGroup]


class HubClient:
    """Talks to one hub with one token. An async context manager.

    Parameters
    ----------
    api_url
        Such as ``http://127.0.0.1:8081/hub/api`` (services: JUPYTERHUB_API_URL).
    now
        Clock for a Retry-After that is a date.
    before_change
        Called right before each call that may change something; what it raises prevents the call.
    """

    def __init__(
        self,
        api_url: str,
        token: str,
        *,
        timeout_s: float = TIMEOUT_S,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        before_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.api_url = api_url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._now = now
        self._before_change = before_change
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HubClient:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"token {self._token}"},
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def list_groups(self, wanted: Container[str] | None = None) -> dict[str, HubGroup]:
        """All groups by name, or those of these names.

        Pages are cut by position: a group deleted meanwhile would move the others, and one be
        missed. So a list whose length changed on the way is read again.

        Raises
        ------
        HubUnavailableError
            No answer, or the list changed all the time.
        """
        return await self._list("groups", _to_group, wanted)

    async def read_page(self, offset: int, limit: int) -> GroupPage:
        """Some groups from a position in the hub's list on, at most `PAGE_SIZE`.

        A group moves in the list when another one before it is deleted.
        """
        return await self._page("groups", offset, limit, _to_group)

    async def list_users(self) -> dict[str, HubUser]:
        """All users by name, with groups and servers. Raises as `list_groups`."""
        return await self._list("users", _to_user)

    async def _list(
        self,
        what: str,
        to_item: Callable[[Any], _Named],
        wanted: Container[str] | None = None,
    ) -> dict[str, _Named]:
        for _ in range(_LIST_TRIES):
            found: dict[str, _Named] = {}
            names: set[str] = set()
            totals: set[int] = set()
            offset: int | None = 0
            while offset is not None:
                page = await self._page(what, offset, PAGE_SIZE, to_item)
                totals.add(page.total)
                offset = page.following
                names.update(item.name for item in page.items)
                found.update((i.name, i) for i in page.items if wanted is None or i.name in wanted)
            if totals == {len(names)}:
                return found
        raise HubUnavailableError(f"the hub's {what} changed each time they were read")

    async def _page(
        self, what: str, offset: int, limit: int, to_item: Callable[[Any], _Named]
    ) -> Page[_Named]:
        path = f"{what}?offset={offset}&limit={limit}"
        answer = await self._call("GET", path, accept=_PAGES)
        try:
            pagination = answer["_pagination"]
            following = pagination.get("next")
            page = Page(
                items=tuple(to_item(item) for item in answer["items"]),
                total=int(pagination["total"]),
                following=int(following["offset"]) if following else None,
            )
            if page.following is not None and page.following <= offset:
                raise ValueError("the next page is not a later one")
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            raise HubRefusedError(f"{self.api_url} answered with no list of {what}") from e
        return page

    async def read_group(self, name: str) -> HubGroup | None:
        """One group; None when there is none of that name."""
        try:
            return _to_group(await self._call("GET", _path(name)))
        except HubRefusedError as e:
            if e.status == 404:
                return None
            raise

    async def create_group(self, name: str) -> bool:
        """Make an empty group; one that is there already is left as it is. Whether it was made."""
        return await self._call("POST", _path(name), {}, fine=(409,)) is not None

    async def delete_group(self, name: str) -> None:
        """Delete a group; none there is fine. Its members stay users."""
        await self._call("DELETE", _path(name), fine=(404,))

    async def put_properties(self, name: str, properties: Mapping[str, Any]) -> None:
        """Replace *all* properties of a group. The hub has no compare-and-swap: one writer."""
        await self._call("PUT", f"{_path(name)}/properties", dict(properties))

    async def add_members(self, name: str, users: Iterable[str]) -> None:
        """Add users, who must exist, to a group.

        Raises
        ------
        HubRefusedError
            No such user, or the hub keeps one of them under another name.
        """
        for some in _chunks(users):
            answer = await self._call("POST", f"{_path(name)}/users", {"users": some})
            present = set(_to_group(answer).users)
            missing = [user for user in some if user not in present]
            if missing:
                raise HubRefusedError(
                    f"the hub knows {', '.join(map(repr, missing))} by another name (it may write"
                    " names in lower case); name members as the hub shows them"
                )

    async def remove_members(self, name: str, users: Iterable[str]) -> None:
        """Take users out of a group. They stay users, and keep their data."""
        for some in _chunks(users):
            await self._call("DELETE", f"{_path(name)}/users", {"users": some})

    async def create_users(self, users: Iterable[str]) -> None:
        """Make sure that these users exist."""
        for some in _chunks(users):
            await self._call("POST", "users", {"usernames": some}, fine=(409,))

    async def read_decider(self) -> HubDecider | None:
        """Whether the hub itself makes members of rosters; None: whoever writes groups does."""
        try:
            answer = await self._call("GET", "collab/membership")
        except HubRefusedError as e:
            if e.status == 404:
                return None
            raise
        try:
            if answer["decider"] != "hub":
                raise ValueError("an unknown decider")
            return HubDecider(frozenset(str(source) for source in answer["sources"]))
        except (KeyError, TypeError, ValueError) as e:
            message = f"{self.api_url} does not say who decides about members"
            raise HubRefusedError(f"{message}: is it newer than this program?") from e

    async def project_rosters(self, teams: Iterable[str]) -> None:
        """Have the hub make members of these teams' rosters now. It looks by itself too, later."""
        for some in _chunks(teams):
            await self._call("POST", "collab/membership", {"teams": some})

    async def read_standing(
        self, name: str, *, with_entries: bool = False
    ) -> PersonStanding | None:
        """Where a hub user stands now; None: there is no such user. `with_entries`: and how rosters
        may name them.

        Raises
        ------
        HubUnavailableError
            Nobody can say at the moment.
        """
        query = "?entries=yes" if with_entries else ""
        answer = await self._call("GET", f"collab/standing/{quote(name, safe='')}{query}")
        try:
            standing = answer["standing"]
            return None if standing is None else PersonStanding.model_validate(standing)
        except (KeyError, TypeError, ValueError) as e:
            message = f"{self.api_url} does not say where a user stands"
            raise HubRefusedError(f"{message}: is it newer than this program?") from e

    async def read_identities(self, name: str) -> tuple[RosterEntry, ...] | None:
        """All by which a roster may mean this hub user besides the name.

        None: there is no such user, or nobody keeps identities there.
        """
        try:
            answer = await self._call("GET", f"collab/identities?{urlencode({'name': name})}")
        except HubRefusedError as e:
            if e.status == 404:
                return None
            raise
        try:
            entries = [*answer["identities"], *answer["invitations"]]
            return tuple(_ENTRY.validate_python(entry) for entry in entries)
        except (KeyError, TypeError, ValueError) as e:
            message = f"{self.api_url} does not say who a hub user is"
            raise HubRefusedError(f"{message}: is it newer than this program?") from e

    async def list_servers(self, *, team: str = "", contest: str = "") -> list[TeamServer]:
        """Servers that start, run or stop now: of one team, of one contest, or all.

        None there says something only where the gate was closed before.
        """
        found: list[TeamServer] = []
        query = {key: value for key, value in (("team", team), ("contest", contest)) if value}
        following: dict[str, str] | None = {}
        while following is not None:
            path = f"collab/servers?{urlencode({**query, **following})}"
            page = await self._call("GET", path)
            try:
                found += [_to_server(item) for item in page["servers"]]
                following = page["next"]
                if following is not None:
                    place = following["afterUser"], following["afterServer"]
                    if not found or place < (found[-1].user, found[-1].server):
                        raise ValueError("the next page is not a later one")
            except (KeyError, TypeError, ValueError) as e:
                message = f"{self.api_url} does not say which servers run"
                raise HubRefusedError(f"{message}: is it newer than this program?") from e
        return found

    async def stop_server(self, user: str, server: str) -> None:
        """Stop one; it may take a while to be gone. One that does not run, or is none: fine."""
        where = f"servers/{quote(server, safe='')}" if server else "server"
        await self._call("DELETE", f"users/{quote(user, safe='')}/{where}", fine=(404,))

    async def read_user(self, name: str) -> HubUser | None:
        """A user with groups and servers; None: no such user."""
        try:
            model = await self._call("GET", f"users/{quote(name, safe='')}")
        except HubRefusedError as e:
            if e.status == 404:
                return None
            raise
        return _to_user(model)

    async def delete_user(self, name: str) -> None:
        """Delete a user with all tokens and server rows; none there is fine. Stops what runs."""
        await self._call("DELETE", f"users/{quote(name, safe='')}", fine=(404,))

    async def list_strays(self) -> list[dict[str, str]]:
        """Pods that run and that no server in the hub's database belongs to.

        Fields: namespace, pod, uid, username, server_name, server_id, team.
        """
        answer = await self._call("GET", "collab/strays")
        try:
            return [{str(k): str(v) for k, v in stray.items()} for stray in answer["strays"]]
        except (AttributeError, KeyError, TypeError) as e:
            raise HubRefusedError(f"{self.api_url} answered with no list of pods") from e

    async def adopt(self, namespace: str, pod: str, uid: str, *, api_token: str) -> None:
        """Have the hub take over such a pod, with the token of the hub's API that it holds.

        Raises
        ------
        HubRefusedError
            It cannot: says why. The pod is left alone.
        """
        body = {"namespace": namespace, "pod": pod, "uid": uid, "api_token": api_token}
        await self._call("POST", "collab/adopt", body)

    async def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        fine: tuple[int, ...] = (),
        accept: str = "application/json",
    ) -> Any:
        """One call. Statuses in ``fine`` are successes without an answer."""
        if self._session is None:
            raise RuntimeError("use HubClient as a context manager")
        url = URL(f"{self.api_url}/{path}", encoded=True)
        headers = {"Accept": accept, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        if method != "GET":
            self._before_change()
        try:
            # A redirect would carry the token elsewhere; the API never sends any.
            async with self._session.request(
                method, url, data=data, headers=headers, allow_redirects=False
            ) as response:
                status, text = response.status, await response.text(errors="replace")
                retry_after_s = self._retry_after_s(response.headers.get("Retry-After"))
        except _NO_ANSWER as e:
            what = f"{type(e).__name__}: {e}" if str(e) else type(e).__name__
            raise HubUnavailableError(f"no answer from the hub at {self.api_url} ({what})") from e
        what = f"{method} {url.path}"
        if status in fine:
            return None
        if status in (408, 429) or status >= 500:
            raise HubUnavailableError(
                f"the hub could not {what} just now ({status}): {_reason(text)}",
                retry_after_s=retry_after_s,
            )
        if status in (401, 403):
            raise HubRefusedError(
                f"the hub refused {what} ({status}): {_reason(text)}. Check the token; {_SCOPES}",
                status=status,
            )
        if status >= 300:
            raise HubRefusedError(
                f"the hub refused {what} ({status}): {_reason(text)}", status=status
            )
        if not text:
            return None
        try:
            return json.loads(text)
        except ValueError as e:
            message = f"{self.api_url} answered {what} with no JSON: is it the address of a hub?"
            raise HubRefusedError(message, status=status) from e

    def _retry_after_s(self, header: str | None) -> float | None:
        """Seconds of a Retry-After header, which is a number or a date (RFC 9110)."""
        if header is None:
            return None
        try:
            seconds = float(header)
        except ValueError:
            pass
        else:
            return max(0.0, seconds) if math.isfinite(seconds) else None
        try:
            moment = email.utils.parsedate_to_datetime(header)
        except ValueError:
            return None
        if moment.tzinfo is None:  # "-0000": UTC, from nobody knows where
            moment = moment.replace(tzinfo=timezone.utc)
        return max(0.0, (moment - self._now()).total_seconds())


def _path(group: str) -> str:
    return f"groups/{quote(group, safe='')}"


def _chunks(names: Iterable[str]) -> Iterable[list[str]]:
    everything = list(names)
    for start in range(0, len(everything), NAMES_PER_CALL):
        yield everything[start : start + NAMES_PER_CALL]


def _to_user(model: Any) -> HubUser:
    """User from the API's model. Raises HubRefusedError: the token may read names only."""
    try:
        return HubUser(
            name=str(model["name"]),
            is_admin=bool(model["admin"]),
            groups=frozenset(map(str, model["groups"])),
            has_servers=bool(model["servers"]),
        )
    except (KeyError, TypeError) as e:
        message = "the hub shows a user without groups or servers"
        raise HubRefusedError(f"{message}; the token lacks read:users or read:servers") from e


def _to_group(model: Any) -> HubGroup:
    """Group from the API's model.

    Raises
    ------
    HubRefusedError
        It lacks members or properties: the token may read names only.
    """
    try:
        return HubGroup(str(model["name"]), dict(model["properties"]), tuple(model["users"]))
    except (KeyError, TypeError, ValueError) as e:
        message = "the hub shows groups without members or properties; the token lacks read:groups"
        raise HubRefusedError(message) from e


def _to_server(model: Any) -> TeamServer:
    started = model["started"]
    return TeamServer(
        user=str(model["user"]),
        server=str(model["server"]),
        team=str(model["team"]),
        contest=str(model["contest"]),
        # Python 3.10 reads no "Z".
        started=datetime.fromisoformat(started.replace("Z", "+00:00")) if started else None,
        is_ready=bool(model["ready"]),
        gate=str(model["gate"]),
    )


def _reason(text: str) -> str:
    """The hub's own sentence, from its JSON; at most a line."""
    try:
        said = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        said = text
    return " ".join(str(said).split())[:200].rstrip(".") or "no reason given"
