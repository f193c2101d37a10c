"""Answers that get lost, conflicts that pass, pods that cannot be deleted: faults made to order."""

import asyncio
from types import SimpleNamespace

import pytest

from jupyterhub_collab import constants
from jupyterhub_collab.hub import cluster
from jupyterhub_collab.hub.cluster import ClusterLink, Leaving
from jupyterhub_collab.hub.progress import ProgressLog
from jupyterhub_collab.hub.starting import ServerStart
from jupyterhub_collab.kube.errors import (
    ConflictError,
    PermanentKubeError,
    RetryableKubeError,
    Target,
    from_status,
    no_answer,
)
from tests.policy.test_pod import RULES

POD_UID = "uid-of-the-pod"


def refusal(code, reason="", message=""):
    return from_status(Target("create", "X"), code, {"reason": reason, "message": message})


def bookkeeping():
    """What quota admission answers when two requests change its count at once."""
    return refusal(409, "Conflict", "Operation cannot be fulfilled on resourcequotas")


def lost():
    return no_answer(Target("create", "Pod"), TimeoutError())


class Api:
    """Says what it is told to, by verb, the last thing for ever. None: the object asked for."""

    def __init__(self, **scripts):
        self.scripts = {verb: list(script) for verb, script in scripts.items()}
        self.asked = []

    def answer(self, verb, told, otherwise=None):
        self.asked.append((verb, told))
        script = self.scripts.get(verb) or [otherwise]
        found = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(found, Exception):
            raise found
        return found

    async def create(self, manifest):
        answer = self.answer("create", manifest["kind"])
        meta = {"uid": POD_UID, **manifest["metadata"]}
        return answer or {**manifest, "metadata": meta}

    async def get(self, kind, name, namespace=None):
        return self.answer("get", name, refusal(404, "NotFound"))

    async def list_page(self, kind, *, namespace, field_selector, page_size):
        return self.answer("list_page", field_selector)

    async def delete(self, kind, name, *, namespace, uid):
        self.answer("delete", uid)


def pod(version=1, *, server_id="id", uid=POD_UID):
    annotations = {constants.ANNOTATION_SERVER_ID: server_id}
    meta = {"namespace": "team-ocean", "name": "server-ada", "uid": uid}
    meta |= {"resourceVersion": str(version), "annotations": annotations}
    return {"metadata": meta, "status": {"phase": "Running"}}


def leaving(uid=""):
    return Leaving("team-ocean", "server-ada", "id", uid)


async def turns():
    """Let everything happen that can without waiting."""
    for _ in range(20):
        await asyncio.sleep(0)


# -- pods that have to go ---------------------------------------------------------------------


async def test_a_pod_that_is_made_after_nobody_found_it_goes_all_the_same():
    api = Api()
    link = ClusterLink(api, hub_id="hub")
    going = link.see_off(leaving())
    await turns()
    assert api.asked == [("get", "server-ada")]
    link.pods.note(pod(server_id="another start's", uid="another"))
    await turns()
    assert not going.done()
    link.pods.note(pod(2))  # the create was carried out in the end
    await turns()
    assert ("delete", POD_UID) in api.asked
    assert ("delete", "another") not in api.asked
    await link.close()


async def test_a_pod_that_was_never_made_is_not_looked_for_for_ever(monkeypatch):
    monkeypatch.setattr(cluster, "_REQUEST_LIFE_S", 0.01)
    api = Api()
    link = ClusterLink(api, hub_id="hub")
    await asyncio.wait_for(link.see_off(leaving()), 5)
    assert not any(verb == "delete" for verb, _ in api.asked)


async def test_a_pod_that_went_with_the_hubs_rights_is_gone(monkeypatch):
    monkeypatch.setattr(cluster, "_LONGEST_PAUSE_S", 0.0)
    api = Api(delete=[refusal(403, "Forbidden")])
    link = ClusterLink(api, hub_id="hub")
    going = link.see_off(leaving(POD_UID))
    await turns()
    assert not going.done()  # the pods are not known yet
    link.pods.note(pod())
    link.pods.synced.set()
    await turns()
    assert not going.done()  # it is still there
    link.pods.note(pod(2, uid="a later one"))
    await asyncio.wait_for(going, 5)


# -- a start ----------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(cluster, "_FIRST_PAUSE_S", 0.0)


def make_start(api):
    spawner = SimpleNamespace(
        user=SimpleNamespace(name="ada"),
        name="",
        api_token="t",
        issuer=SimpleNamespace(mint=lambda claims: "c"),
        storage_access_modes=["ReadWriteOnce"],
        remember=lambda: None,
    )
    return ServerStart(spawner, ClusterLink(api, hub_id="hub-1"), RULES, ProgressLog()), spawner


