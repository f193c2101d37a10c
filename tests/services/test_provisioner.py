"""The provisioner as it is deployed: a process between a real hub and a real API server, under the
service account, roles and admission policy that we ship."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from jupyterhub_collab.constants import (
    ANNOTATION_GIVE_TO_CONTEST,
    ANNOTATION_READY_HASH,
    HUB_ROLE_BINDING_NAME,
    LABEL_CONTEST,
    POLICY_DENY_ALL,
    QUOTA_NAME,
)
from jupyterhub_collab.hubapi.client import HubClient
from tests.cluster.cluster import Cluster
from tests.real_hub import find_free_port
from tests.services.running import (
    CONTEST,
    READER_TOKEN,
    STRANGER_TOKEN,
    Provisioner,
    team,
    wait_until,
)

pytestmark = pytest.mark.api


def namespace(provisioner: Provisioner, name: str) -> str:
    return provisioner.platform.namespace_prefix + name


async def add_team(hub: HubClient, name: str, **more: Any) -> None:
    await hub.create_group(name)
    await hub.put_properties(name, team(**more))


# Accepted; 200 where the poll or a watch was quicker than whoever asks.
PROVISIONED = (200, 202)


async def test_a_team_gets_its_namespace_at_once_when_somebody_waits(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    await add_team(hub, "ocean")
    answer = provisioner.request("POST", "teams/ocean/provision")
    assert answer.status_code == 202
    assert answer.json()["status_url"] == answer.headers["Location"]
    assert answer.headers["Location"].endswith("/services/provisioner/teams/ocean")
    status = provisioner.wait_state("ocean", "ready")
    assert status["specHash"] == status["readyHash"]
    assert [c["status"] for c in status["conditions"]] == ["True"]
    assert provisioner.request("POST", "teams/ocean/provision").status_code == 200
    there = namespace(provisioner, "ocean")
    binding = api_cluster.get("rolebinding", HUB_ROLE_BINDING_NAME, "-n", there)
    assert binding["metadata"]["annotations"][ANNOTATION_READY_HASH] == status["specHash"]
    kinds = "networkpolicy,resourcequota,limitrange,rolebinding,pvc"
    names = {
        (item["kind"], item["metadata"]["name"])
        for item in api_cluster.get(kinds, "-n", there)["items"]
    }
    assert names == {
        ("NetworkPolicy", "deny-all"),
        ("NetworkPolicy", "platform"),
        ("NetworkPolicy", "egress-web"),
        ("ResourceQuota", "team"),
        ("LimitRange", "team"),
        ("RoleBinding", "hub"),
        ("PersistentVolumeClaim", "team"),
    }


async def test_a_changed_tier_is_rendered_anew_and_what_is_no_longer_wanted_goes(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    await add_team(hub, "tide")
    provisioner.wait_state("tide", "ready")
    before = provisioner.wait_state("tide", "ready")["readyHash"]
    await hub.put_properties("tide", team(tier="large", generation=2))
    assert provisioner.request("POST", "teams/tide/provision").status_code in PROVISIONED
    after = provisioner.wait_state("tide", "ready")
    assert after["readyHash"] != before
    there = namespace(provisioner, "tide")
    hard = api_cluster.get("resourcequota", QUOTA_NAME, "-n", there)["spec"]["hard"]
    assert hard["limits.cpu"] == "8"
    # The contest's egress rule goes: so does its policy, in every team.
    await hub.put_properties("contest.reef", {"collab": {**CONTEST, "egress": []}})
    answer = provisioner.request("POST", "nudge", json={"groups": ["contest.reef"]})
    assert answer.status_code == 202
    now = provisioner.request("GET", "teams/tide").json()
    is_rendered = now["specHash"] != after["specHash"]  # the poll may have been quicker
    assert "tide" in answer.json()["changed"] or is_rendered
    wait_until(
        lambda: (
            {
                item["metadata"]["name"]
                for item in api_cluster.get("networkpolicy", "-n", there)["items"]
            }
            == {"deny-all", "platform"}
        ),
        timeout_s=20,
        what=lambda: provisioner.log[-2000:],
    )


async def test_a_policy_deleted_by_hand_is_back_within_a_second(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    await add_team(hub, "kelp")
    provisioner.wait_state("kelp", "ready")
    there = namespace(provisioner, "kelp")
    uid = api_cluster.get("networkpolicy", POLICY_DENY_ALL, "-n", there)["metadata"]["uid"]
    api_cluster.kubectl("delete", "networkpolicy", POLICY_DENY_ALL, "-n", there)
    began = time.monotonic()
    wait_until(
        lambda: (
            uid
            not in api_cluster.kubectl(
                "get", "networkpolicy", POLICY_DENY_ALL, "-n", there, "-o", "name", check=False
            ).stdout
            and api_cluster.kubectl(
                "get", "networkpolicy", POLICY_DENY_ALL, "-n", there, check=False
            ).returncode
            == 0
        ),
        timeout_s=5,
        what=lambda: provisioner.log[-2000:],
    )
    assert time.monotonic() - began < 1.0
    assert api_cluster.get("networkpolicy", POLICY_DENY_ALL, "-n", there)["metadata"]["uid"] != uid


async def test_a_hole_made_by_hand_is_closed(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    await add_team(hub, "reefy")
    provisioner.wait_state("reefy", "ready")
    there = namespace(provisioner, "reefy")
    patch = '{"spec": {"egress": [{}]}}'
    api_cluster.kubectl(
        "patch", "networkpolicy", POLICY_DENY_ALL, "-n", there, "--type=merge", "-p", patch
    )
    wait_until(
        lambda: (
            "egress" not in api_cluster.get("networkpolicy", POLICY_DENY_ALL, "-n", there)["spec"]
        ),
        timeout_s=5,
        what=lambda: provisioner.log[-2000:],
    )


async def test_somebody_elses_namespace_is_left_alone(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    there = namespace(provisioner, "taken")
    foreign = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": there}}
    api_cluster.apply(foreign)
    before = api_cluster.get("namespace", there)
    await add_team(hub, "taken")
    status = provisioner.wait_state("taken", "failed")
    condition = next(c for c in status["conditions"] if c["type"] == "NotOurs")
    assert there in condition["message"]
    assert "does not bear this project's labels" in condition["message"]
    assert api_cluster.get("namespace", there) == before
    assert api_cluster.get("networkpolicy,resourcequota", "-n", there)["items"] == []
    # Once it is out of the way the team gets its own, without anybody asking.
    api_cluster.kubectl("delete", "namespace", there)
    provisioner.wait_state("taken", "ready")


async def test_a_team_whose_group_is_gone_keeps_everything_and_its_walls(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    await add_team(hub, "gone")
    provisioner.wait_state("gone", "ready")
    await hub.delete_group("gone")
    status = provisioner.wait_state("gone", "orphaned")
    assert "kept as it is" in status["conditions"][1]["message"]
    there = namespace(provisioner, "gone")
    assert api_cluster.get("namespace", there)["status"]["phase"] == "Active"
    api_cluster.kubectl("delete", "networkpolicy", POLICY_DENY_ALL, "-n", there)
    wait_until(
        lambda: (
            api_cluster.kubectl(
                "get", "networkpolicy", POLICY_DENY_ALL, "-n", there, check=False
            ).returncode
            == 0
        ),
        timeout_s=5,
        what=lambda: provisioner.log[-2000:],
    )
    assert provisioner.request("POST", "teams/gone/provision").status_code == 404


async def test_a_bad_spec_is_refused_with_reasons_that_name_the_field(
    provisioner: Provisioner, hub: HubClient
) -> None:
    await add_team(hub, "lagre", tier="lagre")
    answer = provisioner.request("POST", "teams/lagre/provision")
    assert answer.status_code == 422
    (problem,) = answer.json()["problems"]
    assert problem["field"] == "groups.lagre.collab.tier"
    assert "lagre" in problem["found"]
    assert "large" in problem["expected"]
    status = provisioner.wait_state("lagre", "failed")
    assert status["conditions"][1]["type"] == "SpecInvalid"


async def test_protected_data_is_refused_with_the_reason_before_anything_is_made(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    patients = {
        "title": "Patients",
        "everyTeam": True,
        "protected": True,
        "nfs": {"server": "10.9.8.7", "path": "/patients"},
    }
    guarded = {"collab": {**CONTEST, "datasets": {"patients": patients}}}
    await hub.create_group("contest.clinic")
    await hub.put_properties("contest.clinic", guarded)
    await add_team(hub, "ward", contest="clinic")

    def check(body: dict[str, Any]) -> None:
        problem, of_nfs = body["problems"]
        assert of_nfs["field"] == "datasets.patients.nfs"  # this platform has none
        assert problem["field"] == "datasets.patients.protected"
        assert problem["found"] == "true"
        assert "reads from a mounted volume are not recorded" in problem["expected"]

    answer = provisioner.request("POST", "teams/ward/provision")
    assert answer.status_code == 422
    check(answer.json())
    # A plan for properties that somebody thinks of, and for a team as it is.
    body = {
        "team": "ward",
        "properties": team(contest="clinic"),
        "contestProperties": guarded,
    }
    answer = provisioner.request("POST", "plan", json=body)
    assert answer.status_code == 422
    check(answer.json())
    answer = provisioner.request("POST", "plan", json={"teams": ["ward"]})
    check(answer.json()["plans"]["ward"])
    status = provisioner.wait_state("ward", "failed")
    assert status["conditions"][1]["type"] == "SpecInvalid"
    assert "protected" in status["lastError"]
    there = namespace(provisioner, "ward")
    assert api_cluster.kubectl("get", "namespace", there, check=False).returncode != 0
    assert there not in api_cluster.kubectl("get", "pv", "-o", "name").stdout


async def test_others_policies_in_a_team_are_reported_and_left_alone(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    await add_team(hub, "coral")
    provisioner.wait_state("coral", "ready")
    there = namespace(provisioner, "coral")
    api_cluster.apply(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "open-all", "namespace": there},
            "spec": {"podSelector": {}, "egress": [{}], "policyTypes": ["Egress"]},
        }
    )

    def is_reported() -> bool:
        status = provisioner.wait_state("coral", "ready")
        return any(c["type"] == "ForeignNetworkPolicy" for c in status["conditions"])

    wait_until(is_reported, timeout_s=5, what=lambda: provisioner.log[-2000:])
    assert api_cluster.get("networkpolicy", "open-all", "-n", there)["spec"]["egress"] == [{}]


async def test_a_namespace_deleted_by_hand_is_waited_for_and_made_anew(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    await add_team(hub, "again")
    provisioner.wait_state("again", "ready")
    there = namespace(provisioner, "again")
    uid = api_cluster.get("namespace", there)["metadata"]["uid"]
    # A finalizer keeps it dying for as long as this test wants.
    hold = '{"metadata": {"finalizers": ["example.org/hold"]}}'
    api_cluster.kubectl("patch", "namespace", there, "--type=merge", "-p", hold)
    api_cluster.kubectl("delete", "namespace", there, "--wait=false")
    status = provisioner.wait_state("again", "provisioning")
    assert "Terminating" in [condition["type"] for condition in status["conditions"]]
    release = '{"metadata": {"finalizers": null}}'
    api_cluster.kubectl("patch", "namespace", there, "--type=merge", "-p", release)
    provisioner.wait_state("again", "ready", 60)
    assert api_cluster.get("namespace", there)["metadata"]["uid"] != uid


async def test_a_volume_that_cannot_grow_stays_and_is_told(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    await hub.create_group("contest.deep")
    await hub.put_properties("contest.deep", {"collab": CONTEST})
    await add_team(hub, "trench", contest="deep")
    provisioner.wait_state("trench", "ready")
    there = namespace(provisioner, "trench")
    uid = api_cluster.get("pvc", "team", "-n", there)["metadata"]["uid"]
    larger = {**CONTEST, "generation": 2, "volumes": {"team": "3Gi"}}
    await hub.put_properties("contest.deep", {"collab": larger})
    assert provisioner.request("POST", "teams/trench/provision").status_code in PROVISIONED
    status = provisioner.wait_state("trench", "ready")
    (told,) = [c for c in status["conditions"] if c["type"] == "VolumeFixed"]
    assert "should be 3Gi large and stays at 1Gi" in told["message"]
    claim = api_cluster.get("pvc", "team", "-n", there)
    assert claim["metadata"]["uid"] == uid
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"


async def test_a_team_id_in_another_contest_gets_nothing_before_somebody_decides(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    await add_team(hub, "urchin")
    provisioner.wait_state("urchin", "ready")
    there = namespace(provisioner, "urchin")
    uid = api_cluster.get("pvc", "team", "-n", there)["metadata"]["uid"]
    await hub.delete_group("urchin")
    await hub.create_group("contest.atoll")
    await hub.put_properties("contest.atoll", {"collab": CONTEST})
    await add_team(hub, "urchin", contest="atoll")
    provisioner.request("POST", "teams/urchin/provision")
    status = provisioner.wait_state("urchin", "failed")
    assert "OtherContest" in [condition["type"] for condition in status["conditions"]]
    contest = api_cluster.get("namespace", there)["metadata"]["labels"][LABEL_CONTEST]
    assert contest == "reef"
    decision = f"{ANNOTATION_GIVE_TO_CONTEST}=atoll"
    api_cluster.kubectl("annotate", "namespace", there, decision)
    assert provisioner.wait_state("urchin", "ready")["contest"] == "atoll"
    assert api_cluster.get("pvc", "team", "-n", there)["metadata"]["uid"] == uid


async def test_fifty_teams_then_nothing_is_asked_of_kubernetes(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    teams = [f"many-{i:02}" for i in range(50)]
    for name in teams:
        await add_team(hub, name)
    wait_until(
        lambda: all(provisioner.states().get(name) == "ready" for name in teams),
        timeout_s=60,
        what=lambda: provisioner.log[-3000:],
    )

    def requests() -> dict[str, float]:
        text = provisioner.request("GET", "metrics", token=READER_TOKEN).text
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        pairs = (line.rsplit(" ", 1) for line in lines if "kubernetes_requests_total" in line)
        return {
            name: float(value)
            for name, value in pairs
            if 'kind="Lease"' not in name and 'verb="watch"' not in name
        }

    before = requests()
    assert sum(before.values()) > 50 * 9
    await hub.put_properties("many-07", team())  # three polls at least see no news
    wait_until(_after(2), timeout_s=10, what=lambda: "")
    assert requests() == before


def _after(seconds: float) -> Any:
    """True once so many seconds are over: here the passing of time itself is what is tested."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", "health", "", 200),
        ("GET", "health/live", "", 200),
        ("GET", "openapi.json", "", 200),
        ("GET", "teams", "", 401),
        ("GET", "teams", "no-token-at-all", 401),
        ("GET", "teams", STRANGER_TOKEN, 403),
        ("GET", "teams", READER_TOKEN, 200),
        ("GET", "metrics", STRANGER_TOKEN, 403),
        ("POST", "teams/ocean/provision", STRANGER_TOKEN, 403),
        ("POST", "teams/ocean/provision", READER_TOKEN, 403),
        ("POST", "nudge", READER_TOKEN, 403),
        ("GET", "teams/nobody", READER_TOKEN, 404),
        ("GET", "nothing/here", READER_TOKEN, 404),
    ],
)
def test_who_may_do_what(
    provisioner: Provisioner, method: str, path: str, token: str, status: int
) -> None:
    answer = provisioner.request(method, path, token=token)
    assert answer.status_code == status
    if status >= 400:
        assert answer.json()["message"]


