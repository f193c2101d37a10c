"""A hub whose database is lost, or put back to an earlier state, while servers run."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys

import httpx
import pytest

from jupyterhub_collab import names
from jupyterhub_collab.hub.reflector import PodView
from jupyterhub_collab.hub.strays import find_strays
from jupyterhub_collab.kube.kinds import PERSISTENT_VOLUME_CLAIM, POD, SECRET
from tests.hub.conftest import kube, populate, slow_pods, until

OCEAN = "slow-ocean"
SERVERS = (("bob", "", "ocean"), ("ada", "deep", "reef"))


@pytest.fixture
def own_hub(slow_hub):
    """One whose database a test may lose."""
    return slow_hub


def recover(hub, cluster, *options):
    """`jupyterhub-collab recover` as an administrator types it."""
    token = hub.folder / "token"
    token.write_text(hub.token)
    command = [sys.executable, "-m", "jupyterhub_collab.cli.main", "recover", *options]
    command += [f"--hub-url=http://127.0.0.1:{hub.port}", f"--token-file={token}"]
    command += [f"--kubeconfig={cluster.paths.kubeconfig}"]
    return subprocess.run(
        command,
        env={**os.environ, "COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def uids(cluster, kind):
    found = [found["metadata"] for found in kube(cluster, "list", kind)]
    slow = [meta for meta in found if meta["namespace"].startswith("slow-")]
    return {(meta["namespace"], meta["name"]): meta["uid"] for meta in slow}


def secret_of(cluster, namespace, uid):
    (found,) = [
        s["data"]
        for s in kube(cluster, "list", SECRET, namespace=namespace)
        if (s["metadata"].get("ownerReferences") or [{}])[0].get("uid") == uid
    ]
    return {key: base64.b64decode(value).decode() for key, value in found.items()}


def answers(cluster, user, server, team):
    namespace = f"slow-{team}"
    pod = kube(cluster, "get", POD, names.server_pod(user, server), namespace)
    path = f"user/{user}/{server}".rstrip("/")
    url = f"http://{pod['status']['podIP']}:8888/{path}/api"
    return httpx.get(url, verify=False).status_code == 200


def check_works(hub, cluster, user, server, team):
    """The server is its member's again: known, reached, recognised, polled."""
    assert hub.server(user, server)["ready"] is True
    assert answers(cluster, user, server, team)
    pod = kube(cluster, "get", POD, names.server_pod(user, server), f"slow-{team}")
    secret = secret_of(cluster, f"slow-{team}", pod["metadata"]["uid"])
    who = hub.api("GET", "user", token=secret["api-token"]).json()
    assert (who["kind"], who["name"]) == ("user", user)
    found = hub.api(
        "POST",
        "collab/introspect",
        token=hub.gateway_token,
        data={"token": secret["server-credential"]},
    ).json()
    assert (found["active"], found["team"], found["server"]) == (True, team, server)


def test_a_lost_database_costs_nobody_their_server(own_hub, cluster):
    for user, server, team in SERVERS:
        own_hub.spawn(user, server, team=team)
        own_hub.wait_ready(user, server)
    home = cluster.paths.volumes / OCEAN / names.personal_claim("bob")
    (home / "work.txt").write_text("mine")
    pods, claims = uids(cluster, POD), uids(cluster, PERSISTENT_VOLUME_CLAIM)
    own_hub.kill()
    for file in own_hub.folder.glob("hub.sqlite*"):
        file.unlink()
    own_hub.start()

    # Memberships are not in the cluster: nobody is let near a server before they are known.
    refused = recover(own_hub, cluster)
    assert refused.returncode == 1
    assert "server of bob in team ocean: left as it is." in refused.stdout
    assert "Apply the contest's manifest first" in refused.stdout
    populate(own_hub)
    until(lambda: "is a server of 'bob' that this hub's database does not know" in own_hub.log)

    told = recover(own_hub, cluster, "--dry-run")
    assert told.stdout.splitlines() == [
        "server of bob in team ocean: would be given back",
        "server deep of ada in team reef: would be given back",
    ]
    assert not own_hub.server("bob").get("ready")
    done = recover(own_hub, cluster)
    assert done.returncode == 0, done.stdout + own_hub.log[-3000:]
    for server in SERVERS:
        check_works(own_hub, cluster, *server)
    again = recover(own_hub, cluster)
    assert again.stdout == "The hub knows every server that runs.\n"

    own_hub.kill()  # what was written is whole: the next hub finds it all
    own_hub.start()
    for user, server, team in SERVERS:
        until(lambda user=user, server=server: own_hub.server(user, server).get("ready"))
        check_works(own_hub, cluster, user, server, team)
    assert uids(cluster, POD) == pods
    assert uids(cluster, PERSISTENT_VOLUME_CLAIM) == claims
    assert (home / "work.txt").read_text() == "mine"
    for token in secret_of(cluster, OCEAN, pods[(OCEAN, names.server_pod("bob", ""))]).values():
        assert token not in own_hub.log + done.stdout
    own_hub.stop_server("bob")
    own_hub.wait_stopped("bob")
    until(lambda: len(slow_pods(cluster)) == 1)


