"""How long a log-in lasts: one word, and JupyterHub's many lifetimes from it.

Where data is protected, sessions are short: whoever finds a browser open, or a token in a notebook,
has it for hours and not for weeks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final


class Sessions(str, Enum):
    """Kinds of session."""

    PROTECTED = "protected"  # browser 6 h, token 1 h
    WORKDAY = "workday"  # browser 12 h, token 12 h
    LONG = "long"  # browser 14 days, token 90 days


@dataclass(frozen=True)
class Lifetimes:
    """What follows from a kind.

    Attributes
    ----------
    browser
        Of a log-in in a browser: the hub's cookie, and the tokens that servers and services get by
        it. After it one logs in anew.
    token
        Longest life of a token that somebody makes for a program.
    refresh
        Age at which what a source said of somebody who is here is asked again.
    """

    browser: timedelta
    token: timedelta
    refresh: timedelta


LIFETIMES: Final = {
    Sessions.PROTECTED: Lifetimes(timedelta(hours=6), timedelta(hours=1), timedelta(minutes=1)),
    Sessions.WORKDAY: Lifetimes(timedelta(hours=12), timedelta(hours=12), timedelta(minutes=5)),
    Sessions.LONG: Lifetimes(timedelta(days=14), timedelta(days=90), timedelta(minutes=5)),
}


def configure_sessions(c: Any, kind: Sessions | str) -> None:
    """Set all of JupyterHub's lifetimes; what is set after it counts.

    Raises
    ------
    ValueError
        There is no such kind.

    Notes
    -----
    Tokens that were made before keep their own expiry. Tokens of running servers live as long as
    those. Shares get an expiry of a day where nobody says one, from JupyterHub itself for codes;
    a share with a person or group lasts until it is taken back or the membership is lost.
    """
    kinds = ", ".join(known.value for known in Sessions)
    try:
        found = LIFETIMES[Sessions(kind)]
    except ValueError:
        raise ValueError(f"sessions: {kind!r} is none of {kinds}") from None
    seconds = int(found.browser.total_seconds())
    c.JupyterHub.cookie_max_age_days = found.browser / timedelta(days=1)
    c.JupyterHub.oauth_token_expires_in = seconds
    c.JupyterHub.token_expires_in_max_seconds = int(found.token.total_seconds())
    c.Authenticator.auth_refresh_age = int(found.refresh.total_seconds())
