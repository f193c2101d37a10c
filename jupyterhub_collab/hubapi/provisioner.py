"""Client of the provisioner's REST API: how teams' namespaces are, and having some looked at now.

As the hub's client: every call is safe to repeat, nothing is retried here, and redirects, which
would carry the token to a login page, are not followed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from .errors import HubRefusedError, HubUnavailableError

TIMEOUT_S: Final = 30.0
NUDGED_AT_ONCE: Final = 100  # groups in one call
PAGE_SIZE: Final = 200
_NO_ANSWER = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


class ProvisionerUnavailableError(HubUnavailableError):
    """It did not answer, or cannot say yet."""


class ProvisionerRefusedError(HubRefusedError):
    """It answered and said no. `status` is the HTTP status."""


class ProvisionerClient:
    """Talks to the provisioner with one token of the hub. An async context manager.

    Parameters
    ----------
    url
        Such as ``http://127.0.0.1:8081/services/provisioner``.
    token
        With access to that service, and `custom:collab:provision` for what is more than a look.
    before_change
        Called right before each call that is no GET; what it raises prevents the call.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = TIMEOUT_S,
        before_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = url.rstrip("/")
        self._token, self._timeout_s = token, timeout_s
        self._before_change = before_change
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"ProvisionerClient({self.url})"

    async def __aenter__(self) -> ProvisionerClient:
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

    async def read_team(self, team: str) -> Mapping[str, Any] | None:
        """A team's status as the API gives it; None: no hub group of that name was seen."""
        path = f"teams/{quote(team, safe='')}"
        found: Mapping[str, Any] | None = await self.call("GET", path, may_be_absent=True)
        return found

    async def list_teams(self, contest: str) -> dict[str, Mapping[str, Any]]:
        """Status of all teams of a contest, by team. One that comes meanwhile may be missing."""
        found: dict[str, Mapping[str, Any]] = {}
        offset: int | None = 0
        while offset is not None:
            query = urlencode({"contest": contest, "offset": offset, "limit": PAGE_SIZE})
            page = await self.call("GET", f"teams?{query}")
            try:
                found.update((str(item["team"]), item) for item in page["teams"])
                following = page["next"]
                before, offset = offset, None if following is None else int(following)
                if offset is not None and offset <= before:
                    raise ValueError("the next page is not a later one")
            except (KeyError, TypeError, ValueError) as e:
                raise ProvisionerRefusedError(f"{self.url} answered with no list of teams") from e
        return found

    async def nudge(self, groups: Iterable[str]) -> None:
        """Have these hub groups read now. Those that are gone too."""
        names = list(dict.fromkeys(groups))
        for start in range(0, len(names), NUDGED_AT_ONCE):
            await self.call("POST", "nudge", {"groups": names[start : start + NUDGED_AT_ONCE]})

    async def read_archives(self, team: str) -> Mapping[str, Any] | None:
        """A team's volumes and archive Jobs; None: it has nothing in the cluster."""
        path = f"teams/{quote(team, safe='')}/archives"
        found: Mapping[str, Any] | None = await self.call("GET", path, may_be_absent=True)
        return found

    async def start_archives(
        self, team: str, archives: Iterable[Mapping[str, str]], *, ended: Iterable[str] = ()
    ) -> Mapping[str, Any]:
        """Have volumes copied: each with `volume`, `archive`, `path` and `token`.

        `ended`: copies whose Jobs may go, if they are done. The answer is as `read_archives`'.
        """
        path = f"teams/{quote(team, safe='')}/archives"
        body = {"archives": [dict(entry) for entry in archives], "ended": list(ended)}
        found: Mapping[str, Any] = await self.call("POST", path, body)
        return found

    async def restore(self, team: str, archives: Iterable[Mapping[str, str]]) -> Mapping[str, Any]:
        """Have copies brought back into volumes of this team. As `start_archives`."""
        path = f"teams/{quote(team, safe='')}/archives/restore"
        body = {"archives": [dict(entry) for entry in archives]}
        found: Mapping[str, Any] = await self.call("POST", path, body)
        return found

    async def find_leftovers(self, contest: str, teams: Iterable[str]) -> Mapping[str, Any]:
        """What in the cluster still bears a contest that had these teams."""
        body = {"contest": contest, "teams": list(teams)}
        found: Mapping[str, Any] = await self.call("POST", "leftovers", body)
        return found

    async def call(
        self, method: str, path: str, body: object = None, *, may_be_absent: bool = False
    ) -> Any:
        """One call: the answer's JSON.

        Parameters
        ----------
        may_be_absent
            404 is None; else it is refused.

        Raises
        ------
        ProvisionerUnavailableError, ProvisionerRefusedError
        """
        if self._session is None:
            raise RuntimeError("use ProvisionerClient as a context manager")
        url = URL(f"{self.url}/{path}", encoded=True)
        data = None if body is None else json.dumps(body)
        if method != "GET":
            self._before_change()
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            async with self._session.request(
                method, url, data=data, headers=headers, allow_redirects=False
            ) as response:
                status, text = response.status, await response.text(errors="replace")
                asked = response.headers.get("Retry-After", "")
        except _NO_ANSWER as e:
            raise ProvisionerUnavailableError(
                f"no answer from the provisioner at {self.url} ({type(e).__name__})"
            ) from e
        if status == 404 and may_be_absent:
            return None
        what = f"{method} {url.path}"
        if status in (408, 429) or status >= 500:
            raise ProvisionerUnavailableError(
                f"the provisioner could not {what} just now ({status}): {_reason(text)}",
                retry_after_s=float(asked) if asked.isdecimal() else None,
            )
        if status >= 300:
            raise ProvisionerRefusedError(
                f"the provisioner refused {what} ({status}): {_reason(text)}", status=status
            )
        try:
            return json.loads(text) if text else None
        except ValueError as e:
            raise ProvisionerRefusedError(f"{self.url} answered {what} with no JSON") from e


def _reason(text: str) -> str:
    """The service's own sentence, from its JSON; at most a line."""
    try:
        said = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        said = text
    return " ".join(str(said).split())[:200].rstrip(".") or "no reason given"
