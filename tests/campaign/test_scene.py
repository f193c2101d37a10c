"""`assert_nothing_lost` notices what is lost: else no campaign would show anything."""

from __future__ import annotations

import httpx
import pytest

from tests.campaign.scene import (
    SERVERS,
    assert_nothing_lost,
    owner_of,
    playing,
)
from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.campaign, pytest.mark.api, pytest.mark.timeout(300)]


def test_a_lost_secret_and_a_silent_pod_are_noticed(
    api_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with playing(api_cluster, tmp_path_factory.mktemp("scene")) as scene:
        before = scene.census()
        assert_nothing_lost(scene, before)
        assert len(before.of("Secret")) == SERVERS

        first, second = scene.pods()[:2]
        scene.hand.silence(first["metadata"]["uid"])
        with pytest.raises(httpx.ConnectError):
            assert_nothing_lost(scene, before)

        (lost,) = [s for s in scene.secrets() if owner_of(s) == second["metadata"]["uid"]]
        name, space = lost["metadata"]["name"], lost["metadata"]["namespace"]
        scene.cluster.kubectl("delete", "secret", name, "-n", space)
        with pytest.raises(AssertionError, match="is not what it was"):
            assert_nothing_lost(scene, before)
