"""What an egress rule opens: never a special address, whatever the rule."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.models import EgressRule, Platform
from jupyterhub_collab.policy.egress import SPECIAL_RANGES, effective_egress, refusal

END = {"host": "h", "address": "10.0.0.1", "port": 80, "peer": {"cidr": "10.0.0.1/32"}}


def make_platform(**more: Any) -> Platform:
    return Platform.model_validate({"hub_api": END, "proxy": END, **more})


def make_rule(cidr: str) -> EgressRule:
    return EgressRule.model_validate({"name": "x", "cidr": cidr, "ports": [{"port": 443}]})


def is_opened(address: str | IPv4Address | IPv6Address, cidr: str, platform: Platform) -> bool:
    try:
        network, excepted = effective_egress(make_rule(cidr), platform)
    except SpecError:
        return False
    ip = ip_address(address)
    return ip in ip_network(network) and not any(ip in ip_network(n) for n in excepted)


NETWORKS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 128)),
).map(lambda pair: str(ip_network(f"{pair[0]}/{pair[1]}", strict=False)))


@settings(deadline=None)
@given(NETWORKS, st.sampled_from(SPECIAL_RANGES), st.data())
def test_no_rule_opens_a_special_address(cidr: str, special: Any, data: Any) -> None:
    network = special.network
    address = data.draw(st.ip_addresses(network=network))
    assert not is_opened(address, cidr, make_platform())


@settings(deadline=None)
@given(NETWORKS, st.ip_addresses())
def test_an_ordinary_address_is_opened_by_the_rules_that_hold_it(cidr: str, address: Any) -> None:
    special = any(address in s.network for s in SPECIAL_RANGES)
    wanted = address in ip_network(cidr) and not special
    assert is_opened(address, cidr, make_platform()) == wanted


@settings(deadline=None)
@given(NETWORKS)
def test_exceptions_lie_inside_the_network_and_apart(cidr: str) -> None:
    """Kubernetes refuses exceptions that are not strictly inside."""
    try:
        network, excepted = effective_egress(make_rule(cidr), make_platform())
    except SpecError as e:
        assert "which is" in str(e)  # noqa: PT017
        return
    outer = ip_network(network)
    inner = [ip_network(n) for n in excepted]
    assert all(n.version == outer.version and n.prefixlen > outer.prefixlen for n in inner)
    assert all(n.subnet_of(outer) for n in inner)  # type: ignore[arg-type]
    assert not any(a.overlaps(b) for a in inner for b in inner if a is not b)


@pytest.mark.parametrize(
    ("cidr", "said"),
    [
        ("10.0.0.0/8", "private"),
        ("224.0.0.0/3", "closed in all its parts"),  # multicast and reserved, side by side
        ("10.1.2.3/32", "private"),
        ("169.254.169.254/32", "metadata"),
        ("168.63.129.16/32", "metadata"),
        ("100.100.100.200/32", "metadata"),
        ("100.64.0.0/10", "CGNAT"),
        ("127.0.0.1/32", "loopback"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("fd00::/8", "ULA"),
        ("fe80::1/128", "link-local"),
        ("::1/128", "loopback"),
        ("::ffff:10.0.0.1/128", "not global unicast"),
        ("64:ff9b::a00:1/128", "NAT64"),
    ],
)
def test_a_rule_inside_a_special_range_is_refused_with_the_reason(cidr: str, said: str) -> None:
    reason = refusal(make_rule(cidr), make_platform())
    assert reason is not None
    assert said in reason


def test_a_platform_may_let_rules_name_private_networks_of_its_own() -> None:
    platform = make_platform(private_ranges_allowed=["10.1.0.0/16", "100.64.0.0/10", "fc00::/7"])
    assert is_opened("10.1.2.3", "10.1.2.0/24", platform)
    assert not is_opened("10.2.0.1", "10.2.0.0/24", platform)
    assert not is_opened("10.2.0.1", "10.0.0.0/8", platform)  # wider than what is allowed
    # A wide rule still opens none of them, and metadata services stay closed inside.
    assert not is_opened("10.1.2.3", "0.0.0.0/0", platform)
    assert is_opened("100.64.0.1", "100.64.0.0/10", platform)
    assert not is_opened("100.100.100.200", "100.64.0.0/10", platform)
    assert not is_opened("fd00:ec2::254", "fd00::/8", platform)


@pytest.mark.parametrize("cidr", ["10.0.0.0/8", "192.168.0.0/16", "fc00::/7", "198.18.0.0/15"])
def test_a_platform_may_allow_a_whole_special_range(cidr: str) -> None:
    """It must not end up as an exception to itself, which would open nothing."""
    platform = make_platform(private_ranges_allowed=[cidr])
    assert is_opened(ip_network(cidr)[7], cidr, platform)


@pytest.mark.parametrize("cidr", ["127.0.0.0/8", "169.254.0.0/16", "fe80::/10", "224.0.0.0/4"])
def test_no_platform_can_allow_what_is_not_a_private_network(cidr: str) -> None:
    platform = make_platform(private_ranges_allowed=["0.0.0.0/0", "::/0"])
    assert refusal(make_rule(cidr), platform) is not None


@pytest.mark.parametrize("cidr", ["8.8.8.0/24", "10.1.0.0/24"])
def test_a_rule_closed_half_by_half_is_refused(cidr: str) -> None:
    """Its exception would be the network itself, which the API server refuses."""
    halves = [str(half) for half in ip_network(cidr).subnets()]
    platform = make_platform(egress_denied_ranges=halves, private_ranges_allowed=["10.1.0.0/16"])
    assert "closed in all its parts" in (refusal(make_rule(cidr), platform) or "")


def test_a_platform_closes_public_addresses_of_its_own() -> None:
    platform = make_platform(egress_denied_ranges=["151.101.7.0/24"])
    assert is_opened("151.101.6.1", "151.101.0.0/16", platform)
    assert not is_opened("151.101.7.1", "151.101.0.0/16", platform)
    assert "closed by this platform" in str(refusal(make_rule("151.101.7.8/32"), platform))
