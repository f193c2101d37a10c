"""TeamSpawner on a real node: containers, the image, volumes, limits, under the shipped roles."""

import secrets

import httpx
import pytest

from jupyterhub_collab import names
from jupyterhub_collab.hub.spawner import TeamSpawner
from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.rbac import make_rbac
from jupyterhub_collab.models import Platform
from tests.cluster.images import SINGLEUSER_IMAGE
from tests.hub.conftest import until
from tests.hub.running import RunningHub
from tests.hub.samples import CONTEST, TEAM, platform

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def node(node_cluster, tmp_path_factory):
    """A hub on this machine, one team, bob in it."""
    mark = secrets.token_hex(3)
    home = f"hub-{mark}"
    address = node_cluster.host_address
    peer = {"cidr": f"{address}/32"}
    raw = platform(
        hub_id=home,
        hub_namespace=home,
        namespace_prefix=f"n{mark}-",
        hub_api={"host": "hub.collab", "address": address, "port": 1, "peer": peer},
        proxy={"host": "proxy.collab", "address": address, "port": 8000, "peer": peer},
    )
    directory = tmp_path_factory.mktemp("node")
    node_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}})
    settings = Platform.model_validate(raw)
    node_cluster.apply(*make_rbac(settings), *make_guard(settings))
    kubeconfig = node_cluster.service_account_kubeconfig(home, "hub", directory / "kubeconfig")
    hub = RunningHub(
        folder=directory / "hub",
        kubeconfig=kubeconfig,
        platform=raw,
        hub_ip="0.0.0.0",
        cmd=TeamSpawner._cmd_default(None),
        more="c.TeamSpawner.start_timeout = 150\nc.TeamSpawner.stuck_timeout = 5",
    )
    hub.start()
    contest = {**CONTEST, "images": {"basic": {"title": "Basic", "image": SINGLEUSER_IMAGE}}}
    contest["profiles"] = {"small": CONTEST["profiles"]["small"]}
    try:
        hub.make_contest("sea", contest)
        hub.make_team("ocean", TEAM, "bob")
        hub.provision("ocean", TEAM, contest, kubeconfig=node_cluster.kubeconfig)
        yield hub, node_cluster, raw["namespace_prefix"] + "ocean"
    finally:
        hub.close()


def test_a_real_server(node):
    hub, cluster, namespace = node
    answer = hub.spawn("bob")
    assert answer.status_code in (201, 202), answer.text
    hub.wait_ready("bob", timeout_s=180)
    name = names.server_pod("bob", "")

    def sh(script):
        done = cluster.exec(namespace, name, "sh", "-c", script, container="notebook", check=False)
        return (done.stdout + done.stderr).strip()

    assert sh("id -u; id -g").split() == ["1000", "100"]
    assert "No such file" in sh("ls /var/run/secrets/kubernetes.io/serviceaccount")
    assert sh("grep -c . /etc/resolv.conf; cat /etc/resolv.conf").endswith("nameserver 127.0.0.1")
    assert "hub.collab" in sh("cat /etc/hosts")
    assert sh("grep CapEff /proc/1/status").split()[-1].strip("0") == ""
    limit = sh("cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>&-")
    assert str(512 * 2**20) in limit
    # Files: own and the team's can be written, and outlive the server.
    assert sh("echo mine > ~/kept && echo ours > ~/team/kept && cat ~/kept ~/team/kept") == (
        "mine\nours"
    )
    # The server reports to the hub through the alias: the hub heard of it.
    assert until(lambda: hub.server("bob").get("last_activity"))
    # The credential in the container's environment is the one that the hub knows.
    credential = sh("python3 -c 'import os; print(os.environ[\"COLLAB_SERVER_CREDENTIAL\"])'")
    found = hub.api(
        "POST", "collab/introspect", token=hub.gateway_token, data={"token": credential}
    ).json()
    assert (found["active"], found["team"], found["namespace"]) == (True, "ocean", namespace)
    (pod,) = cluster.get("pods", "-n", namespace)["items"]
    address = f"http://{pod['status']['podIP']}:8888/user/bob/api"
    assert httpx.get(address).status_code == 200
    # What a member installs goes to their volume.
    base = sh("python3 -c 'import os; print(os.environ[\"PYTHONUSERBASE\"])'")
    assert base.startswith("/home/jovyan/.local/collab/basic.")
    # Exec starts beside the server: what the server's own children see is in its environment.
    environ = sh(
        "for p in /proc/[0-9]*; do grep -q jupyterhub-singleuser $p/cmdline"
        " && tr '\\0' '\\n' < $p/environ; done"
    )
    assert "COLLAB_PACKAGES=" + base in environ
    hub.stop_server("bob")
    hub.wait_stopped("bob", timeout_s=90)
    until(lambda: cluster.get("pods", "-n", namespace)["items"] == [], timeout_s=60)
    hub.spawn("bob")
    hub.wait_ready("bob", timeout_s=180)
    assert sh("cat ~/kept ~/team/kept") == "mine\nours"
    hub.stop_server("bob")
    hub.wait_stopped("bob", timeout_s=90)


def test_a_failing_image_is_said_not_counted(node):
    """An image that cannot be fetched: the contest's host can put that in."""
    hub, cluster, _ = node
    images = {"bad": {"title": "Bad", "image": "collab.test/not-there:1"}}
    contest = {**CONTEST, "images": images, "profiles": {"s": CONTEST["profiles"]["small"]}}
    hub.make_contest("bad", contest)
    properties = {**TEAM, "contest": "bad"}
    hub.make_team("missing", properties, "mo")
    hub.provision("missing", properties, contest, kubeconfig=cluster.kubeconfig)
    hub.spawn("mo")
    hub.wait_stopped("mo", timeout_s=170)
    assert "The environment bad cannot be fetched" in hub.log
    assert "consecutive spawns failed" not in hub.log
