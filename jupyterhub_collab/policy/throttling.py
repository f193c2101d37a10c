"""How often somebody may try to log in: per account, per device and per address. Pure.

A directory locks an account after some wrong passwords, so whoever can reach the login page could
lock any member out by guessing. The hub therefore stops guesses before the directory counts too
many. Its own brake must not be a lock either: a member on a device that logged in before has a
budget of that device's own, which no stranger can use up. A stranger's guesses and a member's first
try on a new device share the account's other budget; while it is used up the new device waits, and
the known one does not.

    account's budget + known devices' budgets that one person uses at once  <  directory's lock-out

A budget is a leaky bucket: each try fills it by one, time empties it, a success empties it at
once. A try takes its place before the password is looked at, so a thousand guesses sent together
are not a thousand guesses made. Addresses have a wider budget over all accounts: against one
password tried on many people. An IPv6 address counts as its /64, which one customer has as a
whole. A known device is held by its own budget alone: it is known for one account, and whoever
guesses from the same campus must not keep its people out.

Notes
-----
The known device is OWASP's "device cookie":
https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network


@dataclass(frozen=True)
class Budget:
    """How many tries at once, and how long until one of them is forgotten."""

    tries: int
    refill: timedelta

    def __post_init__(self) -> None:
        if self.tries < 1 or self.refill <= timedelta(0):
            raise ValueError(f"a budget needs at least one try and a time to refill: {self}")


@dataclass(frozen=True)
class ThrottleSettings:
    """Budgets. The account's and a device's together stay below the directory's lock-out.

    Attributes
    ----------
    keys_max
        How many accounts, devices and addresses are remembered; the least used go first.
    """

    account: Budget = Budget(2, timedelta(minutes=10))
    device: Budget = Budget(2, timedelta(minutes=10))
    address: Budget = Budget(30, timedelta(minutes=1))
    keys_max: int = 100_000


@dataclass(frozen=True)
class Verdict:
    """Whether a try may be made, and if not, what stands in the way and for how long."""

    wait: timedelta = timedelta(0)
    because: str = ""

    @property
    def may_try(self) -> bool:
        """Whether the password may be looked at."""
        return not self.because


class Throttle:
    """Counts tries. One for a hub; not safe for threads, and need not be on one event loop."""

    def __init__(self, settings: ThrottleSettings | None = None) -> None:
        self._settings = settings or ThrottleSettings()
        # Key to (tries that count, when that was so). The least recently used come first.
        self._levels: OrderedDict[tuple[str, ...], tuple[float, datetime]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def try_now(self, account: str, address: str, *, device: str | None, now: datetime) -> Verdict:
        """Ask for a try, and take its place if it may be made.

        Parameters
        ----------
        account
            As the source compares names: whoever calls folds case if the directory does.
        address
            Where the try comes from, as the proxy that is trusted says.
        device
            A device that this account logged in on before, as its signed cookie says; None: no
            such cookie.
        """
        keys = self._keys(account, address, device)
        waits = {what: self._wait(key, budget, now) for what, (key, budget) in keys.items()}
        longest = max(waits, key=lambda what: waits[what])
        if waits[longest] > timedelta(0):
            return Verdict(waits[longest], longest)
        for key, budget in keys.values():
            self._set(key, self._level(key, budget, now) + 1, now)
        return Verdict()

    def succeeded(self, account: str, address: str, *, device: str | None, now: datetime) -> None:
        """The password was right: this try counts for nothing, nor do earlier ones like it.

        The address gets no more than its own try back: who has one account right may still be
        guessing others'.
        """
        for what, (key, budget) in self._keys(account, address, device).items():
            back = 1.0 if what == "address" else float(budget.tries)
            self._set(key, max(0.0, self._level(key, budget, now) - back), now)

    def give_back(self, account: str, address: str, *, device: str | None, now: datetime) -> None:
        """Nobody looked at the password: this try was none."""
        for key, budget in self._keys(account, address, device).values():
            self._set(key, max(0.0, self._level(key, budget, now) - 1), now)

    def _keys(
        self, account: str, address: str, device: str | None
    ) -> dict[str, tuple[tuple[str, ...], Budget]]:
        if device is not None:
            return {"device": (("device", account, device), self._settings.device)}
        place = ("address", _network_of(address))
        return {
            "account": (("account", account), self._settings.account),
            "address": (place, self._settings.address),
        }

    def _level(self, key: tuple[str, ...], budget: Budget, now: datetime) -> float:
        level, since = self._levels.get(key, (0.0, now))
        # A clock that was set back empties nothing, and a later one makes up for it.
        return max(0.0, level - max(timedelta(0), now - since) / budget.refill)

    def _wait(self, key: tuple[str, ...], budget: Budget, now: datetime) -> timedelta:
        over = self._level(key, budget, now) - (budget.tries - 1)
        return max(timedelta(0), over * budget.refill)

    def _set(self, key: tuple[str, ...], level: float, now: datetime) -> None:
        self._levels.pop(key, None)
        if level <= 0:
            return
        self._levels[key] = (level, now)
        while len(self._levels) > self._settings.keys_max:
            self._levels.popitem(last=False)


def _network_of(address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(found, IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(ip_network((int(found), 64), strict=False))
    return str(found)
