"""What the team registry refuses, and what the database decided."""

from __future__ import annotations

from ..errors import PermanentError, RetryableError


class UnreadableError(PermanentError):
    """A row of a contest, a team or a course that cannot be read: another version's, or changed by
    hand.

    Attributes
    ----------
    contest
        Whose it is.
    """

    def __init__(self, text: str, *, contest: str) -> None:
        super().__init__(text)
        self.contest = contest


class StaleError(PermanentError):
    """What the change was made from has changed meanwhile. Nothing was written; look again."""


class TakenError(PermanentError):
    """The id is, or was, another team's or contest's. Nothing was written."""


class FullError(PermanentError):
    """No place left: in the team, or in the contest. Nothing was written."""


class AlreadyInError(PermanentError):
    """This person is in a team of the contest already. Nothing was written."""


class InvitationError(PermanentError):
    """The invitation is used, expired, withdrawn, or none. The text does not say which."""


class NotHolderError(RetryableError):
    """Another process may be doing the contests' work by now, so this one writes nothing."""

    def __init__(self) -> None:
        super().__init__(
            "Another process of the contests service may be at work. Nothing was written by this"
            " one; it goes on once it is certain that it is alone."
        )
