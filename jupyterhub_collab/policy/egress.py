"""Which addresses an egress rule may open, and which stay closed whatever a rule says.

A rule that lies inside a special range (private, link-local, loopback, metadata services, ...) is
refused; a wider rule is let through without those ranges (`except` in a NetworkPolicy). A platform
may allow private networks of its own to be *named* (``private_ranges_allowed``); a wide rule still
does not open them. Names are not addresses: they need the egress proxy.

Notes
-----
IANA special-purpose registries for IPv4 and IPv6 (RFC 6890). Of IPv6, 2000::/3 alone is global
unicast; all else is special, which also closes NAT64 and mapped forms of IPv4 addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from ..errors import Problem, SpecError
from ..models import EgressRule, Platform

Network = IPv4Network | IPv6Network
Texts = tuple[str, ...]


@dataclass(frozen=True)
class SpecialRange:
    """A range that no rule opens. `nameable`: a platform may allow rules that name it."""

    network: Network
    what: str
    nameable: bool = False

    @property
    def is_rest(self) -> bool:
        """Whether it is one of those that hold all of IPv6 that is not global unicast."""
        return self.network.version == 6 and self.network.prefixlen <= 3


def _special(cidr: str, what: str, *, nameable: bool = False) -> SpecialRange:
    return SpecialRange(ip_network(cidr), what, nameable)


# Narrow ranges stand before the wide ones that hold them: the first match gives the reason.
SPECIAL_RANGES: tuple[SpecialRange, ...] = (
    _special("168.63.129.16/32", "the metadata service of a cloud"),
    _special("100.100.100.200/32", "the metadata service of a cloud"),
    _special("169.254.0.0/16", "link-local, and the metadata service of most clouds"),
    _special("192.0.0.0/24", "protocol assignments, and the metadata service of a cloud"),
    _special("0.0.0.0/8", "this network"),
    _special("127.0.0.0/8", "loopback"),
    _special("10.0.0.0/8", "private", nameable=True),
    _special("172.16.0.0/12", "private", nameable=True),
    _special("192.168.0.0/16", "private", nameable=True),
    _special("100.64.0.0/10", "shared by carriers (CGNAT)", nameable=True),
    _special("192.0.2.0/24", "for documentation", nameable=True),
    _special("198.51.100.0/24", "for documentation", nameable=True),
    _special("203.0.113.0/24", "for documentation", nameable=True),
    _special("198.18.0.0/15", "for benchmarks", nameable=True),
    _special("192.88.99.0/24", "a relay to IPv6 (6to4)"),
    _special("224.0.0.0/4", "multicast"),
    _special("240.0.0.0/4", "reserved, and broadcast"),
    _special("2001:db8::/32", "for documentation", nameable=True),
    _special("3fff::/20", "for documentation", nameable=True),
    _special("2001::/23", "protocol assignments (Teredo and others)"),
    _special("2002::/16", "a relay from IPv4 (6to4)"),
    _special("fd00:ec2::254/128", "the metadata service of a cloud"),
    _special("fd20:ce::254/128", "the metadata service of a cloud"),
    _special("fc00::/7", "private (ULA)", nameable=True),
    _special("fe80::/10", "link-local"),
    _special("fec0::/10", "site-local"),
    _special("ff00::/8", "multicast"),
    _special("::1/128", "loopback"),
    _special("64:ff9b::/96", "a way to IPv4 addresses (NAT64)"),
    _special("::/3", "not global unicast"),
    _special("4000::/2", "not global unicast"),
    _special("8000::/1", "not global unicast"),
)


def all_special_ranges(platform: Platform) -> tuple[SpecialRange, ...]:
    """The special ranges, and those that this platform closes besides."""
    return _ranges(platform.egress_denied_ranges)


def is_within(inner: Network, outer: Network) -> bool:
    """Whether every address of ``inner`` lies in ``outer``; networks of two families never do."""
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network):
        return inner.subnet_of(outer)
    return False


def special_range_of(network: Network) -> SpecialRange | None:
    """The special range that holds the whole network, the narrowest first; None if none does."""
    return next((s for s in SPECIAL_RANGES if is_within(network, s.network)), None)


def refusal(rule: EgressRule, platform: Platform | None) -> str | None:
    """Why the rule can open nothing, in words; None when it can.

    ``platform`` None: it is not known what the platform allows, so only what no platform can
    allow is refused.
    """
    return _refusal(str(rule.cidr), *_settings_of(platform))


def _settings_of(platform: Platform | None) -> tuple[Texts, Texts | None]:
    """Ranges that a platform denies and allows besides; None: it is not known what it allows."""
    if platform is None:
        return (), None
    return platform.egress_denied_ranges, platform.private_ranges_allowed


# The same few rules are looked at for each of thousands of teams.
@lru_cache(maxsize=1024)
def _refusal(cidr: str, denied: Texts, allowed: Texts | None) -> str | None:
    network = ip_network(cidr)
    for special in _ranges(denied):
        if not is_within(network, special.network):
            continue
        if special.nameable and (allowed is None or _is_allowed(network, allowed)):
            break
        return f"{network}, which is {special.what} ({special.network})"
    if _left_out(network, denied) == [network]:
        return f"{network}, which is closed in all its parts"
    return None


def effective_egress(rule: EgressRule, platform: Platform) -> tuple[str, tuple[str, ...]]:
    """What the rule really opens: its network, and the ranges left out of it.

    Raises
    ------
    SpecError
        It lies inside a special range that this platform does not allow.
    """
    reason = refusal(rule, platform)
    if reason is not None:
        raise SpecError([Problem(f"egress.{rule.name}.cidr", reason, "a public network")])
    return _effective(str(rule.cidr), platform.egress_denied_ranges)


@lru_cache(maxsize=1024)
def _effective(cidr: str, denied: Texts) -> tuple[str, tuple[str, ...]]:
    network = ip_network(cidr)
    return str(network), tuple(str(n) for n in _left_out(network, denied))


def _left_out(network: Network, denied: Texts) -> list[Network]:
    """The special ranges in a network, adjacent ones as one."""
    # A platform may allow a special range as a whole; it is then not its own exception.
    return _collapse(
        [
            s.network
            for s in _ranges(denied)
            if is_within(s.network, network) and s.network != network
        ]
    )


def _ranges(denied: Texts) -> tuple[SpecialRange, ...]:
    return (*(_special(c, "closed by this platform") for c in denied), *SPECIAL_RANGES)


def _is_allowed(network: Network, allowed: Texts) -> bool:
    return any(is_within(network, ip_network(a)) for a in allowed)


def _collapse(networks: list[Network]) -> list[Network]:
    """Sorted, without those that lie in another."""
    v4 = [n for n in networks if isinstance(n, IPv4Network)]
    v6 = [n for n in networks if isinstance(n, IPv6Network)]
    return [*sorted(collapse_addresses(v4)), *sorted(collapse_addresses(v6))]
