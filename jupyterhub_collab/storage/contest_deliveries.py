"""How far notices have come on the ways on which they leave the hub.

Of those to whom a notice came at once no row is left in the end: rows are for who waits, for whom
it was given up, and for a way that everybody on it was tried on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection, Row, and_, delete, exists, func, insert, select, update

from ..models.contest_life import Notice
from . import contest_tables as tables
from .contest_notices import to_notice
from .contest_records import EVERYBODY, Delivery, DeliveryState
from .contest_rows import from_us, to_us
from .contest_transactions import ContestTransactions

_WAITING, _DONE, _GIVEN_UP = (
    DeliveryState.WAITING.value,
    DeliveryState.DONE.value,
    DeliveryState.GIVEN_UP.value,
)


class DeliveryStore:
    """They, of one registry. Each method raises DatabaseError where its database does not answer;
    those that write raise NotHolderError for whoever lost the lease."""

    def __init__(self, db: ContestTransactions) -> None:
        self._db = db

    async def open_notices(
        self, channel: str, *, after: int, limit: int
    ) -> tuple[tuple[int, Notice], ...]:
        """Notices by number, of which not everybody on a way was tried yet."""
        return await self._db.read(_list_open, channel, after, limit)

    async def due(
        self, channel: str, now: datetime, *, limit: int
    ) -> tuple[tuple[Delivery, Notice], ...]:
        """Who is to be tried again on a way, the longest due first."""
        return await self._db.read(_list_due, channel, now, limit)

    async def of(self, notice: int, channel: str) -> Mapping[str, Delivery]:
        """How far a notice has come on a way, by recipient."""
        return await self._db.read(_list_of, notice, channel)

    async def undone(self, contest: str, *, limit: int) -> tuple[tuple[Notice, Delivery], ...]:
        """Whom a contest's notices did not reach (yet), the newest notice first."""
        return await self._db.read(_list_undone, contest, limit)

    async def count_undone(self) -> Mapping[DeliveryState, int]:
        """How many wait for a notice, and for how many one was given up."""
        return await self._db.read(_count_undone)

    async def put(self, deliveries: Iterable[Delivery]) -> None:
        """Each in place of the one before."""
        await self._db.write(_put, tuple(deliveries))

    async def give_up(
        self, notice: int, channels: Iterable[str], *, why: str, at: datetime
    ) -> None:
        """Nobody is tried again on any way, nor for the first time on these."""
        await self._db.write(_give_up, notice, tuple(channels), why, at)

    async def settle(self, channels: Iterable[str]) -> int:
        """Notices for which nothing is left to do on these ways are delivered; how many."""
        return await self._db.write(_settle, tuple(channels))


def _list_open(
    connection: Connection, channel: str, after: int, limit: int
) -> tuple[tuple[int, Notice], ...]:
    """Notices by number from `after` on, of which not everybody on this way was tried yet."""
    n, d = tables.notices.c, tables.deliveries.c
    mine = (d.notice == n.number) & (d.channel == channel) & (d.recipient == EVERYBODY)
    wanted = select(tables.notices).where(~n.is_delivered, n.number > after, ~exists().where(mine))
    rows = connection.execute(wanted.order_by(n.number).limit(limit))
    return tuple((row.number, to_notice(row)) for row in rows)


def _list_due(
    connection: Connection, channel: str, now: datetime, limit: int
) -> tuple[tuple[Delivery, Notice], ...]:
    """Who is to be tried again on this way, the longest due first."""
    n, d = tables.notices.c, tables.deliveries.c
    joined = tables.deliveries.join(tables.notices, d.notice == n.number)
    wanted = (
        select(tables.deliveries, tables.notices)
        .select_from(joined)
        .where(d.state == _WAITING, d.due_us <= to_us(now), d.channel == channel, ~n.is_delivered)
        .order_by(d.due_us, d.notice, d.recipient)
        .limit(limit)
    )
    return tuple((_to_delivery(row), to_notice(row)) for row in connection.execute(wanted))


