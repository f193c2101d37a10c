"""The last word on a pod: hardened, as the spec says, and nothing slips in."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.client import ApiClient, Configuration

from jupyterhub_collab import constants
from jupyterhub_collab.models import Gate, Platform
from jupyterhub_collab.policy.pod import (
    PodRefusedError,
    PodRules,
    ServerIdentity,
    enforce_pod,
    package_base,
)
from jupyterhub_collab.policy.spawning import ServerChoice
from tests.policy.test_spawning import SPEC

TOKEN, CREDENTIAL = "t0k3n-of-the-hub", "eyJ-credential"
PLATFORM = Platform.model_validate(
    {
        "hub_id": "hub-1",
        "hub_api": {
            "host": "hub.collab", "address": "10.96.0.10", "port": 8081,
            "peer": {"cidr": "10.87.0.1/32"},
        },
        "proxy": {
            "host": "10.96.0.11", "address": "10.96.0.11", "port": 8000,
            "peer": {"cidr": "10.87.0.1/32"},
        },
        "host_users": False,
        "runtime_class": "gvisor",
    }
)  # fmt: skip
SERVER = ServerIdentity(
    username="Ada Lovelace",
    server_name="",
    server_id="id-1",
    pod_name="server-ada-1",
    namespace="team-ocean",
    secret_name="server-ada-1-id",
    secret_env={"JUPYTERHUB_API_TOKEN": "api-token", "JPY_API_TOKEN": "api-token"},
    secret_values=frozenset({TOKEN, CREDENTIAL}),
)
DATA = {
    "tides": {
        "title": "Tides",
        "csi": {"driver": "d.example.org", "volumeHandle": "tides"},
    }
}
FULL = SPEC.model_validate(
    {
        **SPEC.to_wire(),
        "datasets": DATA,
        "profiles": {
            **SPEC.to_wire()["profiles"],
            "graphics": {
                "title": "Graphics",
                "cpu": "1500m",
                "memory": "8Gi",
                "gpu": 1,
                "nodeSelector": {"gpu": "yes"},
                "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "priorityClass": "contest",
            },
        },
    }
)
RULES = PodRules(FULL, ServerChoice("ocean", "gpu", "graphics"), PLATFORM)


def pod(**spec):
    """What KubeSpawner makes, more or less."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "jupyter-ada",
            "labels": {
                "app.kubernetes.io/managed-by": "kubespawner",
                "app.kubernetes.io/component": "x",
            },
            "annotations": {"hub.jupyter.org/username": "somebody"},
        },
        "spec": {
            "restartPolicy": "OnFailure",
            "automountServiceAccountToken": True,
            "securityContext": {"fsGroup": 0, "runAsUser": 0},
            "containers": [
                {
                    "name": "notebook",
                    "image": "evil.example.org/x:1",
                    "args": ["jupyterhub-singleuser"],
                    "env": [
                        {"name": "JUPYTERHUB_API_TOKEN", "value": TOKEN},
                        {"name": "JPY_API_TOKEN", "value": TOKEN},
                        {"name": "GREETING", "value": "hello"},
                    ],
                    "ports": [{"name": "notebook-port", "containerPort": 8888}],
                    "resources": {"requests": {"cpu": 64}, "limits": {}},
                    "securityContext": {
                        "allowPrivilegeEscalation": True,
                        "runAsUser": 0,
                        "capabilities": {"add": ["NET_ADMIN"]},
                    },
                    "volumeMounts": [],
                }
            ],
            "volumes": [],
            "serviceAccountName": "admin",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["hub.collab"]}],
            **spec,
        },
    }


def notebook(found):
    return next(c for c in found["spec"]["containers"] if c["name"] == "notebook")


def enforced(**spec):
    return enforce_pod(pod(**spec), SERVER, RULES)


def test_the_spec_and_the_platform_have_the_last_word():
    spec = enforced()["spec"]
    assert spec["serviceAccountName"] == "member"
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["restartPolicy"] == "Never"
    assert spec["hostUsers"] is False
    assert spec["runtimeClassName"] == "gvisor"
    assert spec["nodeSelector"] == {"gpu": "yes"}
    assert spec["priorityClassName"] == "contest"
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert spec["dnsPolicy"] == "None"
    assert spec["dnsConfig"] == {"nameservers": ["127.0.0.1"]}
    # A platform host that is an address needs no alias.
    assert spec["hostAliases"] == [{"ip": "10.96.0.10", "hostnames": ["hub.collab"]}]