def test_an_older_database_ends_no_server_that_runs(own_hub, cluster):
    """Put back to when bob's server was another one, and ada's did not run."""
    own_hub.spawn("bob", team="ocean")
    own_hub.wait_ready("bob")
    own_hub.kill()
    backup = own_hub.folder / "backup.sqlite"
    shutil.copy(own_hub.folder / "hub.sqlite", backup)
    own_hub.start()
    until(lambda: own_hub.server("bob").get("ready"))
    own_hub.stop_server("bob")
    own_hub.wait_stopped("bob")
    for user, server, team in SERVERS:
        own_hub.spawn(user, server, team=team)
        own_hub.wait_ready(user, server)
    pods = uids(cluster, POD)
    own_hub.kill()
    shutil.copy(backup, own_hub.folder / "hub.sqlite")
    own_hub.start()
    own_hub.wait_stopped("bob")  # of that one nothing is left
    assert uids(cluster, POD) == pods
    done = recover(own_hub, cluster)
    assert done.returncode == 0, done.stdout + own_hub.log[-3000:]
    for server in SERVERS:
        check_works(own_hub, cluster, *server)
    assert uids(cluster, POD) == pods


def test_who_may_ask_and_what_is_refused(own_hub, cluster):
    own_hub.spawn("bob", team="ocean")
    own_hub.wait_ready("bob")
    assert own_hub.api("GET", "collab/strays").json() == {"strays": []}
    for path, method in (("strays", "GET"), ("adopt", "POST")):
        for token in (own_hub.gateway_token, "nonsense"):
            assert own_hub.api(method, f"collab/{path}", token=token, json={}).status_code == 403
    assert own_hub.api("POST", "collab/adopt", json={"pod": 3}).status_code == 400
    assert own_hub.api("POST", "collab/adopt", json=["x"]).status_code == 400
    pod = kube(cluster, "get", POD, names.server_pod("bob", ""), OCEAN)["metadata"]
    body = {"namespace": OCEAN, "pod": pod["name"], "uid": pod["uid"], "api_token": "t" * 32}
    known = own_hub.api("POST", "collab/adopt", json=body)
    assert known.status_code == 409
    assert "runs or starts" in known.json()["message"]
    other = own_hub.api("POST", "collab/adopt", json={**body, "uid": "another"})
    assert other.status_code == 404
    assert own_hub.server("bob")["ready"] is True
    own_hub.stop_server("bob")
    own_hub.wait_stopped("bob")


def view(server_id="a", namespace=OCEAN, **more):
    base = {"phase": "Running", "ip": "1.1.1.1", "is_ready": True, "is_terminating": False}
    return PodView(
        namespace=namespace,
        name=f"pod-{server_id}",
        uid=f"uid-{server_id}",
        username="ada",
        server_name="",
        server_id=server_id,
        **{**base, **more},
    )


def server(server_id):
    return {"collab": {"server_id": server_id}}


def leaving(server_id):
    gone = {"namespace": OCEAN, "name": "p", "server_id": server_id, "uid": ""}
    return {"collab_leavings": [gone]}


@pytest.mark.parametrize(
    ("found", "states", "is_stray"),
    [
        (view(), [], True),
        (view(), [server("a")], False),
        (view(), [server("b")], True),
        (view(), [leaving("a")], False),
        (view(), [{"collab": "nonsense"}, {"collab_leavings": 3}], True),
        (view(is_terminating=True), [], False),
        (view(phase="Failed"), [], False),
        (view(""), [], False),  # it bears no id: not a start of ours
        (view(namespace="elsewhere"), [], False),
        (view(phase="Pending", is_ready=False), [], True),
    ],
)
def test_what_is_a_stray(found, states, is_stray):
    strays = find_strays([found], states, prefix="slow-")
    assert [s.team for s in strays] == (["ocean"] if is_stray else [])
