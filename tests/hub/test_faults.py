"""What goes away while servers run: the API, the hub, both. Nothing is orphaned, nothing lost."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import httpx
import pytest

from jupyterhub_collab import names
from jupyterhub_collab.kube.kinds import POD
from tests.hub.conftest import kube, until
from tests.hub.samples import CONTEST, TEAM

OCEAN = "slow-ocean"


@pytest.fixture
def own_hub(slow_hub):
    """One that a test may kill."""
    return slow_hub


def wait_polled(hub):
    """Until bob's server was looked after twice more: the first may have begun before."""
    before = hub.log.count("Polled bob")
    until(lambda: hub.log.count("Polled bob") >= before + 2)


def uid_of(cluster, user):
    return kube(cluster, "get", POD, names.server_pod(user, ""), OCEAN)["metadata"]["uid"]


def start(hub, user="bob"):
    hub.spawn(user)
    hub.wait_ready(user)


def test_servers_outlive_an_api_that_is_away(own_hub, cluster):
    start(own_hub)
    uid = uid_of(cluster, "bob")
    cluster.kill_api()
    polls = own_hub.log.count("Watch of pods broke")
    until(lambda: own_hub.log.count("Watch of pods broke") > polls + 2)
    wait_polled(own_hub)
    assert own_hub.server("bob")["ready"] is True
    message = own_hub.api("POST", "users/ada/server", json={"team": "ocean"})
    assert message.status_code == 202
    cluster.start_api()
    until(lambda: uid_of(cluster, "bob") == uid)
    own_hub.wait_ready("ada")  # it waited for the API
    assert own_hub.server("bob")["ready"] is True
    own_hub.stop_server("bob")
    own_hub.wait_stopped("bob")
    until(lambda: names.server_pod("bob", "") not in [
        p["metadata"]["name"] for p in kube(cluster, "list", POD, namespace=OCEAN)
    ])  # fmt: skip


def test_a_hub_that_starts_while_the_api_is_away_gives_no_server_up(own_hub, cluster):
    start(own_hub)
    uid = uid_of(cluster, "bob")
    own_hub.kill()
    cluster.kill_api()
    own_hub.start()
    until(lambda: own_hub.server("bob").get("ready"))
    cluster.start_api()
    wait_polled(own_hub)
    assert own_hub.server("bob")["ready"] is True
    assert uid_of(cluster, "bob") == uid
    own_hub.stop_server("bob")
    own_hub.wait_stopped("bob")
    until(lambda: kube(cluster, "list", POD, namespace=OCEAN) == [])


def test_a_false_version_does_not_keep_the_hub_from_starting(own_hub, cluster):
    start(own_hub)
    uid = uid_of(cluster, "bob")
    own_hub.kill()
    version = cluster.paths.volumes / OCEAN / names.personal_claim("bob") / "version"
    version.write_text("nonsense")
    try:
        own_hub.start()
        until(lambda: own_hub.server("bob").get("ready"))
    finally:
        version.unlink()
    assert uid_of(cluster, "bob") == uid
    own_hub.stop_server("bob")
    own_hub.wait_stopped("bob")


def test_a_server_that_ended_while_the_hub_was_away_is_noticed_and_cleared(own_hub, cluster):
    start(own_hub)
    own_hub.kill()
    pod = kube(cluster, "get", POD, names.server_pod("bob", ""), OCEAN)
    ended = "broken"
    home = cluster.paths.volumes / OCEAN / names.personal_claim("bob")
    (home / ended).touch()
    kill_process_of(cluster, pod)
    until(
        lambda: (
            kube(cluster, "get", POD, names.server_pod("bob", ""), OCEAN)["status"]["phase"]
            == "Failed"
        )
    )
    (home / ended).unlink()
    own_hub.start()
    own_hub.wait_stopped("bob")
    until(lambda: kube(cluster, "list", POD, namespace=OCEAN) == [])


def kill_process_of(cluster, pod):
    """Kill what runs a pod's container, found by the mark of its pod."""
    uid = pod["metadata"]["uid"].encode()
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if uid in file.read_bytes():
                found.append(int(file.parent.name))
    assert found
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_server_that_ends_is_stopped_and_its_pod_goes(own_hub, cluster):
    start(own_hub)
    kill_process_of(cluster, kube(cluster, "get", POD, names.server_pod("bob", ""), OCEAN))
    own_hub.wait_stopped("bob")
    until(lambda: kube(cluster, "list", POD, namespace=OCEAN) == [])


def test_a_pod_deleted_by_hand_is_noticed(own_hub, cluster):
    start(own_hub)
    kube(cluster, "delete", POD, names.server_pod("bob", ""), namespace=OCEAN)
    own_hub.wait_stopped("bob")


def no_pods(cluster):
    return kube(cluster, "list", POD, namespace=OCEAN) == []


