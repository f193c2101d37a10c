"""Documents: frozen, strict about fields and forms, the same after a trip over the wire."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jupyterhub_collab.models import (
    Contest,
    Dataset,
    EgressRule,
    Image,
    Platform,
    Tier,
    TierOverrides,
)

TIER = {"cpu": "2", "memory": "8Gi", "storage": "20Gi", "ephemeralStorage": "1Gi", "pods": 2}
END = {"host": "h", "address": "10.0.0.1", "port": 80, "peer": {"cidr": "10.0.0.1/32"}}


def test_wire_names_and_units() -> None:
    tier = Tier.model_validate(TIER)
    assert (tier.cpu_millicores, tier.memory_bytes, tier.pod_count) == (2000, 8 << 30, 2)
    assert tier.to_wire() == {**TIER, "gpu": 0, "serversPerMember": 1}


def test_quantities_written_otherwise_are_the_same_document() -> None:
    one = Tier.model_validate(TIER)
    other = Tier.model_validate({**TIER, "cpu": 2.0, "memory": "8192Mi"})
    assert one.hash() == other.hash()


def test_what_changes_a_document_changes_its_hash() -> None:
    hashes = {
        Tier.model_validate({**TIER, key: value}).hash()
        for key, value in [("cpu", "3"), ("memory", "9Gi"), ("pods", 3), ("gpu", 1)]
    }
    assert len(hashes | {Tier.model_validate(TIER).hash()}) == 5


def test_documents_are_frozen() -> None:
    tier = Tier.model_validate(TIER)
    with pytest.raises(ValidationError):
        tier.pod_count = 3  # type: ignore[misc]


@given(st.integers(1, 2**40), st.integers(1, 2**50), st.integers(0, 100_000))
def test_tiers_survive_the_wire(cpu: int, memory: int, pods: int) -> None:
    tier = Tier(
        cpu_millicores=f"{cpu}m",  # type: ignore[arg-type]
        memory_bytes=memory,
        storage_bytes=1,
        ephemeral_storage_bytes=1,
        pod_count=pods,
    )
    assert Tier.model_validate(tier.to_wire()) == tier


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (Tier, {**TIER, "cpus": 2}),
        (Tier, {**TIER, "pods": "2"}),
        (Tier, {**TIER, "pods": True}),
        (Tier, {**TIER, "pods": -1}),
        (Tier, {**TIER, "pods": 100_001}),
        (Tier, {**TIER, "cpu": True}),
        (TierOverrides, {"cpu": "x"}),
        (Image, {"title": "x", "image": "basic"}),
        (Image, {"title": "x", "image": "basic:latest extra"}),
        (Image, {"title": "x", "image": "basic:1\n"}),
        (Image, {"title": "x", "image": "Basic:1"}),
        (Image, {"title": "x", "image": "basic@sha256:" + "a" * 63}),
        (Image, {"title": "", "image": "basic:1"}),
        (Contest, {"id": "x", "title": "x", "ends": "2027-01-01T00:00:00"}),
        (Contest, {"id": "x", "title": "x", "ends": 1798761600}),
        (Contest, {"id": "x", "title": "x", "ends": "1798761600"}),
        (Contest, {"id": "X", "title": "x"}),
        (EgressRule, {"name": "x", "cidr": "8.8.8.8/8", "ports": [{"port": 1}]}),
        (EgressRule, {"name": "x", "cidr": 5, "ports": [{"port": 1}]}),
        (EgressRule, {"name": "x", "cidr": "8.8.8.8", "ports": []}),
        (EgressRule, {"name": "x", "cidr": "example.org", "ports": [{"port": 1}]}),
        (EgressRule, {"name": "x", "cidr": "8.8.8.8", "ports": [{"port": 0}]}),
        (EgressRule, {"name": "x", "cidr": "8.8.8.8", "ports": [{"port": 1, "protocol": "ICMP"}]}),
        (Dataset, {"title": "x", "protected": "yes", "nfs": {"server": "s", "path": "/x"}}),
        (Dataset, {"title": "x", "nfs": {"server": "s", "path": "x"}}),
        (Platform, {"hub_api": END, "proxy": END, "namespace_prefix": "team"}),
        (Platform, {"hub_api": END, "proxy": END, "private_ranges_allowed": ["10.0.0.1/8"]}),
        (Platform, {"hub_api": END, "proxy": {**END, "peer": {"cidr": "everywhere"}}}),
        (Platform, {"hub_api": END, "proxy": {**END, "peer": {"namespace": "x", "podLabels": {}}}}),
    ],
)
def test_what_is_refused(model: Any, value: Any) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(value)


def test_two_hubs_of_a_cluster_are_never_one_by_default() -> None:
    """The hub's id is what makes an object ours: see `manifests.manifest.ownership_labels`."""
    ends = {"hub_api": END, "proxy": END}
    spring = Platform.model_validate({**ends, "hub_namespace": "hub-spring"})
    autumn = Platform.model_validate({**ends, "hub_namespace": "hub-autumn"})
    assert (spring.hub_id, autumn.hub_id) == ("hub-spring", "hub-autumn")
    assert Platform.model_validate(ends).hub_id == "jupyterhub"
    named = Platform.model_validate({**ends, "hub_namespace": "hub-spring", "hub_id": "one"})
    assert named.hub_id == "one"
    assert Platform.model_validate(named.to_wire()) == named


@settings(deadline=None)
@given(st.text(min_size=1, max_size=200))
def test_titles_are_free_text(title: str) -> None:
    contest = Contest(id="x", title=title)
    assert Contest.model_validate(contest.to_wire()) == contest
