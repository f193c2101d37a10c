"""The way through on a genuine hub and the embedded cluster: start, files, credential, stop."""

import json
import time

import httpx
import pytest

from jupyterhub_collab import constants, names
from jupyterhub_collab.kube.kinds import PERSISTENT_VOLUME_CLAIM, POD, SECRET
from tests.hub.conftest import kube, until
from tests.hub.samples import TEAM

OCEAN, REEF = "team-ocean", "team-reef"


def pods(cluster, namespace):
    return kube(cluster, "list", POD, namespace=namespace)


@pytest.fixture
def bob(hub):
    """bob's server, which runs."""
    assert hub.spawn("bob").status_code in (201, 202)
    yield hub.wait_ready("bob")
    hub.stop_server("bob")
    hub.wait_stopped("bob")


def test_the_pod(hub, cluster, bob):
    (pod,) = pods(cluster, OCEAN)
    assert pod["metadata"]["name"] == names.server_pod("bob", "")
    assert pod["metadata"]["labels"][constants.LABEL_TEAM] == "ocean"
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "registry.example.org/basic:1.0"
    assert container["resources"]["limits"]["cpu"] == "500m"
    env = {e["name"]: e for e in container["env"]}
    assert env["COLLAB_TEAM"]["value"] == "ocean"
    assert env["MEM_LIMIT"]["value"] == str(512 * 2**20)
    claims = kube(cluster, "list", PERSISTENT_VOLUME_CLAIM, namespace=OCEAN)
    mine = [c for c in claims if c["metadata"]["name"] == names.personal_claim("bob")]
    assert mine[0]["metadata"]["annotations"][constants.ANNOTATION_USERNAME] == "bob"


def test_tokens_are_in_a_secret_that_goes_with_the_pod(hub, cluster, bob):
    (pod,) = pods(cluster, OCEAN)
    (secret,) = [
        s
        for s in kube(cluster, "list", SECRET, namespace=OCEAN)
        if s["metadata"]["name"].startswith(pod["metadata"]["name"])
    ]
    (owner,) = secret["metadata"]["ownerReferences"]
    assert owner["uid"] == pod["metadata"]["uid"]
    assert set(secret["data"]) == {"api-token", "server-credential"}
    env = pod["spec"]["containers"][0]["env"]
    secretive = {e["name"] for e in env if "secretKeyRef" in e.get("valueFrom", {})}
    assert secretive == {"JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN", "COLLAB_SERVER_CREDENTIAL"}
    hub.stop_server("bob")
    hub.wait_stopped("bob")
    until(
        lambda: (
            not [
                s
                for s in kube(cluster, "list", SECRET, namespace=OCEAN)
                if s["metadata"]["name"] == secret["metadata"]["name"]
            ]
        )
    )


def credential_of(cluster, pod):
    import base64

    for secret in kube(cluster, "list", SECRET, namespace=pod["metadata"]["namespace"]):
        owners = secret["metadata"].get("ownerReferences") or [{}]
        if owners[0].get("uid") == pod["metadata"]["uid"]:
            return base64.b64decode(secret["data"]["server-credential"]).decode()
    raise AssertionError("no secret")


def introspect(hub, credential, **more):
    return hub.api(
        "POST",
        "collab/introspect",
        **{"token": hub.gateway_token, "data": {"token": credential}, **more},
    )


def test_the_credential_is_good_while_the_server_runs_and_not_after(hub, cluster, bob):
    (pod,) = pods(cluster, OCEAN)
    credential = credential_of(cluster, pod)
    found = introspect(hub, credential).json()
    assert found.pop("iat") <= time.time()
    assert found.pop("jti")
    assert found == {
        "active": True,
        "iss": "jupyterhub",
        "sub": "bob",
        "username": "bob",
        "server": "",
        "team": "ocean",
        "contest": "sea",
        "namespace": OCEAN,
        "pod": names.server_pod("bob", ""),
    }
    as_json = introspect(hub, credential, data=None, json={"token": credential})
    assert as_json.json()["active"] is True
    hub.stop_server("bob")
    hub.wait_stopped("bob")
    assert introspect(hub, credential).json() == {"active": False}
    hub.spawn("bob")
    hub.wait_ready("bob")
    assert introspect(hub, credential).json() == {"active": False}  # another start, another one


def test_a_credential_ends_with_the_membership(hub, cluster, bob):
    (pod,) = pods(cluster, OCEAN)
    credential = credential_of(cluster, pod)
    assert introspect(hub, credential).json()["active"] is True
    hub.api("DELETE", "groups/ocean/users", json={"users": ["bob"]})
    try:
        assert introspect(hub, credential).json() == {"active": False}
    finally:
        hub.api("POST", "groups/ocean/users", json={"users": ["bob"]})


def test_who_may_ask(hub, cluster, bob):
    (pod,) = pods(cluster, OCEAN)
    credential = credential_of(cluster, pod)
    assert introspect(hub, credential, token=hub.token).status_code == 403
    assert introspect(hub, credential, token="nonsense").status_code == 403
    assert introspect(hub, credential, token=credential).status_code == 403
    assert introspect(hub, "", data={}).status_code == 400
    assert introspect(hub, "", data=None, json=["x"]).status_code == 400
    for nonsense in ("x", "a.b.c", credential[:-4] + "AAAA"):
        assert introspect(hub, nonsense).json() == {"active": False}
    keys = httpx.get(f"http://127.0.0.1:{hub.port}/hub/api/collab/jwks").json()["keys"]
    assert [key["kty"] for key in keys] == ["OKP"]


