"""Starts and stops of servers as audit events.

A start is told twice: ``allowed`` before anything is made, with all that the server will see, and
then how it ended. One that mounts protected data goes on only once the first is on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ...auditapi.emitter import NOT_RECORDED
from ...constants import CULLER_MARK
from ...errors import AuditUnavailableError, PermanentError
from ...models import Dataset, Gate
from ...models.audit import PROTECTED_DETAIL, Outcome, Verb
from ...policy.pod import PodRules
from ...policy.spec import check_protected
from ..reflector import PodView
from .origin import Origin, current_origin
from .recorder import RECORDER
from .telling import Happening, record, tell

if TYPE_CHECKING:
    from ..spawner import TeamSpawner

_REFUSED: Final = frozenset(
    {
        "refused",
        "servers-per-member",
        "frozen",
        "quota",
        "limit-range",
        "team-settings",
        "stopped",
        "throttled",
    }
)


async def allow_start(spawner: TeamSpawner, rules: PodRules, server_id: str) -> None:
    """Tell that a server is about to be made.

    Raises
    ------
    AuditUnavailableError
        It would mount protected data, and nobody recorded that. Make nothing.
    PermanentError
        It would, and the platform does not allow that at all.
    """
    protected = protected_in(rules.spec.datasets)
    happening = _start(spawner, rules, server_id, Outcome.ALLOWED, protected=protected)
    if not protected:
        tell(happening)
        return
    problems = check_protected(rules.spec.datasets, rules.platform)
    if problems:
        raise PermanentError(f"This platform mounts no protected data: {', '.join(protected)}")
    try:
        await record(happening)
    except AuditUnavailableError as e:
        if not RECORDER.is_on:
            raise  # its words say that there is no audit service at all
        one = "data set" if len(protected) == 1 else "data sets"
        raise AuditUnavailableError(
            f"Your server would see the protected {one} {', '.join(protected)}, and that could not"
            " be recorded just now. What is protected is never opened unrecorded, so nothing was"
            " started. Try again in a few minutes.",
            retry_after_s=e.retry_after_s,
        ) from e


def protected_in(datasets: Mapping[str, Dataset]) -> tuple[str, ...]:
    """Data sets among these whose owner wants every access recorded."""
    return tuple(sorted(key for key, dataset in datasets.items() if dataset.protected))


def tell_started(spawner: TeamSpawner, rules: PodRules, view: PodView, *, reason: str = "") -> None:
    """A server serves."""
    happening = _start(
        spawner, rules, spawner.server_id, Outcome.SUCCEEDED, reason=reason, image=view.image_id
    )
    tell(happening)


def tell_adopted(spawner: TeamSpawner, view: PodView) -> None:
    """A server that ran already was given back to its member, after the hub lost its database."""
    tell(
        Happening(
            Verb.SERVER_START,
            reason="adopted",
            team=spawner.team,
            contest=spawner.contest,
            thing=view.server_id,
            subject=spawner.user.name,
            details={"image_digest": digest_of(view.image_id), "gate": spawner.gate},
            note=_note(spawner),
        )
    )


def tell_not_started(spawner: TeamSpawner, *, server_id: str, reason: str, because: str) -> None:
    """A start ended otherwise. One that could not be recorded is told by the recorder itself."""
    if reason == NOT_RECORDED:
        return
    outcome = Outcome.REFUSED if reason in _REFUSED else Outcome.FAILED
    rules = spawner.known_rules()
    if rules is None:
        happening = Happening(
            Verb.SERVER_START,
            outcome,
            reason=reason,
            team=spawner.asked_team(),
            subject=spawner.user.name,
            thing=server_id or _place(spawner),
            note=f"{_note(spawner)} {because}".strip(),
        )
    else:
        happening = _start(spawner, rules, server_id, outcome, reason=reason, because=because)
    tell(happening)


def tell_stopped(
    spawner: TeamSpawner, reason: str, *, because: str = "", origin: Origin | None = None
) -> None:
    """A server is stopped, or was seen to have ended. Asked while the spawner knows which."""
    tell(
        Happening(
            Verb.SERVER_STOP,
            reason=reason,
            team=spawner.team,
            contest=spawner.contest,
            thing=spawner.server_id,
            subject=spawner.user.name,
            note=f"{_note(spawner)} {because}".strip(),
        ),
        origin=origin,
    )


def stop_reason(spawner: TeamSpawner) -> str:
    """Why a stop is asked for, as a word."""
    if spawner._waiting_for_response:
        return "no-answer"  # it was started, and JupyterHub gave it up
    origin = current_origin()
    if origin is None:
        return "hub"
    if origin.cause:
        return origin.cause
    asker = origin.asker()
    if asker is None:
        return "hub"
    if asker.kind == "service":
        return "culled" if CULLER_MARK in asker.name else "asked-by-service"
    return "asked" if asker.name == spawner.user.name else "asked-by-other"


def digest_of(image_id: str) -> str | None:
    """Digest of an image, from what Kubernetes or a reference says."""
    _, at, digest = image_id.rpartition("@")
    return digest if at and ":" in digest else image_id if image_id.startswith("sha256:") else None


def _start(
    spawner: TeamSpawner,
    rules: PodRules,
    server_id: str,
    outcome: Outcome,
    *,
    reason: str = "",
    because: str = "",
    image: str = "",
    protected: tuple[str, ...] = (),
) -> Happening:
    spec, choice = rules.spec, rules.choice
    reference = spec.images[choice.image_id].reference
    details: dict[str, Any] = {
        "image": reference,
        "image_digest": digest_of(image) or digest_of(reference),
        "environment": choice.image_id,
        "profile": choice.profile_id,
        "gate": spec.gate.value,
        "team_volume": "read-only" if spec.gate is Gate.FROZEN else "read-write",
        "namespace": f"{rules.platform.namespace_prefix}{spec.team}",
        PROTECTED_DETAIL: protected or None,
    }
    return Happening(
        Verb.SERVER_START,
        outcome,
        reason=reason,
        team=spec.team,
        contest=spec.contest,
        thing=server_id or _place(spawner),
        datasets=tuple(sorted(spec.datasets)),
        details=details,
        subject=spawner.user.name,
        note=f"{_note(spawner)} {because}".strip(),
    )


def _place(spawner: TeamSpawner) -> str:
    return f"spawner-{spawner.orm_spawner.id}"


def _note(spawner: TeamSpawner) -> str:
    return f"server {spawner.name!r}" if spawner.name else ""
