"""Turns of starts: while many servers start, contests and their teams take turns.

JupyterHub's own limit (`concurrent_spawn_limit`) refuses whoever comes last, so the contest that
asks most has all of it. Here a start waits for its turn (`policy.start_turns`), with the page open
and before `start_timeout` begins, and gives its place back when it is over, however that comes.
Waiting starts count toward JupyterHub's limit: `hub.configure` turns that off.

All of it is in this process: when the hub ends, whoever waited starts anew, and servers whose start
was under way are found again without a place.
"""

from __future__ import annotations

import asyncio
import logging
import random
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..policy.start_turns import StartTurns, Turn
from .audit.origin import continued, kept_origin
from .audit.servers import tell_not_started
from .refusals import SpawnRefusedError
from .team_servers import note

if TYPE_CHECKING:
    from .spawner import TeamSpawner

log = logging.getLogger(__name__)

_SENTENCES_MAX: Final = 100  # that one start says while it waits; the page keeps 200
_LOOK_S: Final = 2.0  # at least between two of them
_COUNT_S: Final = 1.0  # so long a count of who comes before whom is good


class StartLine:
    """Who waits for a place on this hub. One for a process and event loop: `line_of`."""

    def __init__(self, *, places: int, waiting_max: int) -> None:
        self._turns = StartTurns(places)
        self._waiting_max = waiting_max
        self._waiters: dict[Turn, asyncio.Future[None]] = {}
        self._counts: dict[str, tuple[float, dict[Turn, int]]] = {}

    async def wait(
        self,
        contest: str,
        team: str,
        *,
        timeout_s: float,
        retry_s: tuple[float, float],
        say: Callable[[str], None],
    ) -> Turn:
        """A place, which the caller gives back with `leave`.

        Parameters
        ----------
        retry_s
            Between how many and how many seconds later somebody who is refused may come again.
        say
            Is told how many are before this one, from time to time.

        Raises
        ------
        SpawnRefusedError
            Too many of the contest wait, or this one waited for too long.
        """
        if self._turns.waiting_in(contest) >= self._waiting_max:
            raise _refusal(
                f"{self._waiting_max} servers of your contest wait for their start already.",
                retry_s,
            )
        turn = self._turns.ask(contest, team)
        self._call()
        if not turn.is_waiting:
            return turn
        called = self._waiters[turn] = asyncio.get_running_loop().create_future()
        try:
            await self._wait_called(turn, called, timeout_s=timeout_s, say=say)
            if not called.done():
                raise _refusal(
                    f"Your server waited {timeout_s:g} seconds for its start, and others of your"
                    " contest are still before it.",
                    retry_s,
                )
        except BaseException:  # a cancellation too, even one that comes with the place
            self.leave(turn)
            raise
        finally:
            self._waiters.pop(turn, None)
        return turn

    def leave(self, turn: Turn) -> None:
        """The start is over. Asking twice is asking once."""
        self._turns.leave(turn)
        self._call()

    def _call(self) -> None:
        """Let in whose turn it is."""
        while (turn := self._turns.next()) is not None:
            called = self._waiters.get(turn)
            if called is not None and not called.done():
                called.set_result(None)

    async def _wait_called(
        self,
        turn: Turn,
        called: asyncio.Future[None],
        *,
        timeout_s: float,
        say: Callable[[str], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        look_s = max(_LOOK_S, timeout_s / _SENTENCES_MAX)
        while not called.done() and loop.time() < deadline:
            say(to_waiting(self._ahead_of(turn, loop.time())))
            await asyncio.wait({called}, timeout=min(look_s, deadline - loop.time()))

    def _ahead_of(self, turn: Turn, now: float) -> int:
        """How many starts of its contest come before it, as of a moment ago."""
        counted_at, counts = self._counts.get(turn.contest, (now, {}))
        if turn not in counts or now - counted_at > _COUNT_S:
            # One count serves all who wait: each for itself would cost the square of them.
            counts = self._turns.ahead(turn.contest)
            self._counts = {c: found for c, found in self._counts.items() if c != turn.contest}
            self._counts[turn.contest] = now, counts
        return counts[turn]


def to_waiting(ahead: int) -> str:
    """What somebody reads who waits."""
    if ahead == 0:
        return "Waiting for a place: the next start of your contest is yours."
    if ahead == 1:
        return "Waiting for a place: one start of your contest is before yours."
    return f"Waiting for a place: {ahead} starts of your contest are before yours."


def _refusal(why: str, retry_s: tuple[float, float]) -> SpawnRefusedError:
    after_s = max(1, round(random.uniform(*retry_s)))  # noqa: S311 - not all at one moment
    refusal = SpawnRefusedError(
        f"{why} Try again in {after_s} seconds.", reason="throttled", status_code=429
    )
    refusal.headers = {"Retry-After": str(after_s)}
    return refusal


async def take_turn(spawner: TeamSpawner, say: Callable[[str], None]) -> Turn | None:
    """Wait for the place that a start needs; None: it needs none, since it will be refused.

    Raises
    ------
    SpawnRefusedError
        As `StartLine.wait`; it is told to the audit log.
    """
    note(spawner)  # whoever has servers stopped finds it from now on
    try:
        await spawner.load_user_options()
    except SpawnRefusedError:
        return None  # the start comes to the same end at once, and tells of it
    low_s, high_s = spawner.user.settings["spawn_throttle_retry_range"]
    with continued(kept_origin()):
        try:
            return await line_of(spawner).wait(
                spawner.contest,
                spawner.team,
                timeout_s=spawner.turn_timeout,
                retry_s=(low_s, high_s),
                say=say,
            )
        except SpawnRefusedError as e:
            tell_not_started(spawner, server_id="", reason=e.reason, because=str(e))
            raise


def end_turn(spawner: TeamSpawner) -> None:
    """Give a start's place back, if it has one."""
    turn, spawner.turn = spawner.turn, None
    if turn is not None:
        line_of(spawner).leave(turn)


_lines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, StartLine] = (
    weakref.WeakKeyDictionary()
)


def line_of(spawner: TeamSpawner) -> StartLine:
    """The process's line, made at the first call with that spawner's settings."""
    loop = asyncio.get_running_loop()
    line = _lines.get(loop)
    if line is None:
        line = _lines[loop] = StartLine(
            places=spawner.concurrent_starts, waiting_max=spawner.waiting_starts
        )
        limit = spawner.user.settings.get("concurrent_spawn_limit", 0)
        if limit:
            log.warning(
                "c.JupyterHub.concurrent_spawn_limit is %s: starts that wait for their turn count,"
                " so one contest can fill it. Set it to 0; c.TeamSpawner.concurrent_starts is the"
                " limit that is fair.",
                limit,
            )
    return line
