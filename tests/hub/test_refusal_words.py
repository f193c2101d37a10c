"""Each failure of a start as a refusal: words, status, and nothing secret or counted."""

import pytest
from jupyterhub.spawner import SpawnException

from jupyterhub_collab.errors import NotOursError, Problem, SpecError, UserError
from jupyterhub_collab.hub.readiness import ProvisionerLink, to_trouble
from jupyterhub_collab.hub.refusals import SpawnRefusedError, to_refusal
from jupyterhub_collab.kube.errors import Target, from_status, no_answer
from jupyterhub_collab.policy.pod import PodRefusedError
from jupyterhub_collab.policy.quota import RunningServer

POD = Target("create", "Pod", "team-ocean", "server-x")


def kube(code, message, reason="Forbidden"):
    return from_status(POD, code, {"reason": reason, "message": message})


@pytest.mark.parametrize(
    ("error", "status", "reason", "words"),
    [
        (UserError("No."), 400, "refused", "No."),
        (
            SpecError([Problem("tier", '"x"', "one of: small")]),
            409,
            "team-settings",
            "The settings of team ocean are not valid",
        ),
        (NotOursError("It is theirs."), 409, "not-ours", "It is theirs. Tell an administrator"),
        (PodRefusedError(["spec.hostPID is set"]), 500, "hub-settings", "spec.hostPID is set"),
        (no_answer(POD, OSError("refused")), 503, "cluster-away", "does not answer at the moment"),
        (kube(503, "busy", "ServiceUnavailable"), 503, "cluster-away", "does not answer"),
        (kube(429, "slow down", "TooManyRequests"), 503, "cluster-away", "does not answer"),
        (
            kube(
                403,
                "exceeded quota: team, requested: limits.cpu=1, used: limits.cpu=8,"
                " limited: limits.cpu=8",
            ),
            400,
            "quota",
            "Team ocean uses 8 of its 8 CPUs (one server, yours). Stop one",
        ),
        (
            kube(403, "failed quota: team: must specify limits.cpu for: sidecar"),
            500,
            "hub-settings",
            "limits.cpu for: sidecar",
        ),
        (kube(403, 'violates PodSecurity "restricted"'), 500, "pod-security", "security rules"),
        (
            kube(
                422,
                "pods 'x' is invalid: : ValidatingAdmissionPolicy 'jupyterhub-collab-pods.hub'"
                " with binding 'x' denied request: every image must be one that the team may use",
                "Invalid",
            ),
            500,
            "cluster-policy",
            "refused your server: every image must be one that the team may use. Tell an",
        ),
        (
            kube(403, "maximum cpu usage per Container is 4, but limit is 8"),
            400,
            "limit-range",
            "outside the limits of team ocean",
        ),
        (kube(403, "User x cannot create pods"), 502, "cluster-refused", "Forbidden"),
        (kube(422, "spec: invalid", "Invalid"), 502, "cluster-refused", "Invalid"),
        (TimeoutError("pod x"), 504, "timeout", "did not start in time"),
        (KeyError("internals"), 500, "internal", "it is not your fault"),
        (
            SpawnException("Sold out.", reason="capacity", status_code=429),
            429,
            "capacity",
            "Sold out.",
        ),
        (SpawnRefusedError("Mine.", reason="own", status_code=418), 418, "own", "Mine."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_refusals(error, status, reason, words):
    found = to_refusal(
        error, team="ocean", servers=[RunningServer("ada", "")], reader="ada"
    )  # fmt: skip
    assert isinstance(found, SpawnException)  # so it does not count
    assert (found.status_code, found.reason) == (status, reason)
    assert words in found.message
    # What JupyterHub's pages show is the sentence itself.
    assert found.jupyterhub_message == found.message
    assert "internals" not in found.message


@pytest.mark.parametrize(
    ("state", "trouble"),
    [
        ({}, ""),
        ({"conditions": None}, ""),
        ({"conditions": ["x", {"type": "Ready", "status": "True", "message": "fine"}]}, ""),
        (
            {"conditions": [{"type": "Ready", "status": "False", "message": "One.\nTwo.\nOne."}]},
            "One; Two",
        ),
        (
            {"conditions": [{"type": "Retained", "status": "True", "message": "kept"}]},
            "",
        ),
        ({"conditions": [], "lastError": "The API is away."}, "The API is away"),
    ],
)
def test_trouble_of_a_team(state, trouble):
    assert to_trouble(state) == trouble


def test_a_token_is_never_shown():
    assert "secret" not in repr(ProvisionerLink("http://p/", "secret"))
