"""Why a server cannot start or has ended, in words: from what real clusters say of pods."""

import pytest

from jupyterhub_collab.hub.endings import (
    is_hopeless,
    is_stuck,
    to_end,
    to_end_reason,
    to_last_words,
    to_stuck,
)
from jupyterhub_collab.hub.progress import ProgressLog
from jupyterhub_collab.hub.reflector import PodEvent, PodView, to_view, trim_pod

FILES = "Your files are in place. Start it again."


def view(**more):
    fields = {
        "namespace": "team-ocean",
        "name": "server-ada",
        "uid": "u",
        "username": "ada",
        "server_name": "",
        "server_id": "s",
        "phase": "Pending",
        "ip": "",
        "is_ready": False,
        "is_terminating": False,
    }
    return PodView(**{**fields, **more})


@pytest.mark.parametrize(
    ("reason", "message", "hopeless", "said"),
    [
        ("InvalidImageName", "couldn't parse", True, "its image has no valid name"),
        ("ErrImageNeverPull", "", True, "its image is not on the machine, and none is fetched"),
        (
            "ErrImagePull",
            'failed to resolve reference "r.example.org/x:1": r.example.org/x:1: not found',
            True,
            "the registry has no such image",
        ),
        (
            "ImagePullBackOff",
            'Back-off pulling image "x": ErrImagePull: pull access denied, repository does not'
            " exist or may require authorization: insufficient_scope: authorization failed",
            True,
            "the registry does not give its image to this cluster",
        ),
        (
            "ErrImagePull",
            'Head "https://r.example.org/v2/x/manifests/1": dial tcp: lookup r.example.org on'
            " 10.96.0.10:53: server misbehaving",
            False,
            "the registry of its image does not answer as it should",
        ),
    ],
)
def test_an_image_that_is_not_there(reason, message, hopeless, said):
    stuck = view(waiting=reason, waiting_message=message)
    assert is_stuck(stuck)
    assert is_hopeless(stuck) is hopeless
    assert to_stuck(stuck, image_id="basic", reference="r.example.org/x:1") == (
        f"The environment basic cannot be fetched: {said} (r.example.org/x:1). Choose another one,"
        " and tell the host of the contest."
    )


_PULL = 'failed to pull and unpack image "r.example.org/x:{tag}": failed to resolve reference '
_PULL += '"r.example.org/x:{tag}": '


@pytest.mark.parametrize("tag", ["401", "403", "404", "unauthorized", "forbidden-404"])
@pytest.mark.parametrize(
    "trouble",
    [
        'failed to do request: Head "https://r.example.org/v2/x/manifests/{tag}": dial tcp'
        " 192.0.2.1:443: i/o timeout",
        "failed to do request: dial tcp 192.0.2.1:404: connect: connection refused",
        "unexpected status from HEAD request to https://r.example.org/v2/x/manifests/{tag}: 503"
        " Service Unavailable",
        "reading manifest in docker.io/library/{tag}:{tag}: EOF",
    ],
)
def test_a_name_is_no_answer_of_the_registry(tag, trouble):
    """A registry that cannot be reached for a moment ends no start by what images are called."""
    said = (_PULL + trouble).replace("{tag}", tag)
    stuck = view(waiting="ErrImagePull", waiting_message=said)
    assert not is_hopeless(stuck)
    told = to_stuck(stuck, image_id="basic", reference="x")
    assert "does not answer as it should" in told


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (
            "unexpected status from HEAD request to https://r.example.org/v2/x/manifests/1: 403"
            " Forbidden",
            "does not give its image",
        ),
        (
            "pulling from host r.example.org failed with status code [manifests 1]: 401"
            " Unauthorized",
            "does not give its image",
        ),
        ("failed with status code [manifests 403]", "does not give its image"),
        ("received unexpected HTTP status: 404", "has no such image"),
        ("reading manifest 1 in r.example.org/x: manifest unknown", "has no such image"),
        ("r.example.org/x:1: not found", "has no such image"),
        ('error response: "unauthorized: authentication required"', "does not give its image"),
    ],
)
def test_an_answer_of_the_registry_is_final(trouble, said):
    stuck = view(waiting="ErrImagePull", waiting_message=_PULL.replace("{tag}", "1") + trouble)
    assert is_hopeless(stuck)
    assert said in to_stuck(stuck, image_id="basic", reference="x")


