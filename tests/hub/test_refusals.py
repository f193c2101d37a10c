"""Refusals on a genuine hub: sentences, 400s, and a hub that goes on.

The hub under test exits after a few failed starts in a row; nothing here may count as one.
"""

import random
import string

import httpx
import pytest

from jupyterhub_collab import names
from jupyterhub_collab.kube.kinds import NAMESPACE, PERSISTENT_VOLUME_CLAIM, POD
from tests.hub.conftest import kube, until
from tests.hub.running import FAILURE_LIMIT
from tests.hub.samples import CONTEST, TEAM

OCEAN = "team-ocean"


def is_up(hub):
    assert hub.process.poll() is None
    return httpx.get(f"http://127.0.0.1:{hub.port}/hub/api/", verify=False).status_code == 200


def refused(answer, status=400):
    assert answer.status_code == status, answer.text
    return answer.json()["message"]


def hostile_options():
    """A hundred sets of options that nobody should accept, in no particular order."""
    values = random.Random(7)
    words = ["profile", "image", "team"]
    bodies = [
        {"profile": "bogus"},
        {"profile": "small", "cpu": 64},
        {"profile": ["small"]},
        {"profile": {"small": 1}},
        {"profile": 7},
        {"profile": True},
        {"profile": "small\n"},
        {"image": "registry.example.org/basic:1.0"},
        {"image": "basic; rm -rf /"},
        {"team": "team-ocean"},
        {"team": "../ocean"},
        {"team": "kube-system"},
        {"team": "reef"},
        {"namespace": "kube-system"},
        {"kubespawner_override": {"privileged": True}},
        {"image": "x" * 500_000},
        {"x" * 100_000: 1},
        {"": "x"},
        {"profile": "\x00"},
        {"profile": "small", "unlisted_choice": "x"},
        {"profile": "huge"},
        {"profile": "large", "image": "extra"},
    ]
    while len(bodies) < 100:
        word = values.choice(words)
        noise = "".join(values.choice(string.printable) for _ in range(values.randint(1, 40)))
        bodies.append(
            {word: values.choice([noise, [noise], {noise: noise}, 10**300, -1, noise * 99])}
        )
    return bodies


def test_a_hundred_hostile_starts_are_a_hundred_reasons(hub, cluster):
    for options in hostile_options():
        message = refused(hub.spawn("bob", **options))
        assert 10 < len(message) < 400, options
    assert is_up(hub)
    assert "consecutive spawns failed" not in hub.log
    assert kube(cluster, "list", POD, namespace=OCEAN) == []
    # Nonsense is not kept as what the next start would use.
    assert hub.spawn("bob").status_code in (201, 202)
    hub.wait_ready("bob")
    hub.stop_server("bob")
    hub.wait_stopped("bob")


@pytest.mark.parametrize("body", ["[]", "7", '"x"', "{", '{"user_options": 1}', "null"])
def test_bodies_that_are_no_options(hub, body):
    answer = hub.api("POST", "users/carl/server", content=body)
    assert answer.status_code == 400
    assert is_up(hub)


def test_reasons(hub):
    assert refused(hub.spawn("carl")) == (
        "You are not in a team yet. Ask the host of your contest to add you."
    )
    assert refused(hub.spawn("ada")) == "You are in several teams: choose ocean or reef."
    assert refused(hub.spawn("bob", team="reef")) == 'You are not a member of a team "reef".'
    assert refused(hub.spawn("bob", profil="x")) == (
        'There is no option "profil". The options are team, image and profile.'
    )


def test_closed_team(hub):
    hub.make_team("shut", {**TEAM, "gate": "closed"}, "zoe")
    assert refused(hub.spawn("zoe")) == (
        "Team shut is closed: it cannot start servers at the moment."
    )


def test_team_whose_settings_are_broken(hub):
    hub.make_team("broken", {**TEAM, "tier": "nowhere"}, "yan")
    message = refused(hub.spawn("yan"), 409)
    assert message.startswith("The settings of team broken are not valid")
    hub.make_team("stray", {**TEAM, "contest": "gone"}, "xi")
    assert "settings of team stray" in refused(hub.spawn("xi"), 409)