def test_the_notebook_is_what_was_chosen():
    container = notebook(enforced())
    assert container["image"] == "r.example.org/gpu:1"
    amounts = {
        "cpu": "1500m",
        "memory": "8Gi",
        "ephemeral-storage": "1Gi",
        "nvidia.com/gpu": "1",
    }
    assert container["resources"] == {"requests": amounts, "limits": amounts}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 100,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_ownership():
    meta = enforced()["metadata"]
    assert meta["name"] == "server-ada-1"
    assert meta["namespace"] == "team-ocean"
    assert {
        constants.LABEL_MANAGED_BY: "jupyterhub-collab",
        constants.LABEL_HUB: "hub-1",
        constants.LABEL_TEAM: "ocean",
        constants.LABEL_CONTEST: "sea",
        constants.LABEL_COMPONENT: "singleuser-server",
    }.items() <= meta["labels"].items()
    assert meta["annotations"][constants.ANNOTATION_USERNAME] == "Ada Lovelace"
    assert meta["annotations"][constants.ANNOTATION_SERVER_ID] == "id-1"


def test_tokens_come_from_the_secret_and_stand_nowhere_else():
    found = enforced()
    env = {e["name"]: e for e in notebook(found)["env"]}
    assert env["JUPYTERHUB_API_TOKEN"] == {
        "name": "JUPYTERHUB_API_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "server-ada-1-id", "key": "api-token"}},
    }
    assert env["GREETING"]["value"] == "hello"
    assert TOKEN not in json.dumps(found)
    assert len(env) == len(notebook(found)["env"])


def test_a_token_anywhere_else_is_refused_without_repeating_it():
    manifest = pod()
    manifest["spec"]["containers"][0]["args"].append(f"--token={TOKEN}")
    manifest["metadata"]["annotations"]["x"] = CREDENTIAL
    with pytest.raises(PodRefusedError) as refused:
        enforce_pod(manifest, SERVER, RULES)
    assert "args[1] holds a token" in str(refused.value)
    assert "annotations.x holds a token" in str(refused.value)
    assert TOKEN not in str(refused.value)


def mounts(found):
    claims = {
        v["name"]: v.get("persistentVolumeClaim", {}).get("claimName", "(scratch)")
        for v in found["spec"]["volumes"]
    }
    return [
        (m["mountPath"], claims[m["name"]], m.get("readOnly", False))
        for m in notebook(found)["volumeMounts"]
    ]


def test_volumes():
    personal = "personal-ada-lovelace-"
    found = mounts(enforced())
    assert [(p, ro) for p, _, ro in found] == [
        ("/home/jovyan", False),
        ("/home/jovyan/team", False),
        ("/home/jovyan/data/tides", True),
    ]
    assert found[0][1].startswith(personal)
    assert [claim for _, claim, _ in found[1:]] == ["team", "dataset-tides"]