def test_a_container_that_cannot_be_made():
    stuck = view(waiting="CreateContainerConfigError", waiting_message='secret "x" not found')
    assert not is_hopeless(stuck)  # it may come yet
    said = to_stuck(stuck, image_id="basic", reference="x")
    assert said == 'Your server could not be made: secret "x" not found.'


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (None, f"Your server was removed from the cluster. {FILES}"),
        (
            view(exit_code=137, exit_reason="OOMKilled", phase="Failed"),
            "Your server used more memory than its profile has, and was stopped. Choose a larger"
            " profile.",
        ),
        (
            view(
                status_reason="Evicted",
                status_message="The node was low on resource: memory. Threshold quantity: 100Mi,"
                " available: 40Mi. ",
            ),
            f"The machine ran out of memory and gave your server up. {FILES}",
        ),
        (
            view(
                status_reason="Evicted",
                status_message="Pod ephemeral local storage usage exceeds the total limit of"
                " containers 1Gi. ",
            ),
            "Your server wrote more outside your home and your team's folder than it may, to /tmp"
            " for instance, and was stopped. Files there are lost; all others are in place.",
        ),
        (
            view(status_reason="Evicted", status_message="The node had condition: [PIDPressure]."),
            "The machine gave your server up: The node had condition: [PIDPressure].",
        ),
        (
            view(disruption="EvictionByEvictionAPI", is_terminating=True),
            f"The machine that your server ran on was taken out of service. {FILES}",
        ),
        (
            view(disruption="DeletionByTaintManager", is_terminating=True),
            f"The machine that your server ran on stopped answering. {FILES}",
        ),
        (
            view(exit_code=137, exit_reason="ContainerStatusUnknown", phase="Failed"),
            f"The machine that your server ran on was restarted. {FILES}",
        ),
        (
            view(status_reason="OutOfcpu", status_message="Pod was rejected: not enough cpu."),
            f"The cluster gave your server up: Pod was rejected: not enough cpu. {FILES}",
        ),
        (view(is_terminating=True), f"Your server was removed from the cluster. {FILES}"),
        (view(exit_code=3, exit_reason="Error"), "Your server ended with exit code 3."),
        (view(exit_code=0, exit_reason="Completed"), ""),
    ],
)
def test_the_end_of_a_server(last, said):
    assert to_end(last) == said


def test_an_end_while_it_started():
    said = to_last_words(view(exit_code=1, exit_reason="Error"))
    assert said.startswith("Your server ended with exit code 1 while it started. Something in")
    assert "more memory" in to_last_words(view(exit_code=137, exit_reason="OOMKilled"))


def test_who_ends_a_pod_is_seen_on_it():
    pod = {
        "metadata": {"namespace": "n", "name": "p", "uid": "u"},
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "Ready", "status": "True"},
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting",
                },
            ],
        },
    }
    assert to_view(trim_pod(pod)).disruption == "EvictionByEvictionAPI"
    pod["status"]["conditions"][1]["status"] = "False"
    assert to_view(trim_pod(pod)).disruption == ""


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("0/3 nodes are available: 3 Insufficient cpu.", "No machine has room"),
        (
            "0/3 nodes are available: 1 Insufficient memory, 2 node(s) were unschedulable.",
            "No machine has room",
        ),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", "are being worked on"),
        (
            "0/2 nodes are available: 2 node(s) had untolerated taint"
            " {node.kubernetes.io/not-ready: }.",
            "are not well",
        ),
        (
            "0/2 nodes are available: 2 node(s) had untolerated taint {dedicated: gpu}.",
            "No machine takes servers of your team",
        ),
        (
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "A volume is still being made.",
        ),
    ],
)
async def test_why_no_machine_takes_it(message, said):
    log = ProgressLog()
    log.tell(PodEvent("e", "Warning", "FailedScheduling", message, "now"))
    log.close()
    told = [entry["message"] async for entry in log.follow()]
    assert len(told) == 1
    assert said in told[0]
    assert (message in told[0]) is ("volume" not in said)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (None, "removed"),
        ({"status_reason": "Evicted", "phase": "Failed"}, "evicted"),
        ({"exit_code": 137, "exit_reason": "OOMKilled"}, "out-of-memory"),
        ({"disruption": "PreemptionByScheduler", "exit_code": 143}, "disrupted"),
        ({"status_reason": "NodeLost"}, "node-lost"),
        ({"status_reason": "DeadlineExceeded"}, "given-up"),
        ({"exit_code": 0}, "ended"),
        ({"exit_code": 1}, "failed"),
        ({"is_terminating": True}, "removed"),
    ],
)
def test_an_end_is_a_word_for_the_audit_log(more, word):
    assert to_end_reason(None if more is None else view(**more)) == word
