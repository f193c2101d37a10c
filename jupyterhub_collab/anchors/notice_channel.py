"""A way on which notices leave the hub, and what is brought on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..errors import RetryableError
from ..models.contest_life import Notice


class ChannelAwayError(RetryableError):
    """The way itself is not there: nothing is wrong with what was to be brought, nor with whom."""


class NotAllTookItError(RetryableError):
    """It was taken for the others.

    Attributes
    ----------
    refused
        By address: whether it will not be taken later either.
    """

    def __init__(self, refused: Mapping[str, bool]) -> None:
        super().__init__("The mail server refuses the address")
        self.refused = dict(refused)


@dataclass(frozen=True)
class NoticeMessage:
    """A notice on its way.

    Attributes
    ----------
    number
        The registry's; with the team it is the same at each try.
    team
        Whose people it goes to; empty: to nobody in particular.
    recipients
        E-mail addresses.
    """

    number: int
    notice: Notice
    title: str
    team: str = ""
    recipients: tuple[str, ...] = ()


class NoticeChannel(Protocol):
    """One way.

    Attributes
    ----------
    is_per_team
        A notice to a contest goes to each of its teams; otherwise it goes once.
    """

    name: str
    is_per_team: bool

    async def send(self, message: NoticeMessage) -> None:
        """Bring it. Whoever takes it may get it twice, and can tell.

        Raises
        ------
        ChannelAwayError
            Nobody can be reached on this way now.
        NotAllTookItError
            Some of the addresses are refused.
        RetryableError
            This one may be taken later.
        PermanentError
            This one will never be taken.
        """

    async def close(self) -> None:
        """Let go of connections."""