async def test_an_admin_may_set_it_to_work_and_a_member_may_not(
    provisioner: Provisioner, hub: HubClient
) -> None:
    await add_team(hub, "asked")
    await hub.create_users(["mallory"])
    answers = {}
    for name in ("host", "mallory"):
        token = provisioner.issue_token(name)
        answer = provisioner.request("POST", "teams/asked/provision", token=token)
        answers[name] = answer.status_code
    assert answers["host"] in (200, 202)
    assert answers["mallory"] == 403


@pytest.mark.parametrize("name", ["kube-system", "BAD", "..", "a" * 31, "%00", "x%2Fy"])
async def test_provision_of_what_is_no_team(
    provisioner: Provisioner, hub: HubClient, name: str
) -> None:
    assert provisioner.request("POST", f"teams/{name}/provision").status_code in (404, 405)


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("plan", b"{", 400, None),
        ("plan", b"[" * 100_000, 400, None),
        ("plan", b"[]", 422, "(whole document)"),
        ("plan", b"{}", 422, "teams"),
        ("plan", b'{"teams": "ocean"}', 422, "teams"),
        ("plan", b'{"teams": [1]}', 422, "teams[0]"),
        ("plan", b'{"team": "ocean"}', 422, "properties"),
        ("plan", b'{"team": "ocean", "properties": 3}', 422, "properties"),
        ("plan", b'{"teams": ["ocean"], "more": 1}', 422, "more"),
        ("nudge", b"{}", 422, "groups"),
        ("nudge", b'{"groups": [null]}', 422, "groups[0]"),
        ("teams/ocean/provision", b'{"tier": "large"}', 422, "tier"),
    ],
)
async def test_bad_bodies_are_refused_by_field(
    provisioner: Provisioner, hub: HubClient, path: str, body: bytes, status: int, field: str | None
) -> None:
    answer = provisioner.request("POST", path, content=body)
    assert answer.status_code == status, answer.text
    if field is not None:
        assert field in [problem["field"] for problem in answer.json()["problems"]]