async def test_the_quotas_bookkeeping_stops_neither_volume_nor_pod_nor_secret(at_once):
    for step in ("_ensure_personal_volume", "_create_pod", "_create_secret"):
        api = Api(create=[bookkeeping(), bookkeeping(), None])
        start, _ = make_start(api)
        manifest = {"kind": "Pod", "metadata": {"name": "server-ada"}}
        arguments = {"_create_pod": [manifest], "_create_secret": [POD_UID]}.get(step, [])
        await getattr(start, step)(*arguments)
        assert [verb for verb, _ in api.asked].count("create") == 3, step


async def test_an_api_server_that_knows_the_namespaces_lines_late_stops_no_start(at_once):
    late = refusal(422, "Invalid", "ValidatingAdmissionPolicy 'x' denied request: every image")
    api = Api(create=[late, late, None])
    start, _ = make_start(api)
    await start._create_pod({"kind": "Pod", "metadata": {"name": "server-ada"}})
    assert [verb for verb, _ in api.asked].count("create") == 3


@pytest.mark.parametrize(
    ("answers", "error", "is_looked_for"),
    [
        ([refusal(403, "Forbidden")], PermanentKubeError, False),
        ([bookkeeping()], ConflictError, False),
        ([lost()], RetryableKubeError, True),
        ([lost(), refusal(403, "Forbidden")], PermanentKubeError, True),
        ([refusal(403, "Forbidden"), lost()], PermanentKubeError, False),
    ],
)
async def test_only_what_may_exist_is_looked_for(
    at_once, monkeypatch, answers, error, is_looked_for
):
    monkeypatch.setattr("jupyterhub_collab.hub.starting._RETRY_S", 0.02)
    start, spawner = make_start(Api(create=answers))

    async def manifest():
        return {"kind": "Pod", "metadata": {"name": "server-ada"}}

    async def nothing():
        return None

    monkeypatch.setattr(start, "_make_manifest", manifest)
    monkeypatch.setattr(start, "_ensure_personal_volume", nothing)
    with pytest.raises(error):
        await start.run()
    assert bool(spawner.server_id) is is_looked_for


async def test_a_start_that_ends_leaves_an_earlier_pod_on_its_way_out():
    start, _ = make_start(Api())
    server = start._server
    earlier = pod(server_id="earlier")
    earlier["metadata"] = {
        **earlier["metadata"],
        "name": server.pod_name,
        "namespace": server.namespace,
        "labels": {
            constants.LABEL_MANAGED_BY: constants.MANAGED_BY,
            constants.LABEL_HUB: "hub-1",
            constants.LABEL_TEAM: RULES.spec.team,
        },
    }
    earlier["metadata"]["annotations"][constants.ANNOTATION_USERNAME] = "ada"
    start._link.client.scripts["get"] = [earlier]
    finding = asyncio.ensure_future(start._find_pod())
    await turns()
    going = start._link.see_off(Leaving(server.namespace, server.pod_name, "", POD_UID))
    finding.cancel()
    await turns()
    assert finding.cancelled()
    assert not going.done()
    await start._link.close()


# -- ends that are told in two steps -----------------------------------------------------------


def ended(version, **status):
    notebook = {"name": "notebook", "ready": False, "state": {"terminated": {"exitCode": 0}}}
    found = pod(version)
    return {**found, "status": {"containerStatuses": [notebook], "phase": "Running", **status}}


async def test_why_a_server_ended_is_waited_for():
    link = ClusterLink(Api(), hub_id="hub")
    link.pods.note(ended(1))
    view = link.pods.get("team-ocean", "server-ada")
    assert view.is_dead
    settling = asyncio.ensure_future(link.pods.settle(view))
    await turns()
    assert not settling.done()
    link.pods.note(ended(2, phase="Failed", reason="Evicted"))
    assert (await settling).status_reason == "Evicted"
    assert await link.pods.settle(view, timeout_s=0) != view  # what is known is taken at once
    link.pods.note(ended(3))
    assert (await link.pods.settle(view, timeout_s=0)).status_reason == ""  # and not for ever
    await link.close()


# -- volumes that cannot be made --------------------------------------------------------------


async def test_a_volume_that_cannot_be_made_is_told_with_the_clusters_reason():
    claim = {"metadata": {"uid": "claim-uid"}, "status": {"phase": "Pending"}}
    said = {"type": "Warning", "message": 'storageclass.storage.k8s.io "fast" not found'}
    normal = {"type": "Normal", "message": "waiting for first consumer"}
    api = Api(get=[claim], list_page=[SimpleNamespace(items=[said, normal])])
    start, _ = make_start(api)
    assert await start._volume_trouble() == (
        'Your personal volume cannot be made: storageclass.storage.k8s.io "fast" not found.'
        " Tell an administrator of this hub."
    )
    assert ("list_page", "involvedObject.uid=claim-uid") in api.asked
    api.scripts["list_page"] = [SimpleNamespace(items=[normal])]
    assert await start._volume_trouble() == ""
    api.scripts["get"] = [{**claim, "status": {"phase": "Bound"}}]
    assert await start._volume_trouble() == ""
    api.scripts["get"] = [lost()]
    assert await start._volume_trouble() == ""
