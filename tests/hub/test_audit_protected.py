"""No record, no protected data: on a real API server, under the roles and policies that we ship."""

import json
from pathlib import Path

import pytest

from jupyterhub_collab import constants, names
from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.rbac import make_rbac
from jupyterhub_collab.models import Platform
from tests.hub.audit_service import RecordingService
from tests.hub.conftest import until
from tests.hub.running import RunningHub
from tests.hub.samples import CONTEST, TEAM, own_platform
from tests.hub.test_real_api import answering, pods  # noqa: F401 - a fixture

pytestmark = pytest.mark.api
DIGEST = "sha256:" + "ab" * 32
PATIENTS = {
    "title": "Patients",
    "protected": True,
    "nfs": {"server": "192.0.2.7", "path": "/patients"},
}
WEATHER = {"title": "Weather", "nfs": {"server": "192.0.2.7", "path": "/weather"}}
GUARDED = {**CONTEST, "datasets": {"patients": PATIENTS, "weather": WEATHER}}


@pytest.fixture(scope="module")
def ground(api_cluster, tmp_path_factory):
    raw = {
        **own_platform("a"),
        "dataset_nfs": True,
        "protected_data": "mounts-recorded",
    }
    home = raw["hub_namespace"]
    api_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}})
    settings = Platform.model_validate(raw)
    api_cluster.apply(*make_rbac(settings), *make_guard(settings))
    directory = tmp_path_factory.mktemp("protected")
    kubeconfig = api_cluster.service_account_kubeconfig(home, "hub", directory / "kubeconfig")
    return raw, Path(kubeconfig), directory


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    found = RecordingService(tmp_path_factory.mktemp("audit"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def hub(ground, answering, api_cluster, service):  # noqa: F811
    raw, kubeconfig, directory = ground
    found = RunningHub(
        folder=directory / "hub",
        kubeconfig=kubeconfig,
        platform=raw,
        slow_spawn_timeout=7,  # longer than a record is waited for
        more=service.settings()
        + 'c.JupyterHub.load_roles[0]["scopes"] += ["groups", "read:groups"]\n',
    )
    found.start()
    try:
        found.make_contest("sea", GUARDED)
        for team, granted in (("ward", ["patients"]), ("open", ["weather"])):
            properties = {**TEAM, "datasets": granted}
            found.make_team(team, properties, f"{team}-ada")
            found.provision(team, properties, GUARDED, kubeconfig=api_cluster.kubeconfig)
        yield found
    finally:
        found.close()


@pytest.fixture
def away(service):
    """The audit service does not answer, for the length of a test or until the test says so."""
    service.is_away = True
    yield service
    service.is_away = False


def run_pods(cluster, namespace):
    """Be the kubelet."""
    for pod in until(lambda: pods(cluster, namespace)):
        image = f"registry.example.org/basic@{DIGEST}"
        container = {
            "name": "notebook",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "image": "x",
            "imageID": image,
            "state": {"running": {"startedAt": "2027-01-01T00:00:00Z"}},
        }
        status = {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "podIPs": [{"ip": "127.0.0.1"}],
            "containerStatuses": [container],
        }
        cluster.kubectl(
            "patch", "pod", pod["metadata"]["name"], "-n", namespace, "--subresource=status",
            "--type=merge", "-p", json.dumps({"status": status}),
        )  # fmt: skip


def claims(cluster, namespace):
    return [c["metadata"]["name"] for c in cluster.get("pvc", "-n", namespace)["items"]]


def test_a_start_that_nobody_recorded_makes_nothing_and_says_why(hub, ground, api_cluster, away):
    namespace = ground[0]["namespace_prefix"] + "ward"
    before = claims(api_cluster, namespace)
    answer = hub.spawn("ward-ada")
    assert answer.status_code == 503, answer.text
    assert "patients" in answer.json()["message"]
    assert "could not be recorded just now" in answer.json()["message"]
    assert "nothing was started" in answer.json()["message"]
    assert pods(api_cluster, namespace) == []
    assert claims(api_cluster, namespace) == before
    assert names.personal_claim("ward-ada") not in before
    # Once the service is back it is told; nothing says that a server started.
    away.is_away = False
    refused = away.one("server.start", outcome="refused", timeout_s=60)
    assert refused["reason"] == "not-recorded"
    assert refused["datasets"] == ["patients"]
    assert refused["subject"]["name"] == "ward-ada"
    assert not away.find("server.start", outcome="succeeded", team="ward")


def test_a_start_that_is_recorded_goes_on(hub, ground, api_cluster, service):
    namespace = ground[0]["namespace_prefix"] + "ward"
    known = len(service.find("server.start", outcome="allowed"))
    assert hub.spawn("ward-ada").status_code in (201, 202)
    run_pods(api_cluster, namespace)
    hub.wait_ready("ward-ada")
    allowed = service.find("server.start", outcome="allowed", team="ward")[-1]
    assert len(service.find("server.start", outcome="allowed")) > known
    assert allowed["datasets"] == ["patients"]
    assert allowed["details"]["protected"] == ["patients"]
    started = service.one("server.start", outcome="succeeded", team="ward")
    assert started["thing"] == allowed["thing"]
    assert started["details"]["image_digest"] == DIGEST
    assert started["correlation"] == allowed["correlation"]
    assert started["actor"]["name"] == "admin"
    (pod,) = pods(api_cluster, namespace)
    annotations = pod["metadata"]["annotations"]
    assert annotations[constants.ANNOTATION_CORRELATION] == started["correlation"]
    # It is culled, or evicted: both are told with the reason, once.
    api_cluster.kubectl("delete", "pod", pod["metadata"]["name"], "-n", namespace)
    hub.api("POST", "users/ward-ada/server")  # JupyterHub looks at it
    stopped = service.one("server.stop", team="ward")
    assert stopped["reason"] == "removed"
    assert "actor" not in stopped
    assert stopped["thing"] == started["thing"]


def test_what_is_not_protected_starts_and_is_told_later(hub, ground, api_cluster, away):
    namespace = ground[0]["namespace_prefix"] + "open"
    assert hub.spawn("open-ada").status_code in (201, 202)
    run_pods(api_cluster, namespace)
    hub.wait_ready("open-ada")
    assert not away.find("server.start", team="open")
    away.is_away = False
    started = away.one("server.start", outcome="succeeded", team="open", timeout_s=60)
    assert started["datasets"] == ["weather"]
    assert "protected" not in started["details"]
    assert away.one("server.start", outcome="allowed", team="open")
    hub.stop_server("open-ada")
    hub.wait_stopped("open-ada")


def test_a_grant_that_nobody_recorded_is_not_made(hub, away):
    away.some("dataset.grant", outcome="succeeded", team="ward")
    more = {"collab": {**TEAM, "datasets": ["patients", "weather"]}}
    answer = hub.api("PUT", "groups/ward/properties", json=more)
    assert answer.status_code == 503, answer.text
    assert "Nothing was changed" in answer.json()["message"]
    assert int(answer.headers["Retry-After"]) > 0
    now = hub.api("GET", "groups/ward").json()["properties"]["collab"]
    assert now["datasets"] == ["patients"]
    # To take away, and to write nothing new, needs no record.
    less = {"collab": {**TEAM, "datasets": []}}
    assert hub.api("PUT", "groups/ward/properties", json=less).status_code == 200
    away.is_away = False
    revoked = away.one("dataset.revoke", team="ward", timeout_s=60)
    assert revoked["datasets"] == ["patients"]
    assert revoked["actor"]["name"] == "admin"
    refused = away.one("dataset.grant", outcome="refused", team="ward")
    assert refused["datasets"] == ["weather"]


def test_a_grant_is_recorded_before_it_is_in_force(hub, service):
    known = {e["correlation"] for e in service.find("dataset.grant")}
    back = {"collab": {**TEAM, "datasets": ["patients"]}}
    assert hub.api("PUT", "groups/ward/properties", json=back).status_code == 200
    told = [e for e in service.find("dataset.grant") if e["correlation"] not in known]
    assert told[0]["outcome"] == "allowed"  # there already when the answer comes
    same = told[0]["correlation"]
    done = service.one("dataset.grant", outcome="succeeded", correlation=same)
    assert (done["contest"], done["team"], done["datasets"]) == ("sea", "ward", ["patients"])
    assert done["actor"]["name"] == "admin"


def test_who_may_not_write_grants_leaves_no_record(hub, service):
    known = len(service.find("dataset.grant"))
    more = {"collab": {**TEAM, "datasets": ["weather"]}}
    answer = hub.api("PUT", "groups/ward/properties", json=more, token=hub.gateway_token)
    assert answer.status_code in (403, 404)
    assert len(service.find("dataset.grant")) == known