def test_quota_says_who_uses_it_and_a_larger_tier_lets_through(hub, cluster):
    members = ("qa", "qb", "qc")
    hub.make_team("quota", TEAM, *members)
    hub.provision("quota")
    try:
        for member in members[:2]:
            hub.spawn(member)
            hub.wait_ready(member)
        for _ in range(FAILURE_LIMIT + 1):  # more than the hub's limit of failures
            message = refused(hub.spawn("qc"))
            assert message == (
                "Team quota uses its one CPU (two servers, qa's and qb's)."
                " Stop one or ask for a larger tier."
            )
        assert is_up(hub)
        larger = {**TEAM, "generation": 2, "overrides": {"cpu": "2"}}
        hub.set_properties("quota", larger)
        hub.provision("quota", larger)
        assert hub.spawn("qc").status_code in (201, 202)
        hub.wait_ready("qc")
    finally:
        for member in members:
            hub.stop_server(member)
            hub.wait_stopped(member)


def test_stopping_makes_room_at_once(hub):
    hub.make_team("room", TEAM, "ra")
    hub.provision("room")
    for _ in range(3):
        assert hub.spawn("ra", profile="large").status_code in (201, 202), hub.log[-3000:]
        hub.wait_ready("ra")
        hub.stop_server("ra")
        hub.wait_stopped("ra")


def test_servers_a_member(hub):
    hub.make_team("many", TEAM, "una")
    hub.provision("many")
    contest = {**CONTEST, "tiers": {"small": {**CONTEST["tiers"]["small"], "serversPerMember": 1}}}
    hub.make_contest("strict", contest)
    strict = {**TEAM, "contest": "strict"}
    hub.set_properties("many", strict)
    hub.provision("many", strict, contest)
    try:
        hub.spawn("una")
        hub.wait_ready("una")
        assert refused(hub.spawn("una", "second")) == (
            "Members of team many may run one server at a time, and your default server runs"
            " already. Stop one first."
        )
    finally:
        hub.stop_server("una")
        hub.wait_stopped("una")


def test_foreign_namespace_is_never_adopted(hub, cluster):
    kube(
        cluster,
        "create",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-foreign"}},
    )
    hub.make_team("foreign", TEAM, "fay")
    message = refused(hub.spawn("fay"), 409)
    assert "team-foreign is not the one of team foreign: somebody else made it" in message
    assert kube(cluster, "list", POD, namespace="team-foreign") == []
    labels = kube(cluster, "get", NAMESPACE, "team-foreign")["metadata"].get("labels") or {}
    assert not any("jupyterhub-collab" in key for key in labels)


def test_namespace_of_another_hub_is_not_ours(hub, cluster):
    hub.provision("taken")
    namespace = kube(cluster, "get", NAMESPACE, "team-taken")
    labels = {**namespace["metadata"]["labels"], "jupyterhub-collab.org/hub": "another"}
    kube(cluster, "patch", NAMESPACE, "team-taken", {"metadata": {"labels": labels}})
    hub.make_team("taken", TEAM, "tia")
    assert "somebody else made it" in refused(hub.spawn("tia"), 409)


def test_space_that_is_not_there_is_waited_for_and_then_said(hub, cluster):
    hub.make_team("late", TEAM, "lea")
    message = refused(hub.spawn("lea"), 503)
    assert message == (
        "Team late's space was not ready within 3 seconds: it takes longer than usual. Try again"
        " in a few minutes."
    )
    found = [n["metadata"]["name"] for n in kube(cluster, "list", NAMESPACE)]
    assert "team-late" not in found  # never made here


def test_no_pod_before_the_policies(hub, cluster):
    from jupyterhub_collab.kube.kinds import NETWORK_POLICY

    hub.make_team("open", TEAM, "ole")
    hub.provision("open")
    kube(cluster, "delete", NETWORK_POLICY, "deny-all", namespace="team-open")
    refused(hub.spawn("ole"), 503)
    assert kube(cluster, "list", POD, namespace="team-open") == []
    hub.provision("open")
    assert hub.spawn("ole").status_code in (201, 202)
    hub.stop_server("ole")
    hub.wait_stopped("ole")


