"""Pods on a node: phases, logs, volumes, addresses, and their end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .client import Api, Json, path_of
from .clusters import ContractCluster

READ_ONLY_TEST = "touch /data/new 2>/dev/null && echo written || echo refused; sleep 600"


def _pod(node: ContractCluster, script: str, **spec: Any) -> Json:
    """A pod that runs a shell script."""
    container = {
        "name": "main",
        "image": node.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        **spec.pop("container", {}),
    }
    whole = {"terminationGracePeriodSeconds": 1, "restartPolicy": "Never", **spec}
    return {"metadata": {"name": "p"}, "spec": {"containers": [container], **whole}}


async def _start(api: Api, namespace: str, pod: Json, phase: str) -> Json:
    """Create a pod, wait for its phase."""
    (await api.post(path_of("pods", namespace), pod)).expect()
    path = path_of("pods", namespace, "p")
    found = await api.until(path, lambda a: a.body["status"].get("phase") == phase)
    return found.body


async def _log(api: Api, namespace: str, **query: str | int) -> str:
    answer = await api.get(path_of("pods", namespace, "p", "log"), **query)
    assert answer.code == 200, answer.body
    return str(answer.body["text"])


async def _log_line(api: Api, namespace: str) -> str:
    """The first line that the pod writes."""
    path = path_of("pods", namespace, "p", "log")
    answer = await api.until(path, lambda a: a.code == 200 and "\n" in a.body["text"])
    return str(answer.body["text"]).splitlines()[0]


async def test_running(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """A pod that runs is `Running` with an address, a start time and a ready container."""
    pod = await _start(node_api, node_namespace, _pod(node, "sleep 600"), "Running")
    status = pod["status"]
    assert status["podIP"]
    assert status["podIPs"][0]["ip"] == status["podIP"]
    assert status["startTime"]
    (container,) = status["containerStatuses"]
    assert container["name"] == "main"
    assert container["ready"] is True
    assert container["state"]["running"]["startedAt"]
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert conditions["Ready"] == conditions["PodScheduled"] == "True"
    assert pod["spec"]["nodeName"]


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
async def test_ends(
    node: ContractCluster, node_api: Api, node_namespace: str, code: int, phase: str
) -> None:
    """A pod whose process ends is `Succeeded` or `Failed`, and tells its exit code."""
    pod = await _start(node_api, node_namespace, _pod(node, f"exit {code}"), phase)
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert state["exitCode"] == code
    assert state["reason"] == ("Completed" if code == 0 else "Error")


async def test_logs(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """The log holds both streams, and can be cut to its last lines."""
    script = "echo one; echo two >&2; echo three"
    await _start(node_api, node_namespace, _pod(node, script), "Succeeded")
    assert sorted((await _log(node_api, node_namespace)).split()) == ["one", "three", "two"]
    assert await _log(node_api, node_namespace, tailLines=1) in ("three\n", "two\n")


async def test_following_a_log(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """With `follow` the log goes on until the pod has ended."""
    await _start(node_api, node_namespace, _pod(node, "echo one; sleep 1; echo two"), "Running")
    text = await asyncio.wait_for(_log(node_api, node_namespace, follow="true"), 30)
    assert text == "one\ntwo\n"


async def test_events(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """A start is told by the events `Scheduled`, `Pulled` and `Started`, a stop by `Killing`."""
    await _start(node_api, node_namespace, _pod(node, "sleep 600"), "Running")
    await node_api.delete(path_of("pods", node_namespace, "p"))
    wanted = {"Scheduled", "Pulled", "Started", "Killing"}
    await node_api.until(
        path_of("events", node_namespace),
        lambda a: wanted <= {e["reason"] for e in a.body["items"]},
    )


async def test_graceful_end(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """A deleted pod's process gets SIGTERM and its time; the object stays until it has ended."""
    script = "trap 'sleep 1; exit 0' TERM; echo up; while true; do sleep 0.1; done"
    pod = _pod(node, script, terminationGracePeriodSeconds=20)
    await _start(node_api, node_namespace, pod, "Running")
    await _log_line(node_api, node_namespace)
    path = path_of("pods", node_namespace, "p")
    assert (await node_api.delete(path)).expect()["metadata"]["deletionGracePeriodSeconds"] == 20
    assert (await node_api.get(path)).expect()["metadata"]["deletionTimestamp"]
    await asyncio.wait_for(node_api.until_gone(path), 15)