def _list_of(connection: Connection, notice: int, channel: str) -> dict[str, Delivery]:
    """Of one notice on one way, by recipient."""
    d = tables.deliveries.c
    mine = select(tables.deliveries).where(d.notice == notice, d.channel == channel)
    return {row.recipient: _to_delivery(row) for row in connection.execute(mine)}


def _list_undone(
    connection: Connection, contest: str, limit: int
) -> tuple[tuple[Notice, Delivery], ...]:
    """Whom notices of a contest did not reach (yet), the newest notice first."""
    n, d = tables.notices.c, tables.deliveries.c
    joined = tables.deliveries.join(tables.notices, d.notice == n.number)
    wanted = (
        select(tables.deliveries, tables.notices)
        .select_from(joined)
        .where(n.contest == contest, d.state != _DONE)
        .order_by(d.notice.desc(), d.channel, d.recipient)
        .limit(limit)
    )
    return tuple((to_notice(row), _to_delivery(row)) for row in connection.execute(wanted))


def _count_undone(connection: Connection) -> dict[DeliveryState, int]:
    """How many wait, and how many were given up."""
    d = tables.deliveries.c
    wanted = select(d.state, func.count()).where(d.state != _DONE).group_by(d.state)
    return {DeliveryState(state): count for state, count in connection.execute(wanted)}


def _put(connection: Connection, deliveries: Iterable[Delivery]) -> None:
    """Each in place of the one before."""
    d = tables.deliveries.c
    for delivery in deliveries:
        connection.execute(
            delete(tables.deliveries).where(
                d.notice == delivery.notice,
                d.channel == delivery.channel,
                d.recipient == delivery.recipient,
            )
        )
        row = {
            "notice": delivery.notice,
            "channel": delivery.channel,
            "recipient": delivery.recipient,
            "state": delivery.state.value,
            "attempts": delivery.attempts,
            "due_us": to_us(delivery.due_at),
            "why": delivery.why,
        }
        connection.execute(insert(tables.deliveries), [row])


def _give_up(
    connection: Connection, notice: int, channels: Iterable[str], why: str, at: datetime
) -> None:
    """Whoever waits for a notice waits no more, nor whoever was not tried."""
    d = tables.deliveries.c
    mine = update(tables.deliveries).where(d.notice == notice, d.state == _WAITING)
    connection.execute(mine.values(state=_GIVEN_UP))
    marked = select(d.channel).where(d.notice == notice, d.recipient == EVERYBODY)
    there = set(connection.execute(marked).scalars())
    _put(
        connection,
        [
            Delivery(notice, name, EVERYBODY, at, DeliveryState.GIVEN_UP, why=why)
            for name in sorted(set(channels) - there)
        ],
    )


def _settle(connection: Connection, channels: tuple[str, ...]) -> int:
    """Notices for which nothing is left to do on these ways are delivered; how many."""
    n, d = tables.notices.c, tables.deliveries.c
    of_it = d.notice == n.number
    wanted = select(n.number).where(
        ~n.is_delivered,
        ~exists().where(of_it & (d.state == _WAITING) & d.channel.in_(channels)),
        *(
            exists().where(
                and_(of_it, d.channel == name, d.recipient == EVERYBODY, d.state != _WAITING)
            )
            for name in channels
        ),
    )
    numbers = connection.execute(wanted).scalars().all()
    for number in numbers:
        connection.execute(
            update(tables.notices).where(n.number == number).values(is_delivered=True)
        )
        # Of a way that is configured no more, whoever waits on it waits in vain.
        gone = delete(tables.deliveries).where(d.notice == number, d.state != _GIVEN_UP)
        connection.execute(gone)
    return len(numbers)


def _to_delivery(row: Row[tuple[object, ...]]) -> Delivery:
    return Delivery(
        notice=row.notice,
        channel=row.channel,
        recipient=row.recipient,
        due_at=from_us(row.due_us),
        state=DeliveryState(row.state),
        attempts=row.attempts,
        why=row.why,
    )