def test_foreign_volume_is_never_mounted(hub, cluster):
    hub.make_team("ocean", TEAM, "vic")
    name = names.personal_claim("vic")
    kube(
        cluster,
        "create",
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": OCEAN},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
    )
    assert "a volume of somebody else" in refused(hub.spawn("vic"), 409)
    kube(cluster, "delete", PERSISTENT_VOLUME_CLAIM, name, namespace=OCEAN)


def test_foreign_pod_of_that_name_is_left_alone(hub, cluster):
    hub.make_team("ocean", TEAM, "pia")
    name = names.server_pod("pia", "")
    amounts = {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "1Mi"}
    container = {
        "name": "c",
        "image": "x:1",
        "args": ["sleep", "600"],
        "resources": {"requests": amounts, "limits": amounts},
    }
    kube(
        cluster,
        "create",
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": OCEAN},
            "spec": {"containers": [container]},
        },
    )
    try:
        assert "a pod of somebody else" in refused(hub.spawn("pia"), 409)
        assert kube(cluster, "get", POD, name, OCEAN)["metadata"].get("deletionTimestamp") is None
    finally:
        kube(cluster, "delete", POD, name, namespace=OCEAN)


@pytest.fixture
def home_of_hal(hub, cluster):
    """A member who breaks their own home."""
    hub.make_team("homes", TEAM, "hal")
    hub.provision("homes")
    hub.spawn("hal")
    hub.wait_ready("hal")
    hub.stop_server("hal")
    hub.wait_stopped("hal")
    home = cluster.paths.volumes / "team-homes" / names.personal_claim("hal")
    yield home
    for file in ("silent", "broken", "version"):
        (home / file).unlink(missing_ok=True)


def test_a_home_that_ends_the_server_does_not_end_the_hub(hub, home_of_hal):
    (home_of_hal / "broken").touch()
    for _ in range(FAILURE_LIMIT + 1):
        message = refused(hub.spawn("hal"), 502)
        assert "ended with exit code 3 while it started" in message
    assert is_up(hub)
    assert "consecutive spawns failed" not in hub.log


@pytest.mark.parametrize("version", ["nonsense", "1" * 5000])
def test_a_server_that_tells_a_false_version_starts_all_the_same(hub, home_of_hal, version):
    (home_of_hal / "version").write_text(version)
    assert hub.spawn("hal").status_code in (201, 202)
    hub.wait_ready("hal")
    hub.stop_server("hal")
    hub.wait_stopped("hal")


def test_a_home_that_silences_the_server_does_not_end_the_hub(hub, cluster):
    hub.make_team("mute", TEAM, "max")
    hub.provision("mute")
    hub.spawn("max")
    hub.wait_ready("max")
    hub.stop_server("max")
    hub.wait_stopped("max")
    (cluster.paths.volumes / "team-mute" / names.personal_claim("max") / "silent").touch()
    for _ in range(FAILURE_LIMIT + 1):
        message = refused(hub.spawn("max"), 504)
        assert message.startswith("Your server runs but did not answer within 2 seconds.")
    assert is_up(hub)
    assert "consecutive spawns failed" not in hub.log
    until(lambda: kube(cluster, "list", POD, namespace="team-mute") == [])


def test_stopping_while_it_waits_for_its_space(slow_hub, cluster):
    hub = slow_hub
    hub.make_team("never", TEAM, "nia")
    hub.spawn("nia")
    until(lambda: hub.server("nia").get("pending") == "spawn")
    hub.stop_server("nia")
    hub.wait_stopped("nia")
    assert is_up(hub)
    # Its space comes too late: nothing may start any more.
    hub.provision("never")
    hub.make_team("never", TEAM, "nils")
    hub.spawn("nils")
    hub.wait_ready("nils")
    found = [p["metadata"]["name"] for p in kube(cluster, "list", POD, namespace="slow-never")]
    hub.stop_server("nils")
    hub.wait_stopped("nils")
    assert found == [names.server_pod("nils", "")]