async def test_forced_end(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """A process that ignores SIGTERM is killed when its time is up."""
    script = "trap '' TERM; echo up; while true; do sleep 0.1; done"
    await _start(node_api, node_namespace, _pod(node, script), "Running")
    await _log_line(node_api, node_namespace)
    path = path_of("pods", node_namespace, "p")
    (await node_api.delete(path)).expect()
    await asyncio.wait_for(node_api.until_gone(path), 15)


async def test_secrets_in_the_environment(
    node: ContractCluster, node_api: Api, node_namespace: str
) -> None:
    """A pod waits for the Secret that its environment names; then it has the value."""
    reference = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    own = {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
    pod = _pod(node, 'echo "$TOKEN $ME"', container={"env": [reference, own]})
    (await node_api.post(path_of("pods", node_namespace), pod)).expect()
    path = path_of("pods", node_namespace, "p")
    await node_api.until(path, lambda a: bool(a.body["spec"].get("nodeName")))
    secret = {"metadata": {"name": "s"}, "stringData": {"k": "geheim"}}
    (await node_api.post(path_of("secrets", node_namespace), secret)).expect()
    await node_api.until(path, lambda a: a.body["status"]["phase"] == "Succeeded")
    assert await _log(node_api, node_namespace) == f"geheim {node_namespace}\n"


async def test_secret_and_empty_volumes(
    node: ContractCluster, node_api: Api, node_namespace: str
) -> None:
    """Secrets and config maps mount as files, an empty folder can be written to."""
    secret = {"metadata": {"name": "s"}, "stringData": {"k": "geheim"}}
    (await node_api.post(path_of("secrets", node_namespace), secret)).expect()
    config = {"metadata": {"name": "m"}, "data": {"c": "offen"}}
    (await node_api.post(path_of("configmaps", node_namespace), config)).expect()
    volumes: list[Json] = [
        {"name": "a", "secret": {"secretName": "s"}},
        {"name": "b", "configMap": {"name": "m"}},
        {"name": "c", "emptyDir": {}},
    ]
    mounts = [{"name": n, "mountPath": f"/mnt/{n}"} for n in "abc"]
    script = "cat /mnt/a/k /mnt/b/c > /mnt/c/new && cat /mnt/c/new && echo"
    pod = _pod(node, script, volumes=volumes, container={"volumeMounts": mounts})
    await _start(node_api, node_namespace, pod, "Succeeded")
    assert await _log(node_api, node_namespace) == "geheimoffen\n"


async def test_a_claim_keeps_data(
    node: ContractCluster, node_api: Api, node_namespace: str
) -> None:
    """What one pod writes to a claim, under a subPath too, the next pod finds."""
    resources = {"requests": {"storage": "1Mi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": resources}
    claim = {"metadata": {"name": "home"}, "spec": spec}
    (await node_api.post(path_of("persistentvolumeclaims", node_namespace), claim)).expect()
    volume = {"name": "home", "persistentVolumeClaim": {"claimName": "home"}}
    mounts = [
        {"name": "home", "mountPath": "/home/jovyan"},
        {"name": "home", "mountPath": "/mnt/part", "subPath": "part"},
    ]
    path = path_of("pods", node_namespace, "p")
    for script, expected in (
        ("echo kept > /home/jovyan/file; echo sub > /mnt/part/file", ""),
        ("cat /home/jovyan/file /home/jovyan/part/file", "kept\nsub\n"),
    ):
        pod = _pod(node, script, volumes=[volume], container={"volumeMounts": mounts})
        await _start(node_api, node_namespace, pod, "Succeeded")
        assert await _log(node_api, node_namespace) == expected
        await node_api.delete(path, gracePeriodSeconds=0)
        await node_api.until_gone(path)


async def test_nested_mounts(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """A mount inside another mount shows the inner volume there."""
    volumes: list[Json] = [{"name": n, "emptyDir": {}} for n in ("outer", "inner")]
    mounts = [
        {"name": "inner", "mountPath": "/home/jovyan/data/set"},
        {"name": "outer", "mountPath": "/home/jovyan"},
    ]
    script = "cd /home/jovyan && echo x > data/set/file && cat /home/jovyan/data/set/file"
    pod = _pod(node, script, volumes=volumes, container={"volumeMounts": mounts})
    await _start(node_api, node_namespace, pod, "Succeeded")
    assert await _log(node_api, node_namespace) == "x\n"


async def test_working_directory(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """`workingDir` is where the process starts; paths in `args` and values of `env` are its own."""
    container = {
        "workingDir": "/mnt/place",
        "env": [{"name": "PLACE", "value": "/mnt/place/file"}],
        "volumeMounts": [{"name": "work", "mountPath": "/mnt/place"}],
        "command": ["sh"],
        "args": ["-c", 'echo here > file && cat "$PLACE" /mnt/place/file'],
    }
    volumes = [{"name": "work", "emptyDir": {}}]
    pod = _pod(node, "", volumes=volumes, container=container)
    await _start(node_api, node_namespace, pod, "Succeeded")
    assert await _log(node_api, node_namespace) == "here\nhere\n"


async def test_host_aliases(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """A name from `hostAliases` in a URL leads to its address, by name service or as written."""
    aliases = [{"ip": "127.0.0.1", "hostnames": ["hub"]}]
    env = [{"name": "URL", "value": "http://hub:9/api"}]
    script = 'case "$URL" in *127.0.0.1*) echo 127.0.0.1;; *) grep -w hub /etc/hosts;; esac'
    pod = _pod(node, script, hostAliases=aliases, container={"env": env})
    await _start(node_api, node_namespace, pod, "Succeeded")
    assert "127.0.0.1" in await _log(node_api, node_namespace)


@pytest.mark.embedded_excused("Read-only mounts are links like the others: they can be written to.")
async def test_read_only_mounts(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """A `readOnly` mount cannot be written to."""
    mounts = [{"name": "data", "mountPath": "/data", "readOnly": True}]
    volumes = [{"name": "data", "emptyDir": {}}]
    pod = _pod(node, READ_ONLY_TEST, volumes=volumes, container={"volumeMounts": mounts})
    await _start(node_api, node_namespace, pod, "Running")
    assert await _log_line(node_api, node_namespace) == "refused"


@pytest.mark.embedded_excused(
    "It runs a container once: a process that has ended is not restarted."
)
async def test_restarts(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """With `restartPolicy: OnFailure` a container that fails is started again."""
    script = "test -e /mnt/seen && sleep 600; touch /mnt/seen; exit 1"
    volumes = [{"name": "v", "emptyDir": {}}]
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/mnt"}]}
    pod = _pod(node, script, restartPolicy="OnFailure", volumes=volumes, container=mounts)
    (await node_api.post(path_of("pods", node_namespace), pod)).expect()

    def has_ended(found: Json) -> bool:
        statuses = found["status"].get("containerStatuses") or [{}]
        return bool(found["status"]["phase"] == "Failed" or statuses[0].get("restartCount", 0))

    path = path_of("pods", node_namespace, "p")
    found = await node_api.until(path, lambda a: has_ended(a.body))
    assert found.body["status"]["containerStatuses"][0]["restartCount"] > 0


@pytest.mark.embedded_excused("It refuses pods with init containers: they end as `Failed`.")
async def test_init_containers(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """Init containers run to their end before the others start."""
    pod = _pod(node, "cat /mnt/file")
    volume = [{"name": "v", "mountPath": "/mnt"}]
    first = {**pod["spec"]["containers"][0], "name": "first", "volumeMounts": volume}
    first["command"] = ["sh", "-c", "echo ready > /mnt/file"]
    pod["spec"]["containers"][0]["volumeMounts"] = volume
    pod["spec"].update(initContainers=[first], volumes=[{"name": "v", "emptyDir": {}}])
    (await node_api.post(path_of("pods", node_namespace), pod)).expect()
    path = path_of("pods", node_namespace, "p")
    ended = ("Succeeded", "Failed")
    found = await node_api.until(path, lambda a: a.body["status"]["phase"] in ended)
    assert found.body["status"]["phase"] == "Succeeded"


@pytest.mark.embedded_excused("Processes of one user see one another, and one another's files.")
async def test_isolation_of_processes(
    node: ContractCluster, node_api: Api, node_namespace: str
) -> None:
    """A pod sees only its own processes."""
    script = "ls -d /proc/[0-9]* | wc -l; sleep 600"
    await _start(node_api, node_namespace, _pod(node, script), "Running")
    assert int(await _log_line(node_api, node_namespace)) < 10


@pytest.mark.embedded_excused("Processes have the machine's memory: limits are only counted.")
async def test_memory_limits(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """A container that takes more memory than its limit is killed."""
    container = {"resources": {"limits": {"memory": "32Mi"}}}
    script = "dd if=/dev/zero of=/dev/null bs=128M count=1 && echo survived"
    (await node_api.post(path_of("pods", node_namespace), _pod(node, script, container=container)))
    path = path_of("pods", node_namespace, "p")
    ended = ("Succeeded", "Failed")
    found = await node_api.until(path, lambda a: a.body["status"]["phase"] in ended)
    state = found.body["status"]["containerStatuses"][0]["state"]["terminated"]
    assert state["exitCode"] == 137


async def _reaches(node: ContractCluster, api: Api, namespace: str) -> str:
    """Whether a new pod gets a connection to the API server: its last word."""
    host, port = api.server.removeprefix("https://").split(":")
    connect = f'import socket; socket.create_connection(("{host}", {port}), 3)'
    script = f"python3 -c '{connect}' 2>/dev/null && echo open || echo closed"
    await _start(api, namespace, _pod(node, script), "Succeeded")
    said = await _log(api, namespace)
    await api.delete(path_of("pods", namespace, "p"), gracePeriodSeconds=0)
    await api.until_gone(path_of("pods", namespace, "p"))
    return said.strip()


@pytest.mark.embedded_excused("Pods share the machine's network: NetworkPolicies have no effect.")
async def test_network_policies(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """A policy that denies all egress closes a pod; without it the same pod gets through."""
    assert await _reaches(node, node_api, node_namespace) == "open"
    spec = {"podSelector": {}, "policyTypes": ["Egress"]}
    deny = {"metadata": {"name": "deny"}, "spec": spec}
    (await node_api.post(path_of("networkpolicies", node_namespace), deny)).expect()
    assert await _reaches(node, node_api, node_namespace) == "closed"


async def test_own_addresses(node: ContractCluster, node_api: Api, node_namespace: str) -> None:
    """A server that listens on 0.0.0.0 is reached from the hub's machine at its pod's address; two
    pods may use the same port."""
    found = {}
    for name in ("one", "two"):
        server = "python3 -m http.server --bind 0.0.0.0 8888"
        pod = _pod(node, f"mkdir -p /tmp/{name} && cd /tmp/{name} && touch {name} && exec {server}")
        pod["metadata"]["name"] = name
        (await node_api.post(path_of("pods", node_namespace), pod)).expect()
    for name in ("one", "two"):
        path = path_of("pods", node_namespace, name)
        pod = (await node_api.until(path, lambda a: a.body["status"]["phase"] == "Running")).body
        found[name] = await _fetch(f"http://{pod['status']['podIP']}:8888/")
    assert ">one<" in found["one"]
    assert ">two<" in found["two"]


async def _fetch(url: str) -> str:
    """The body at `url`, once something listens there."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 30
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    return await answer.text()
            except aiohttp.ClientConnectionError:
                assert loop.time() < end, f"nothing listens at {url}"
                await asyncio.sleep(0.05)


async def test_a_folder_as_a_data_set(
    node: ContractCluster, node_api: Api, node_namespace: str, tmp_path: Path
) -> None:
    """A static CSI volume shows the folder that it names, and its deletion leaves the folder."""
    tmp_path.chmod(0o755)
    (tmp_path / "table.csv").write_text("a,b\n")
    name = f"{node_namespace}-data"
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadOnlyMany"],
        "storageClassName": "collab-datasets",
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": node_namespace, "name": "data"},
        "csi": {
            "driver": node.folder_driver,
            "volumeHandle": name,
            "readOnly": True,
            "volumeAttributes": {"path": str(tmp_path)},
        },
    }
    volume = {"metadata": {"name": name}, "spec": spec}
    (await node_api.post(path_of("persistentvolumes"), volume)).expect()
    wanted = {"requests": {"storage": "1Gi"}}
    claim_spec = {"accessModes": ["ReadOnlyMany"], "storageClassName": "collab-datasets"}
    claim = {"metadata": {"name": "data"}, "spec": {**claim_spec, "resources": wanted}}
    (await node_api.post(path_of("persistentvolumeclaims", node_namespace), claim)).expect()
    source = {"claimName": "data", "readOnly": True}
    volumes = [{"name": "data", "persistentVolumeClaim": source}]
    mounts = [{"name": "data", "mountPath": "/home/jovyan/data/set", "readOnly": True}]
    script = "cat /home/jovyan/data/set/table.csv"
    pod = _pod(node, script, volumes=volumes, container={"volumeMounts": mounts})
    await _start(node_api, node_namespace, pod, "Succeeded")
    assert await _log(node_api, node_namespace) == "a,b\n"
    await node_api.delete(path_of("namespaces", name=node_namespace))
    await node_api.until_gone(path_of("namespaces", name=node_namespace))
    await node_api.delete(path_of("persistentvolumes", name=name))
    assert (tmp_path / "table.csv").read_text() == "a,b\n"


async def test_policies_stand_until_the_last_pod_has_ended(
    node: ContractCluster, node_api: Api, node_namespace: str
) -> None:
    """While a deleted namespace's pods end, however long, its NetworkPolicies stand."""
    deny = {"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}
    (await node_api.post(path_of("networkpolicies", node_namespace), deny)).expect()
    ends_slowly = "trap '' TERM; echo up; i=0; while [ $i -lt 600 ]; do sleep 1; done"
    pod = _pod(node, ends_slowly, terminationGracePeriodSeconds=3)
    await _start(node_api, node_namespace, pod, "Running")
    assert await _log_line(node_api, node_namespace) == "up"
    (await node_api.delete(path_of("namespaces", name=node_namespace))).expect()
    looks = 0
    while True:  # the policy first: were it gone before the pod, this order would show it
        policy = await node_api.get(path_of("networkpolicies", node_namespace, "deny"))
        found = await node_api.get(path_of("pods", node_namespace, "p"))
        if found.code == 404:
            break
        assert policy.code == 200, "the pod was there yet"
        looks += 1
    assert looks > 3, "it ended slowly, so it was looked at while it did"
    await node_api.until_gone(path_of("namespaces", name=node_namespace))