def test_frozen_team_changes_nothing():
    frozen = FULL.model_copy(update={"gate": Gate.FROZEN})
    found = enforce_pod(pod(), SERVER, PodRules(frozen, RULES.choice, PLATFORM))
    assert [(p, ro) for p, _, ro in mounts(found)] == [
        ("/home/jovyan", False),  # scratch
        ("/home/jovyan/personal", True),
        ("/home/jovyan/team", True),
        ("/home/jovyan/data/tides", True),
    ]
    assert mounts(found)[0][1] == "(scratch)"
    for volume in found["spec"]["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["readOnly"] is True


def test_the_manifest_given_is_left_alone():
    given_pod = pod()
    before = copy.deepcopy(given_pod)
    enforce_pod(given_pod, SERVER, RULES)
    assert given_pod == before


def test_enforcing_what_was_enforced_is_refused_not_doubled():
    with pytest.raises(PodRefusedError, match="are ours"):
        enforce_pod(enforced(), SERVER, RULES)


SIDECAR = {"name": "sidecar", "image": "r.example.org/gpu:1", "securityContext": {"runAsUser": 0}}


def test_what_an_administrator_may_add():
    found = enforced(
        containers=[*pod()["spec"]["containers"], SIDECAR],
        initContainers=[{**SIDECAR, "name": "first"}],
        volumes=[{"name": "cache", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x"}}],
        affinity={"podAffinity": {}},
        nodeSelector={"zone": "a", "gpu": "no"},
        imagePullSecrets=[{"name": "pull"}],
    )
    spec = found["spec"]
    for container in [*spec["containers"], *spec["initContainers"]]:
        assert container["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["runAsUser"] == 1000
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["nodeSelector"] == {"zone": "a", "gpu": "yes"}
    assert {"name": "cache", "emptyDir": {}} in spec["volumes"]
    assert spec["imagePullSecrets"] == [{"name": "pull"}]


def test_what_an_administrator_says_too_is_no_contradiction():
    ours = enforced()["spec"]
    same = {key: ours[key] for key in ("tolerations", "priorityClassName", "runtimeClassName")}
    assert enforced(**same)["spec"] == ours
    empty = {"tolerations": [], "priorityClassName": "", "securityContext": {"sysctls": []}}
    assert enforced(**empty)["spec"] == ours


def container(**more):
    return [{**pod()["spec"]["containers"][0], **more}]


def mount(**more):
    return container(volumeMounts=[{"name": "v", **more}])


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"hostIPC": True}, "hostIPC"),
        ({"shareProcessNamespace": True}, "shareProcessNamespace"),
        ({"nodeName": "node-1"}, "nodeName"),
        ({"ephemeralContainers": [SIDECAR]}, "ephemeralContainers"),
        ({"resourceClaims": [{"name": "x"}]}, "resourceClaims"),
        ({"priority": 2000001000}, "priority"),
        ({"os": {"name": "windows"}}, "os"),
        ({"terminationGracePeriodSeconds": 301}, "from 0 to 300"),
        ({"terminationGracePeriodSeconds": -1}, "from 0 to 300"),
        ({"terminationGracePeriodSeconds": "30"}, "from 0 to 300"),
        ({"tolerations": [{"operator": "Exists"}]}, "tolerations is set.* the profile's"),
        ({"priorityClassName": "system-node-critical"}, "priorityClassName is set.* the profile's"),
        ({"runtimeClassName": "runc"}, "runtimeClassName is set.* the platform's"),
        ({"securityContext": {"supplementalGroups": [0]}}, "securityContext.supplementalGroups"),
        ({"securityContext": {"sysctls": [{"name": "x", "value": "1"}]}}, "sysctls"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "hostPath"),
        ({"volumes": [{"name": "v", "nfs": {"server": "x", "path": "/"}}]}, "nfs"),
        ({"volumes": [{"name": "v", "csi": {"driver": "x"}}]}, "csi"),
        (
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "personal-bob"}}]},
            "persistentVolumeClaim",
        ),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {}}]}}]},
            "projected",
        ),
        ({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}, "hostPath"),
        ({"volumes": [{"name": "collab-team", "emptyDir": {}}]}, "are ours"),
        ({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]}, "two"),
        ({"containers": container(volumeDevices=[{"name": "v"}])}, "volumeDevices"),
        ({"containers": container(ports=[{"containerPort": 1, "hostPort": 1}])}, "hostPort"),
        ({"containers": container(resizePolicy=[{"x": 1}])}, "resizePolicy"),
        ({"containers": [*container(), *container()]}, "exactly one container notebook"),
        ({"containers": [SIDECAR]}, "exactly one container notebook"),
        ({"containers": [*container(), SIDECAR, SIDECAR]}, "two containers"),
        (
            {"containers": [*container(), {**SIDECAR, "image": "r.example.org/gpu:1.0"}]},
            "not among the team's images",
        ),
        (
            {"initContainers": [{**SIDECAR, "image": "x/r.example.org/gpu:1"}]},
            "not among the team's images",
        ),
        ({"containers": mount(mountPath="/home/jovyan")}, "mounted over ours"),
        ({"containers": mount(mountPath="/home")}, "mounted over ours"),
        ({"containers": mount(mountPath="/")}, "mounted over ours"),
        ({"containers": mount(mountPath="/home/jovyan/team/x")}, "mounted over ours"),
        ({"containers": mount(mountPath="/home//jovyan/./team")}, "mounted over ours"),
        ({"containers": mount(mountPath="/x/../home/jovyan")}, "mounted over ours"),
        ({"containers": mount(mountPath="/home/jovyan/data/tides")}, "mounted over ours"),
        ({"containers": mount(mountPath="/x", subPath="../../etc")}, "subPath"),
        ({"containers": mount(mountPath="/x", subPathExpr="$(A)")}, "subPathExpr"),
        (
            {"containers": mount(mountPath="/x", mountPropagation="Bidirectional")},
            "mountPropagation",
        ),
        (
            {"containers": container(volumeMounts=[{"name": "collab-team", "mountPath": "/x"}])},
            "which is ours",
        ),
        (
            {"containers": container(
                livenessProbe={"httpGet": {"host": "169.254.169.254", "port": 80}})},
            "host",
        ),
        (
            {"containers": container(
                lifecycle={"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 1}}})},
            "host",
        ),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_what_nobody_may_add(spec, reason):
    with pytest.raises(PodRefusedError, match=reason):
        enforced(**spec)


def test_extra_images_are_compared_whole():
    allowed = PodRules(FULL, RULES.choice, PLATFORM, frozenset({"r.example.org/proxy:1"}))
    for image in ("r.example.org/proxy:1", "r.example.org/proxy:11"):
        manifest = pod(containers=[*container(), {**SIDECAR, "image": image}])
        if image.endswith(":1"):
            enforce_pod(manifest, SERVER, allowed)
        else:
            with pytest.raises(PodRefusedError):
                enforce_pod(manifest, SERVER, allowed)


def test_every_field_is_one_that_kubernetes_has():
    """A misspelt field would be dropped by the typed models."""
    found = {"apiVersion": "v1", "kind": "Pod", **enforced()}
    with ApiClient(Configuration()) as client:
        typed = client.deserialize(json.dumps(found), "V1Pod", "application/json")
        assert client.sanitize_for_serialization(typed) == found


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["x", "/", "../", TOKEN]),
    lambda v: (
        st.lists(v, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["name", "hostPath", "path", "host", "image", "emptyDir", "privileged"]
            ),
            v,
            max_size=3,
        )
    ),
    max_leaves=6,
)
SPEC_KEYS = [
    "hostNetwork", "hostPID", "nodeName", "securityContext", "serviceAccountName", "tolerations",
    "volumes", "initContainers", "dnsPolicy", "hostUsers", "runtimeClassName", "affinity",
    "priorityClassName", "restartPolicy", "automountServiceAccountToken", "overhead",
]  # fmt: skip


