"""The cluster's store is put back to an earlier state while hub and provisioner work.

Versions go back and no watch says so. What was made since is gone, what was deleted since is back.
Both sides have to notice, and to end where the hub's groups and its members want them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from jupyterhub_collab.constants import POLICY_DENY_ALL
from tests.campaign.scene import (
    TEAMS,
    Scene,
    assert_nothing_lost,
    member,
    playing,
    wait_until,
)
from tests.cluster import lifecycle, programs_build
from tests.cluster.cluster import Cluster, open_cluster
from tests.cluster.errors import CannotHave
from tests.cluster.record import Level
from tests.cluster.store import restore_store, save_store

pytestmark = [pytest.mark.campaign, pytest.mark.api, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of this module's own: its past is to be changed."""
    folder = tmp_path_factory.mktemp("restored") / "cluster"
    try:
        keeper = lifecycle.start(Level.API, folder, is_detached=False)
    except CannotHave as error:
        pytest.skip(f"no cluster of level api: {error}")
    try:
        yield open_cluster(keeper.directory, programs_build.find_programs(Level.API))
    finally:
        keeper.end()


def strays(scene: Scene) -> set[str]:
    """Members of whose pods the hub knows no server."""
    answer = scene.hub.api("GET", "collab/strays")
    return {stray["username"] for stray in answer.json()["strays"]}


def test_an_earlier_state_of_etcd(
    own_cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
    healed: Callable[[float], None],
) -> None:
    folder = tmp_path_factory.mktemp("scene")
    with playing(own_cluster, folder) as scene:
        stopped, replaced, kept = TEAMS[0], TEAMS[1], TEAMS[2]
        before = scene.census()
        save_store(own_cluster, folder / "backup")
        for team in (stopped, replaced):
            scene.hub.stop_server(member(team))
            scene.hub.wait_stopped(member(team))
        scene.hub.spawn(member(replaced))
        wait_until(lambda: scene.has_server(replaced), 60, scene)
        scene.add_team("later")
        scene.hub.spawn(member("later"))
        wait_until(lambda: scene.has_server("later"), 60, scene)
        middle = scene.census()

        restore_store(own_cluster, folder / "backup")
        key = ("Namespace", "", scene.space("later"))

        def is_anew() -> bool:  # the store had forgotten it
            uid = scene.census().uids.get(key)
            return uid not in (None, middle.uids[key]) and scene.is_ready("later")

        seconds = wait_until(lambda: is_anew() and not scene.has_server("later"), 120, scene)
        again = scene.census()
        assert scene.has_server(kept)
        # Pods that the members had stopped are back: told of, and left alone.
        wait_until(lambda: strays(scene) == {member(stopped), member(replaced)}, 60, scene)
        assert again.of("Pod").keys() == before.of("Pod").keys()
        # Watches are alive: they do not wait for a version that is yet to come.
        hurt = scene.space(kept)
        scene.cluster.kubectl("delete", "networkpolicy", POLICY_DENY_ALL, "-n", hurt)

        def policy_is_back() -> bool:
            get = ("get", "networkpolicy", POLICY_DENY_ALL, "-n", hurt)
            return scene.cluster.kubectl(*get, check=False).returncode == 0

        wait_until(policy_is_back, 10, scene)
        # Whoever starts a server anew gets a new one, and the one that came back makes way.
        seconds += wait_until(
            lambda: all(scene.ensure_server(t) for t in (stopped, replaced, "later")), 60, scene
        )
        healed(seconds)
        assert strays(scene) == set()
        pods = before.of("Pod")
        started = [*pods, *before.of("Secret")]
        made_anew = tuple(k for k in started if k[1] in map(scene.space, (stopped, replaced)))
        policy = ("NetworkPolicy", hurt, POLICY_DENY_ALL)
        wait_until(lambda: len(scene.pods()) == len(pods) + 1, 30, scene)
        assert_nothing_lost(scene, before, made_anew=(*made_anew, policy))