def test_files_stay(hub, cluster, bob):
    home = cluster.paths.volumes / OCEAN / names.personal_claim("bob")
    (home / "kept.txt").write_text("mine")
    hub.stop_server("bob")
    hub.wait_stopped("bob")
    assert (home / "kept.txt").read_text() == "mine"


def test_named_servers_of_two_teams_at_once(hub, cluster):
    try:
        for server, team in (("a", "ocean"), ("b", "reef")):
            assert hub.spawn("ada", server, team=team).status_code in (201, 202)
        for server, team in (("a", "ocean"), ("b", "reef")):
            hub.wait_ready("ada", server)
            (pod,) = pods(cluster, f"team-{team}")
            assert pod["metadata"]["annotations"][constants.ANNOTATION_SERVERNAME] == server
    finally:
        for server in ("a", "b"):
            hub.stop_server("ada", server)
            hub.wait_stopped("ada", server)


def test_the_namespace_never_sticks_to_an_old_team(hub, cluster):
    hub.provision("moved")
    hub.make_team("moved", TEAM)
    hub.make_team("ocean", TEAM, "mia")
    hub.spawn("mia")
    hub.wait_ready("mia")
    assert [p["metadata"]["namespace"] for p in pods(cluster, OCEAN)] == [OCEAN]
    hub.stop_server("mia")
    hub.wait_stopped("mia")
    hub.api("DELETE", "groups/ocean/users", json={"users": ["mia"]})
    hub.api("POST", "groups/moved/users", json={"users": ["mia"]})
    hub.spawn("mia")
    hub.wait_ready("mia")
    try:
        assert pods(cluster, OCEAN) == []
        assert len(pods(cluster, "team-moved")) == 1
    finally:
        hub.stop_server("mia")
        hub.wait_stopped("mia")


def test_deleting_a_member_deletes_no_volume(hub, cluster):
    hub.make_team("ocean", TEAM, "leaver")
    hub.spawn("leaver")
    hub.wait_ready("leaver")
    hub.stop_server("leaver")
    hub.wait_stopped("leaver")
    before = {c["metadata"]["uid"] for c in kube(cluster, "list", PERSISTENT_VOLUME_CLAIM)}
    assert hub.api("DELETE", "users/leaver").status_code == 204
    after = {c["metadata"]["uid"] for c in kube(cluster, "list", PERSISTENT_VOLUME_CLAIM)}
    assert after == before
    assert names.personal_claim("leaver") in {
        c["metadata"]["name"] for c in kube(cluster, "list", PERSISTENT_VOLUME_CLAIM)
    }


def test_frozen_team_reads_and_changes_nothing(hub, cluster, bob):
    hub.stop_server("bob")
    hub.wait_stopped("bob")
    frozen = {**TEAM, "gate": "frozen", "generation": 2}
    hub.set_properties("ocean", frozen)
    hub.provision("ocean", frozen)
    try:
        assert hub.spawn("bob").status_code in (201, 202)
        hub.wait_ready("bob")
        (pod,) = pods(cluster, OCEAN)
        claims = [v for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v]
        assert len(claims) == 2
        assert all(v["persistentVolumeClaim"]["readOnly"] for v in claims)
    finally:
        hub.set_properties("ocean", TEAM)
        hub.provision("ocean")


def progress(hub, user):
    messages = []
    with httpx.stream(
        "GET",
        f"http://127.0.0.1:{hub.port}/hub/api/users/{user}/server/progress",
        headers={"Authorization": f"token {hub.token}"},
        timeout=60,
    ) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                messages.append(json.loads(line.removeprefix("data: ")))
    return messages


def test_progress_is_told_in_words_a_person_understands(slow_hub, cluster):
    slow_hub.spawn("bob")
    messages = progress(slow_hub, "bob")
    slow_hub.stop_server("bob")
    slow_hub.wait_stopped("bob")
    said = [m["message"] for m in messages]
    assert said[:2] == ["Server requested", "Starting in team ocean."]
    assert "Your server is being made." in said
    assert "JupyterLab starts." in said
    assert messages[-1]["ready"] is True
    percents = [m["progress"] for m in messages if "progress" in m]
    assert percents == sorted(percents)


def test_the_genuine_server_reads_its_tokens_and_reports_to_the_hub(hub, cluster):
    hub.make_team("ocean", TEAM, "gen")  # the hub's configuration gives JupyterLab to gen
    assert hub.spawn("gen").status_code in (201, 202)
    hub.wait_ready("gen", timeout_s=120)
    (pod,) = pods(cluster, OCEAN)
    status = httpx.get(
        f"http://{pod['status']['podIP']}:8888/user/gen/api/status",
        headers={"Authorization": f"token {hub.token}"},
    )
    assert status.status_code in (200, 403)  # it asked the hub who this is
    hub.stop_server("gen")
    hub.wait_stopped("gen")