async def test_a_plan_tells_and_changes_nothing(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    await add_team(hub, "planned")
    provisioner.wait_state("planned", "ready")
    plans = provisioner.request("POST", "plan", json={"teams": ["planned", "nobody"]}).json()
    assert plans["plans"]["planned"] == {"steps": [], "issues": []}
    assert "no such team" in plans["plans"]["nobody"]["error"]
    body = {"team": "planned", "properties": team(tier="large")}
    steps = provisioner.request("POST", "plan", json=body).json()["plans"]["planned"]["steps"]
    assert ("apply", "ResourceQuota") in [(s["action"], s["kind"]) for s in steps]
    assert steps[-1]["action"] == "mark-ready"
    there = namespace(provisioner, "planned")
    hard = api_cluster.get("resourcequota", QUOTA_NAME, "-n", there)["spec"]["hard"]
    assert hard["limits.cpu"] == "2"


def test_the_table_for_people_and_the_way_to_the_hubs_login(provisioner: Provisioner) -> None:
    html = {"Accept": "text/html"}
    page = provisioner.request("GET", "teams", token=READER_TOKEN, headers=html)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "<table>" in page.text
    login = provisioner.request("GET", "teams", token="", headers=html)
    assert login.status_code == 302
    assert "/hub/api/oauth2/authorize" in login.headers["Location"]


def test_lists_come_in_pages_and_can_be_narrowed(provisioner: Provisioner) -> None:
    found = provisioner.request("GET", "teams?limit=2", token=READER_TOKEN).json()
    assert len(found["teams"]) == min(2, found["total"])
    assert found["next"] == (2 if found["total"] > 2 else None)
    ready = provisioner.request("GET", "teams?state=ready", token=READER_TOKEN).json()
    assert {entry["state"] for entry in ready["teams"]} <= {"ready"}
    bad = provisioner.request("GET", "teams?state=happy&limit=x", token=READER_TOKEN)
    assert bad.status_code == 422


async def test_a_second_provisioner_waits_for_its_turn(
    provisioner: Provisioner, hub: HubClient
) -> None:
    second = replace(
        provisioner,
        port=find_free_port(),
        folder=provisioner.folder / "second",
        process=None,
        arguments=("--ProvisionerApp.lease_seconds=3",),
    )
    second.start()
    try:
        wait_until(lambda: "listens on" in second.log, timeout_s=20, what=lambda: second.log)
        answer = second.request("GET", "health", token="")
        assert answer.status_code == 503
        assert "holds the lease" in answer.json()["waitingFor"]
        assert second.request("GET", "teams", token=READER_TOKEN).status_code == 503
        provisioner.kill()
        second.wait_healthy(10)  # the first one's process is known to be dead: no waiting
    finally:
        second.end()
        provisioner.start()
        provisioner.wait_healthy(10)  # the second gave the lease back


def test_a_taken_port_is_one_clear_sentence(provisioner: Provisioner) -> None:
    second = replace(provisioner, folder=provisioner.folder / "third", process=None)
    second.start()
    assert second.process is not None
    assert second.process.wait(20) == 1
    (line,) = [line for line in second.log.splitlines() if "Cannot listen" in line]
    assert f"port {provisioner.port}" in line
    assert "Traceback" not in second.log


def test_no_token_is_ever_logged(provisioner: Provisioner) -> None:
    for token in ("provisioner-token", "spawner-token", "reader-token", "stranger-token"):
        assert token not in provisioner.log
