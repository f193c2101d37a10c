"""A quota's refusal as a sentence."""

import pytest

from jupyterhub_collab.policy.quota import RunningServer, missing_limit, quota_refusal

ADA, BOB = RunningServer("ada", ""), RunningServer("bob", "")


def message(requested, used, limited):
    return (
        'pods "server-x" is forbidden: exceeded quota: team, '
        f"requested: {requested}, used: {used}, limited: {limited}"
    )


CPU = message(
    "limits.cpu=2,requests.cpu=2",
    "limits.cpu=7500m,requests.cpu=7500m",
    "limits.cpu=8,requests.cpu=8",
)


def test_the_sentence():
    assert quota_refusal(CPU, team="ocean", servers=[ADA, BOB], reader="carl") == (
        "Team ocean uses 7.5 of its 8 CPUs (two servers, ada's and bob's)."
        " Stop one or ask for a larger tier."
    )


@pytest.mark.parametrize(
    ("text", "servers", "sentence"),
    [
        (
            CPU,
            [ADA, BOB, RunningServer("bob", "second")],
            "Team ocean uses 7.5 of its 8 CPUs (three servers, yours and ada's).",
        ),
        (CPU, [BOB], "Team ocean uses 7.5 of its 8 CPUs (one server, yours)."),
        (CPU, [], "Team ocean uses 7.5 of its 8 CPUs. Ask for a larger tier."),
        (
            message("requests.memory=4Gi", "requests.memory=14Gi", "requests.memory=16Gi"),
            [ADA],
            "Team ocean uses 14 GiB of its 16 GiB of memory (one server, ada's).",
        ),
        (
            message(
                "requests.nvidia.com/gpu=1",
                "requests.nvidia.com/gpu=2",
                "requests.nvidia.com/gpu=2",
            ),
            [ADA],
            "Team ocean uses 2 of its 2 GPUs (one server, ada's).",
        ),
        (message("pods=1", "pods=3", "pods=3"), [ADA], "Team ocean uses 3 of its 3 pods"),
        (
            message("requests.storage=1Gi", "requests.storage=10Gi", "requests.storage=10Gi"),
            [ADA],
            "Team ocean uses 10 GiB of its 10 GiB of storage. Ask for a larger tier.",
        ),
        (
            message(
                "fast.storageclass.storage.k8s.io/requests.storage=1Gi",
                "fast.storageclass.storage.k8s.io/requests.storage=10Gi",
                "fast.storageclass.storage.k8s.io/requests.storage=10Gi",
            ),
            [ADA],
            "Team ocean uses 10 GiB of its 10 GiB of storage.",
        ),
        (
            message("limits.cpu=10", "limits.cpu=0", "limits.cpu=8"),
            [],
            "Team ocean may use 8 CPUs in all, and this would need 10."
            " Choose a smaller profile or ask for a larger tier.",
        ),
        (
            message("limits.cpu=1", "limits.cpu=1", "limits.cpu=1"),
            [ADA],
            "Team ocean uses its one CPU (one server, ada's). Stop one or ask",
        ),
        (
            message("limits.cpu=1", "limits.cpu=250m", "limits.cpu=1"),
            [ADA],
            "Team ocean uses 0.25 of its one CPU (one server, ada's).",
        ),
        (
            message("limits.cpu=2", "limits.cpu=0", "limits.cpu=1"),
            [],
            "Team ocean may use 1 CPU in all, and this would need 2.",
        ),
        (
            message("limits.cpu=1", "limits.cpu=250m", "limits.cpu=500m"),
            [],
            "Team ocean uses 0.25 of its 0.5 CPUs. Ask for a larger tier.",
        ),
        (
            message("requests.nvidia.com/gpu=1", "requests.nvidia.com/gpu=0",
                    "requests.nvidia.com/gpu=0"),
            [],
            "Team ocean may use 0 GPUs in all, and this would need 1.",
        ),
        (message("pods=1", "pods=1", "pods=1"), [ADA], "Team ocean uses its one pod (one server"),
        (
            message("persistentvolumeclaims=1", "persistentvolumeclaims=1",
                    "persistentvolumeclaims=1"),
            [],
            "Team ocean uses its one volume. Ask for a larger tier.",
        ),
        (
            message("requests.memory=1", "requests.memory=1", "requests.memory=1"),
            [],
            "Team ocean uses 1 B of its 1 B of memory.",
        ),
        (
            message("count/secrets=1", "count/secrets=9", "count/secrets=9"),
            [ADA],
            "Team ocean has used up its count/secrets: 9 of 9. Ask for a larger tier.",
        ),
        (
            message("count/secrets=1,limits.cpu=1", "count/secrets=9,limits.cpu=8",
                    "count/secrets=9,limits.cpu=8"),
            [],
            "Team ocean uses 8 of its 8 CPUs.",
        ),
    ],
)  # fmt: skip
def test_sentences(text, servers, sentence):
    found = quota_refusal(text, team="ocean", servers=servers, reader="bob")
    assert found is not None
    assert found.startswith(sentence)


def test_a_crowd_is_not_listed_whole():
    servers = [RunningServer(f"user-{i}", "") for i in range(30)]
    found = quota_refusal(CPU, team="ocean", servers=servers, reader="x")
    assert found is not None
    assert "30 servers" in found
    assert "and 22 others'" in found


@pytest.mark.parametrize(
    "text",
    [
        "",
        'pods "x" is forbidden: violates PodSecurity "restricted:latest"',
        "exceeded quota: team",
        "exceeded quota: team, requested: , used: , limited: ",
        "exceeded quota: team, requested: cpu, used: cpu, limited: cpu",
    ],
)
def test_other_refusals_are_not_ours_to_word(text):
    assert quota_refusal(text, team="ocean", servers=[], reader="x") is None


def test_what_must_be_said():
    text = "failed quota: team: must specify limits.cpu for: sidecar; limits.memory for: sidecar"
    found = missing_limit('pods "x" is forbidden: ' + text)
    assert found == "limits.cpu for: sidecar; limits.memory for: sidecar"
    assert missing_limit("exceeded quota") is None