def test_who_leaves_the_team_loses_the_running_server(own_hub, cluster):
    own_hub.make_team("ocean", TEAM, "amy")
    start(own_hub)
    start(own_hub, "amy")
    uid = uid_of(cluster, "amy")
    own_hub.api("DELETE", "groups/ocean/users", json={"users": ["bob"]})
    until(lambda: not own_hub.server("bob").get("ready"))
    until(lambda: names.server_pod("bob", "") not in [
        p["metadata"]["name"] for p in kube(cluster, "list", POD, namespace=OCEAN)
    ])  # fmt: skip
    assert "bob is not a member of team ocean any more" in own_hub.log
    assert own_hub.server("amy")["ready"] is True
    assert uid_of(cluster, "amy") == uid


def test_a_gate_that_closes_ends_servers_even_of_an_earlier_hub(own_hub, cluster):
    start(own_hub)
    own_hub.kill()
    own_hub.start()
    until(lambda: own_hub.server("bob").get("ready"))
    own_hub.set_properties("ocean", {**TEAM, "gate": "closed"})
    until(lambda: not own_hub.server("bob").get("ready"))
    until(lambda: no_pods(cluster))
    assert "team ocean is closed" in own_hub.log


def test_a_gate_that_freezes_ends_servers_that_can_write_and_no_others(own_hub, cluster):
    start(own_hub)
    frozen = {**TEAM, "gate": "frozen"}
    own_hub.set_properties("ocean", frozen)
    until(lambda: not own_hub.server("bob").get("ready"))
    until(lambda: no_pods(cluster))
    own_hub.provision("ocean", frozen)
    try:
        start(own_hub)
        uid = uid_of(cluster, "bob")
        own_hub.kill()
        own_hub.start()
        until(lambda: own_hub.server("bob").get("ready"))
        own_hub.set_properties("ocean", {**frozen, "tier": "nowhere"})  # ends nothing
        wait_polled(own_hub)
        assert own_hub.server("bob")["ready"] is True
        assert uid_of(cluster, "bob") == uid
    finally:
        own_hub.provision("ocean")


def test_a_stop_while_the_api_is_away_is_carried_out_when_it_is_back(own_hub, cluster):
    start(own_hub)
    cluster.kill_api()
    stopping = threading.Thread(target=own_hub.stop_server, args=("bob",))
    stopping.start()
    until(lambda: own_hub.server("bob").get("pending") == "stop")
    cluster.start_api()
    stopping.join(60)
    own_hub.wait_stopped("bob")
    until(lambda: kube(cluster, "list", POD, namespace=OCEAN) == [])


def test_a_stop_survives_the_death_of_the_hub(own_hub, cluster):
    """The hub is told to stop a server, the API is away, the hub dies."""
    start(own_hub)
    cluster.kill_api()
    threading.Thread(target=quietly, args=(own_hub.stop_server, "bob"), daemon=True).start()
    until(lambda: own_hub.server("bob").get("pending") == "stop")
    own_hub.kill()
    cluster.start_api()
    assert kube(cluster, "list", POD, namespace=OCEAN) != []
    own_hub.start()
    # Whatever the hub makes of it: the server runs and is known, or its pod is gone.
    until(
        lambda: (
            own_hub.server("bob").get("ready") or kube(cluster, "list", POD, namespace=OCEAN) == []
        )
    )
    own_hub.stop_server("bob")
    own_hub.wait_stopped("bob")
    until(lambda: kube(cluster, "list", POD, namespace=OCEAN) == [])


def quietly(call, *args):
    with contextlib.suppress(httpx.HTTPError):
        call(*args)


def test_a_hub_killed_in_the_middle_of_a_start_finds_the_server_again(own_hub, cluster):
    own_hub.spawn("bob")
    until(lambda: kube(cluster, "list", POD, namespace=OCEAN))
    own_hub.kill()
    own_hub.start()
    own_hub.wait_ready("bob")
    (pod,) = kube(cluster, "list", POD, namespace=OCEAN)
    status = httpx.get(f"http://{pod['status']['podIP']}:8888/user/bob/api")
    assert status.status_code == 200
    own_hub.stop_server("bob")
    own_hub.wait_stopped("bob")
    until(lambda: kube(cluster, "list", POD, namespace=OCEAN) == [])


def test_an_earlier_pod_of_the_same_server_makes_way(own_hub, cluster):
    """As after a hub that lost its database."""
    start(own_hub)
    uid = uid_of(cluster, "bob")
    own_hub.kill()
    (own_hub.folder / "hub.sqlite").unlink()
    own_hub.start()
    own_hub.make_contest("sea", CONTEST)
    own_hub.make_team("ocean", TEAM, "bob")
    start(own_hub)
    assert uid_of(cluster, "bob") != uid
