"""The wall clock of hub and provisioner steps an hour forward, and two hours back, while they work.

Leases, polls and time-outs go by the monotonic clock and notice nothing; credentials carry the
time at which they were minted and are good as long as their server runs.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from jupyterhub_collab.constants import POLICY_DENY_ALL, PROVISIONER_LEASE_NAME
from tests.campaign.scene import TEAMS, Scene, assert_nothing_lost, member, playing, wait_until
from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.campaign, pytest.mark.api, pytest.mark.timeout(300)]

HOUR_S = 3600


@pytest.fixture
def scene(
    clock: Callable[[int], None],
    api_cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    with playing(api_cluster, tmp_path_factory.mktemp("clock")) as found:
        yield found


def is_good(scene: Scene, credential: str) -> bool:
    answer = scene.hub.api(
        "POST",
        "collab/introspect",
        token=scene.hub.gateway_token,
        data={"token": credential},
    )
    return bool(answer.json()["active"])


def credential_of(scene: Scene, team: str) -> str:
    secrets = scene.cluster.get("secrets", "-n", scene.space(team))["items"]
    (found,) = [s for s in secrets if "server-credential" in s["data"]]
    return base64.b64decode(found["data"]["server-credential"]).decode()


def holder(scene: Scene) -> str:
    home = scene.platform.hub_namespace
    return str(scene.cluster.get("lease", PROVISIONER_LEASE_NAME, "-n", home)["spec"])


def test_steps_of_an_hour(
    scene: Scene, clock: Callable[[int], None], healed: Callable[[float], None]
) -> None:
    before = scene.census()
    ran = TEAMS[0]
    credential = credential_of(scene, ran)
    hurt = scene.space(TEAMS[1])
    logged = len(scene.provisioner.log)

    def policy_is_back() -> bool:
        get = ("get", "networkpolicy", POLICY_DENY_ALL, "-n", hurt)
        return scene.cluster.kubectl(*get, check=False).returncode == 0

    for number, offset_s in enumerate((HOUR_S, -HOUR_S, 0)):
        clock(offset_s)
        date = httpx.get(f"{scene.hub.api_url}/").headers["Date"]
        said = time.mktime(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
        assert abs(said - time.time() - offset_s) < 60, "the step did not reach the hub"
        renewed = holder(scene)
        scene.cluster.kubectl("delete", "networkpolicy", POLICY_DENY_ALL, "-n", hurt)
        late = f"step{number}"
        scene.add_team(late)
        scene.hub.spawn(member(late))

        def is_healed(late: str = late) -> bool:
            return policy_is_back() and scene.has_server(late)

        healed(wait_until(is_healed, 60, scene))
        # Its lease is renewed and held all the time, its servers are polled and stay.
        wait_until(lambda renewed=renewed: holder(scene) != renewed, 30, scene)
        time.sleep(5)  # two polls
        assert scene.has_server(ran)
        assert is_good(scene, credential)
        assert is_good(scene, credential_of(scene, late))
    log = scene.provisioner.log[logged:]
    assert "lease" not in log.lower(), log
    assert_nothing_lost(scene, before, made_anew=(("NetworkPolicy", hurt, POLICY_DENY_ALL),))