@settings(max_examples=300)
@given(
    spec=st.dictionaries(st.sampled_from(SPEC_KEYS), VALUES, max_size=4),
    notebook_keys=st.dictionaries(
        st.sampled_from(["securityContext", "image", "resources", "env", "command", "stdin"]),
        VALUES,
        max_size=3,
    ),
)
def test_whatever_hooks_made_of_it_is_hardened_or_refused(spec, notebook_keys):
    manifest = pod(**spec)
    manifest["spec"]["containers"][0].update(notebook_keys)
    try:
        found = enforce_pod(manifest, SERVER, RULES)
    except PodRefusedError:
        return
    text = json.dumps(found)
    assert TOKEN not in text
    assert "hostPath" not in found["spec"]
    for volume in found["spec"]["volumes"]:
        assert set(volume) <= {"name", "emptyDir", "persistentVolumeClaim"}
    assert not {"hostNetwork", "hostPID", "nodeName", "overhead"} & set(found["spec"])
    assert found["spec"]["securityContext"]["runAsUser"] == 1000
    assert found["spec"]["serviceAccountName"] == "member"
    assert found["spec"]["automountServiceAccountToken"] is False
    assert notebook(found)["image"] == "r.example.org/gpu:1"
    assert notebook(found)["securityContext"]["privileged"] is False


def test_each_version_of_an_image_has_its_own_packages():
    one = package_base("/home/jovyan", "basic", "r/basic:1")
    two = package_base("/home/jovyan", "basic", "r/basic:2")
    assert one != two
    assert one.startswith("/home/jovyan/.local/collab/basic.")
    env = {e["name"]: e.get("value") for e in notebook(enforced())["env"]}
    assert env["PYTHONUSERBASE"] == package_base("/home/jovyan", "gpu", "r.example.org/gpu:1")
