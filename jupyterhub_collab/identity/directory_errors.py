"""What a directory (LDAP, Active Directory) answered, as errors.

The text of `BadCredentialsError` is for the stranger at the login page: whether the person is not
there, the password wrong or the name not unique, it is the same. Which it was is in `reason` and
`detail`, for the admin's log. No text holds a password.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from ..errors import PermanentError, RetryableError, UserError


class Refusal(Enum):
    """Why a person was not let in. For the admin's log."""

    BAD_INPUT = "not a user name or password that a directory could hold"
    UNKNOWN = "no such person"
    SEVERAL = "the name fits more than one person"
    WRONG_PASSWORD = "wrong password"  # noqa: S105 - no password
    PASSWORD_EXPIRED = "password expired"  # noqa: S105 - no password
    MUST_CHANGE = "password must be changed"
    DISABLED = "account disabled"
    ACCOUNT_EXPIRED = "account expired"
    NOT_NOW = "not allowed to log in at this time"
    NOT_HERE = "not allowed to log in from here"
    LOCKED = "account locked"


SAME_WORDS: Final = (
    "The user name or the password is not right. After several wrong passwords the directory may"
    " have locked the account for a while."
)

# Said only where the directory had found the password right before it refused.
_TOLD: Final = {
    Refusal.PASSWORD_EXPIRED: (
        "Your password has expired. Set a new one with your institution, then log in here."
    ),
    Refusal.MUST_CHANGE: (
        "Your institution asks you to change your password. Do that there, then log in here."
    ),
    Refusal.DISABLED: "Your account is disabled. Ask your institution's help desk.",
    Refusal.ACCOUNT_EXPIRED: "Your account has expired. Ask your institution's help desk.",
    Refusal.NOT_NOW: "Your institution does not let you log in at this time of day.",
    Refusal.NOT_HERE: "Your institution does not let you log in from here.",
}
_LOCKED: Final = (
    "Your account is locked after too many wrong passwords. Wait a while, or ask your"
    " institution's help desk."
)

# Active Directory's data codes; all but 525, 52e and 775 come after the password was found right.
# https://learn.microsoft.com/windows/win32/debug/system-error-codes
_ACTIVE_DIRECTORY: Final = {
    "525": Refusal.UNKNOWN,
    "52e": Refusal.WRONG_PASSWORD,
    "530": Refusal.NOT_NOW,
    "531": Refusal.NOT_HERE,
    "532": Refusal.PASSWORD_EXPIRED,
    "533": Refusal.DISABLED,
    "701": Refusal.ACCOUNT_EXPIRED,
    "773": Refusal.MUST_CHANGE,
    "775": Refusal.LOCKED,
}
_DATA = re.compile(r"AcceptSecurityContext error, data 0*([0-9a-f]{3,8})\b", re.IGNORECASE)

# draft-behera-ldap-password-policy; accountLocked comes whether or not the password is right.
_PASSWORD_POLICY: Final = {
    0: Refusal.PASSWORD_EXPIRED,
    1: Refusal.LOCKED,
    2: Refusal.MUST_CHANGE,
}


class BadCredentialsError(UserError):
    """This person is not let in. The text is for them.

    Parameters
    ----------
    detail
        For the admin's log.
    tell_locked
        Say so to whoever typed the name of a locked account. A directory says it even to a wrong
        password, so that a stranger would learn which names exist.
    """

    def __init__(self, reason: Refusal, detail: str = "", *, tell_locked: bool = False) -> None:
        self.reason = reason
        self.detail = detail or reason.value
        told = _LOCKED if tell_locked and reason is Refusal.LOCKED else None
        super().__init__(told or _TOLD.get(reason, SAME_WORDS))


class DirectoryDownError(RetryableError):
    """No server of the directory answered, or not in time, or not with LDAP.

    Attributes
    ----------
    password_shown
        A person's password was sent before that, so the directory may have counted it.
    """

    password_shown: bool = False


class DirectorySettingsError(PermanentError):
    """The directory answered, and an admin must act: certificate, account, base, filter."""


class DirectoryCertificateError(DirectorySettingsError):
    """A server could not prove to be the one that was meant. Other servers may."""


class GroupNotFoundError(PermanentError):
    """No such group, or our account may not see it. No proof that its members lost anything."""


def to_refusal(message: str, password_policy: int | None) -> Refusal:
    """Why a bind was refused, from the diagnostic message and the password policy's error."""
    if password_policy in _PASSWORD_POLICY:
        return _PASSWORD_POLICY[password_policy]
    code = _DATA.search(message)
    return _ACTIVE_DIRECTORY.get(code[1].lower() if code else "", Refusal.WRONG_PASSWORD)
