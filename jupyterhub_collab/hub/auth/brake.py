"""The brake before every form in which people type a password: `policy.throttling` with a browser.

It knows a device that an account logged in on before by a cookie, so that a stranger's guesses
never lock out the member (the policy says how). A try takes its place before anybody looks at the
password; the source says afterwards how it went. What is refused is refused alike for accounts that
exist and for others: the brake counts what was typed and asks nobody.

It must not write down what was typed: a throttle holds digests, a cookie's name is one that only
this hub can make.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
import secrets
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tornado import web

from ...policy.throttling import Throttle
from ..addresses import address_of

COOKIE_PREFIX: Final = "collab-device-"
COOKIE_DAYS: Final = 365
COOKIES_MAX: Final = 10  # of one browser: proxies refuse requests with 16 KiB of headers
_NAME_MAX: Final = 1024  # characters that are looked at; no directory's names are longer
_DEVICE = re.compile(rb"[0-9a-f]{32}")
# What directories compare as if it were not there, or were written out (besides NFKD's).
_UNSEEN: Final = frozenset(("Mn", "Me", "Cf", "Cc", "Zs", "Zl", "Zp"))
_WRITTEN_OUT: Final = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "ı": "i"})
log = logging.getLogger(__name__)


class TooManyTriesError(web.HTTPError):
    """Not now. The text is for whoever typed.

    Attributes
    ----------
    because
        Whose budget is used up, for the admin.
    address
        Where the try came from.
    """

    def __init__(self, wait: timedelta, *, because: str, address: str) -> None:
        super().__init__(
            429,
            "There were too many tries to log in to this account, or from where you are."
            f" Try again in {to_words(wait)}; the password was not looked at.",
        )
        self.because, self.address = because, address
        self.headers = {"Retry-After": str(math.ceil(wait.total_seconds()))}


@dataclass(frozen=True)
class LoginTry:
    """A try that may be made. Say how it went: nothing said is a wrong password."""

    address: str
    _throttle: Throttle
    _handler: Any
    _account: str
    _device: str | None
    _now: Callable[[], datetime]

    def succeeded(self) -> None:
        """The password was right. The device is known from now on, for a year."""
        self._throttle.succeeded(self._account, self.address, device=self._device, now=self._now())
        _remember(self._handler, self._account, self._device or secrets.token_hex(16))

    def give_back(self) -> None:
        """Nobody looked at the password."""
        self._throttle.give_back(self._account, self.address, device=self._device, now=self._now())


class LoginBrake:
    """One for a hub.

    Parameters
    ----------
    trust_x_real_ip
        Whether the header X-Real-Ip comes from a proxy and never from a browser.
    """

    def __init__(
        self, throttle: Throttle, *, now: Callable[[], datetime], trust_x_real_ip: bool = False
    ) -> None:
        self._throttle, self._now = throttle, now
        self._trust_x_real_ip = trust_x_real_ip
        self._has_told = False

    def take(self, handler: Any, *, source: str, username: str) -> LoginTry:
        """Take a place for one try.

        Parameters
        ----------
        handler
            JupyterHub's, of the request with the password.
        source
            Whose account it would be.
        username
            As it was typed.

        Raises
        ------
        TooManyTriesError
            Do not look at the password.
        """
        account = to_account(source, username)
        address = self._address_of(handler)
        device = _recognise(handler, account)
        verdict = self._throttle.try_now(account, address, device=device, now=self._now())
        if not verdict.may_try:
            raise TooManyTriesError(verdict.wait, because=verdict.because, address=address)
        return LoginTry(address, self._throttle, handler, account, device, self._now)

    def _address_of(self, handler: Any) -> str:
        """Where a request comes from (`hub.addresses`)."""
        said = handler.request.headers.get("X-Real-Ip")
        found = address_of(handler, trust_x_real_ip=self._trust_x_real_ip)
        if said is None or self._trust_x_real_ip:
            return found
        if found != said and not self._has_told:
            self._has_told = True
            log.warning(
                "Requests name one address in X-Real-Ip and another in X-Forwarded-For; the latter"
                " counts. If your own proxy sets X-Real-Ip, say so: c.TeamAuthenticator."
                "trust_x_real_ip = True, or all people seem to come from one address"
            )
        return found


def to_account(source: str, username: str) -> str:
    """One key for all spellings of a name that some directory takes for the same.

    Directories compare names without case, width, accents, kana type or runs of spaces (RFC 4518;
    Active Directory's collation), each in its way. Spellings that this takes for one and a
    directory does not share their tries; the other way round each would have tries of its own.
    """
    text = unicodedata.normalize("NFKD", username[:_NAME_MAX]).casefold().translate(_WRITTEN_OUT)
    text = unicodedata.normalize("NFKD", text)
    seen = "".join(c for c in text if unicodedata.category(c) not in _UNSEEN)
    seen = "".join(chr(ord(c) - 0x60) if "\u30a1" <= c <= "\u30f6" else c for c in seen)
    digest = hashlib.sha256(f"{source}\0{seen}".encode(errors="surrogatepass"))
    return digest.hexdigest()


def to_words(wait: timedelta) -> str:
    """A time to wait, rounded up."""
    seconds = max(1, math.ceil(wait.total_seconds()))
    if seconds < 90:
        return f"{seconds} second{'s' if seconds > 1 else ''}"
    return f"{math.ceil(seconds / 60)} minutes"


def _cookie_name(handler: Any, account: str) -> str:
    """Names an account to this hub alone: nobody else can tell which account it is."""
    key = handler.application.settings["cookie_secret"]
    return COOKIE_PREFIX + hmac.new(key, account.encode(), hashlib.sha256).hexdigest()[:24]


def _recognise(handler: Any, account: str) -> str | None:
    """The device, if this account logged in on it before."""
    name = _cookie_name(handler, account)
    found = handler.get_signed_cookie(name, max_age_days=COOKIE_DAYS, min_version=2)
    device = found.partition(b".")[0] if found else b""
    return device.decode() if _DEVICE.fullmatch(device) else None


def _remember(handler: Any, account: str, device: str) -> None:
    path = handler.hub.base_url
    name = _cookie_name(handler, account)
    handler._set_cookie(  # JupyterHub's own way: httponly, secure where the hub is
        name,
        f"{device}.{int(time.time())}",
        expires_days=COOKIE_DAYS,
        path=path,
        samesite="Strict",
    )
    # A computer that many people use: whoever logged in longest ago must do without.
    others = [key for key in handler.request.cookies if key.startswith(COOKIE_PREFIX)]
    others = sorted((key for key in others if key != name), key=lambda key: _age_of(handler, key))
    for key in others[COOKIES_MAX - 1 :]:
        handler.clear_cookie(key, path=path)


def _age_of(handler: Any, name: str) -> float:
    """Seconds since a cookie was set; one that is not ours is older than all."""
    found = handler.get_signed_cookie(name, max_age_days=COOKIE_DAYS, min_version=2) or b""
    said = found.partition(b".")[2]
    return time.time() - int(said) if said.isdigit() else math.inf
