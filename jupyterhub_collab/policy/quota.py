"""A quota's refusal, as a sentence: how much the team uses, by whose servers, what to do.

Reads the message of Kubernetes' quota admission (403), such as
``pods "x" is forbidden: exceeded quota: team, requested: limits.cpu=2,requests.cpu=2,
used: limits.cpu=7500m,..., limited: limits.cpu=8,...``. A message of another shape is not an
error: `quota_refusal` answers None and the caller says what it can.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import units

_EXCEEDED = re.compile(
    r"exceeded quota: (?P<quota>[^,]+), requested: (?P<requested>.+?), used: (?P<used>.+?),"
    r" limited: (?P<limited>[^,=\s]+=[^,\s]+(?:,[^,=\s]+=[^,\s]+)*)"
)
_MUST_SPECIFY = re.compile(r"failed quota: [^:]+: must specify (?P<what>.+)$")


@dataclass(frozen=True)
class Exceeded:
    """One resource of which more was asked than is left. Plain numbers in the resource's unit."""

    resource: str
    requested: str
    used: str
    limit: str


@dataclass(frozen=True)
class RunningServer:
    """A server that counts: whose it is, and what it is called ("" for the default one)."""

    username: str
    server_name: str


def parse_exceeded(message: str) -> tuple[Exceeded, ...]:
    """All resources that a 403 of quota admission names; empty when it is something else."""
    match = _EXCEEDED.search(message)
    if match is None:
        return ()
    requested, used, limited = (
        dict(part.split("=", 1) for part in match[key].split(",") if "=" in part)
        for key in ("requested", "used", "limited")
    )
    return tuple(
        Exceeded(resource, requested[resource], used.get(resource, "0"), limit)
        for resource, limit in limited.items()
        if resource in requested
    )


def quota_refusal(
    message: str, *, team: str, servers: Sequence[RunningServer], reader: str
) -> str | None:
    """Sentence for the person whose request a quota refused; None when no quota did.

    Parameters
    ----------
    message
        The API server's message.
    servers
        The team's servers that run or start, the refused one not among them.
    reader
        User name of who will read it: their own servers are "yours".
    """
    exceeded = parse_exceeded(message)
    if not exceeded:
        return None
    # Several at once: the first of this order is what most people can do something about.
    order = list(_WORDS)
    first = min(exceeded, key=lambda e: order.index(k) if (k := _kind(e.resource)) in order else 99)
    kind = _kind(first.resource)
    words = _WORDS.get(kind)
    if words is None:
        return (
            f"Team {team} has used up its {first.resource}: {first.used} of {first.limit}."
            " Ask for a larger tier."
        )
    used, limit, needed = (words.amount(q) for q in (first.used, first.limit, first.requested))
    if _is_zero(first.used):
        return (
            f"Team {team} may use {words.total(limit)} in all, and this would need {needed}."
            f" {words.advice_size}"
        )
    whose = _whose(servers, reader) if words.by_servers else ""
    return f"Team {team} uses {words.share(used, limit)}{whose}. {words.advice(servers)}"


def missing_limit(message: str) -> str | None:
    """What a pod must specify for the quota and did not, from the API's message."""
    match = _MUST_SPECIFY.search(message)
    return match["what"].strip() if match else None


@dataclass(frozen=True)
class _Words:
    """How to speak of one resource: what is counted has a noun, what is weighed a phrase."""

    amount: Callable[[str], str]
    noun: str = ""  # one of them
    phrase: str = ""
    by_servers: bool = True
    advice_size: str = "Choose a smaller profile or ask for a larger tier."

    def total(self, limit: str) -> str:
        """``8 CPUs``, ``16 GiB of memory``."""
        return units.human_count(limit, self.noun) if self.noun else f"{limit} {self.phrase}"

    def share(self, used: str, limit: str) -> str:
        """``7.5 of its 8 CPUs``, ``its one CPU``, ``14 GiB of its 16 GiB of memory``."""
        if not self.noun or limit != "1":
            return f"{used} of its {self.total(limit)}"
        return f"its one {self.noun}" if used == limit else f"{used} of its one {self.noun}"

    def advice(self, servers: Sequence[RunningServer]) -> str:
        if self.by_servers and servers:
            return "Stop one or ask for a larger tier."
        return "Ask for a larger tier."


def _cpus(quantity: str) -> str:
    return units.human_cpus(units.to_millicores(quantity))


def _bytes(quantity: str) -> str:
    return units.human_bytes(units.to_bytes(quantity))


_WORDS: dict[str, _Words] = {
    "pods": _Words(str, noun="pod"),
    "cpu": _Words(_cpus, noun="CPU"),
    "memory": _Words(_bytes, phrase="of memory"),
    "gpu": _Words(str, noun="GPU"),
    "ephemeral-storage": _Words(_bytes, phrase="of scratch space"),
    "storage": _Words(
        _bytes, phrase="of storage", by_servers=False, advice_size="Ask for a larger tier."
    ),
    "persistentvolumeclaims": _Words(
        str, noun="volume", by_servers=False, advice_size="Ask for a larger tier."
    ),
}


def _kind(resource: str) -> str:
    """``requests.cpu`` and ``limits.cpu`` are cpu; any class's requests.storage is storage."""
    bare = resource.rsplit("/", 1)[-1] if "storageclass" in resource else resource
    bare = bare.removeprefix("requests.").removeprefix("limits.").removeprefix("count/")
    return "gpu" if bare.endswith("/gpu") else bare


def _is_zero(quantity: str) -> bool:
    try:
        return units.to_decimal(quantity) == 0
    except ValueError:
        return False


def _whose(servers: Sequence[RunningServer], reader: str) -> str:
    """`` (two servers, yours and bob's)``; empty when no server of ours runs."""
    if not servers:
        return ""
    owners = sorted({s.username for s in servers}, key=lambda name: (name != reader, name))
    words = ["yours" if name == reader else f"{name}'s" for name in owners]
    count = _NUMBERS.get(len(servers), str(len(servers)))
    noun = "server" if len(servers) == 1 else "servers"
    return f" ({count} {noun}, {_join(words)})"


_NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight"}
_SHOWN_MAX = 8  # owners that a sentence names


def _join(words: list[str]) -> str:
    if len(words) > _SHOWN_MAX:
        return f"{', '.join(words[:_SHOWN_MAX])} and {len(words) - _SHOWN_MAX} others'"
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} and {words[-1]}"
