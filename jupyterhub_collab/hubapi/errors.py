"""What the hub answered, as errors to retry or to give up on. No message holds a token."""

from __future__ import annotations

from ..errors import PermanentError, RetryableError


class HubUnavailableError(RetryableError):
    """The hub did not answer, or asked to be left alone for a while."""


class HubRefusedError(PermanentError):
    """The hub answered and said no. `status` is the HTTP status, 0 when it is not about one."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
