"""Failures as sentences: what the Kubernetes API answers, in words for the person who waits.

Everything that stops a start becomes a `SpawnRefusedError`. JupyterHub shows its text, and does not
count it toward `consecutive_failure_limit`: whatever somebody sends or stores in their home, the
hub goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

from jupyterhub.spawner import SpawnException

from ..auditapi.emitter import NOT_RECORDED
from ..errors import (
    AuditUnavailableError,
    CollabError,
    KubeError,
    NotOursError,
    SpecError,
    UserError,
)
from ..kube.errors import is_policy_refusal
from ..policy.pod import PodRefusedError
from ..policy.quota import RunningServer, missing_limit, quota_refusal

ADMIN = "Tell an administrator of this hub."


class SpawnRefusedError(SpawnException):  # type: ignore[misc]
    """A start ends here. The message is for the person who asked.

    Parameters
    ----------
    reason
        Short label for metrics.
    detail
        For the log besides the message; never a secret.
    """

    def __init__(
        self, message: str, *, reason: str, status_code: int = 400, detail: str = ""
    ) -> None:
        log_message = f"{message} ({detail})" if detail else message
        super().__init__(message, reason=reason, log_message=log_message, status_code=status_code)
        # JupyterHub's pages show this instead of the exception's own text.
        self.jupyterhub_message = message
        self.headers: dict[str, str] = {}  # of the answer, such as Retry-After


def to_refusal(
    error: Exception, *, team: str = "", servers: Sequence[RunningServer] = (), reader: str = ""
) -> SpawnRefusedError:
    """Any failure of a start as a refusal.

    Parameters
    ----------
    team, servers, reader
        For sentences about quota: whose servers run in the team, and who will read it.
    """
    if isinstance(error, SpawnRefusedError):
        return error
    if isinstance(error, SpawnException):
        refusal = SpawnRefusedError(
            error.message, reason=error.reason, status_code=error.status_code
        )
        refusal.message_html = error.message_html
        return refusal
    if isinstance(error, AuditUnavailableError):
        return SpawnRefusedError(str(error), reason=NOT_RECORDED, status_code=503)
    if isinstance(error, SpecError):
        return SpawnRefusedError(
            f"The settings of team {team} are not valid, so nothing can start in it. The host of"
            " the contest can put it right.",
            reason="team-settings",
            status_code=409,
            detail=str(error),
        )
    if isinstance(error, UserError):
        return SpawnRefusedError(str(error), reason="refused")
    if isinstance(error, PodRefusedError):
        return SpawnRefusedError(
            f"The hub's own settings ask for something that no server may have: {error}. {ADMIN}",
            reason="hub-settings",
            status_code=500,
        )
    if isinstance(error, NotOursError):
        return SpawnRefusedError(f"{error} {ADMIN}", reason="not-ours", status_code=409)
    if isinstance(error, KubeError):
        return _from_kube(error, team=team, servers=servers, reader=reader)
    if isinstance(error, TimeoutError):
        return SpawnRefusedError(
            "Your server did not start in time. Try again in a few minutes.",
            reason="timeout",
            status_code=504,
            detail=str(error),
        )
    known = isinstance(error, CollabError)
    return SpawnRefusedError(
        f"Your server could not be started, and it is not your fault. {ADMIN}",
        reason="internal",
        status_code=500,
        detail=str(error) if known else f"{type(error).__name__}: {error}",
    )


def _from_kube(
    error: KubeError, *, team: str, servers: Sequence[RunningServer], reader: str
) -> SpawnRefusedError:
    detail = str(error)
    if error.status == 0 or error.status >= 500 or error.status == 429:
        return SpawnRefusedError(
            "The cluster does not answer at the moment. Nothing is lost; try again in a few"
            " minutes.",
            reason="cluster-away",
            status_code=503,
            detail=detail,
        )
    text = error.message
    sentence = quota_refusal(text, team=team, servers=servers, reader=reader)
    if sentence is not None:
        return SpawnRefusedError(sentence, reason="quota", detail=detail)
    missing = missing_limit(text)
    if missing is not None:
        return SpawnRefusedError(
            f"Team {team}'s quota asks every container to say {missing}, and one that the hub's"
            f" settings add does not. {ADMIN}",
            reason="hub-settings",
            status_code=500,
            detail=detail,
        )
    if "violates PodSecurity" in text:
        return SpawnRefusedError(
            f"The cluster's security rules refused your server. {ADMIN}",
            reason="pod-security",
            status_code=500,
            detail=detail,
        )
    if is_policy_refusal(error):
        reason = text.rpartition("denied request: ")[2].rstrip(".")
        return SpawnRefusedError(
            f"The cluster's rules refused your server: {reason}. {ADMIN}",
            reason="cluster-policy",
            status_code=500,
            detail=detail,
        )
    if error.status == 403 and ("maximum " in text or "minimum " in text):
        return SpawnRefusedError(
            f"The profile lies outside the limits of team {team}. Choose another one.",
            reason="limit-range",
            detail=detail,
        )
    return SpawnRefusedError(
        f"The cluster refused your server: {error.reason or error.status}. {ADMIN}",
        reason="cluster-refused",
        status_code=502,
        detail=detail,
    )
