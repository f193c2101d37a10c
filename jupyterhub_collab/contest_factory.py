"""Wiring of the contests service: its parts, from addresses and files.

It must not: start anything.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import yaml

from .anchors.email import MailServer
from .anchors.notice_channel import NoticeChannel
from .anchors.notice_email import NoticeEmail
from .anchors.notice_webhook import NoticeWebhook
from .auditapi import Recorder
from .errors import PermanentError
from .hubapi.client import HubClient
from .hubapi.provisioner import ProvisionerClient
from .managers import contest_walk
from .managers.contest_clock import ContestClock
from .managers.contest_outbox import TransitionOutbox
from .managers.contest_projection import Projection
from .managers.contest_registry import ContestRegistry, HubWords
from .managers.contest_steps import StepHandlers
from .managers.contest_telling import ContestTeller
from .managers.contest_worker import ContestWorker
from .managers.team_assembly import TeamAssembly
from .models import notice_channels
from .policy.problems import DocumentError, to_document, to_field
from .policy.webhook_signature import SECRET_BYTES_MIN
from .storage.contests import ContestStore

_KEY_BYTES: Final = 32


def read_invitation_key(path: Path) -> bytes:
    """What signs invitations; made where there is none. Two processes may make it at once.

    Raises
    ------
    PermanentError
        It cannot be read or made, or is none.
    """
    try:
        new = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        if not path.exists():
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(_KEY_BYTES))
            with suppress(FileExistsError):
                os.link(new, path)
            new.unlink()
        found = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as e:
        said = e.strerror if isinstance(e, OSError) else "it is no key"
        raise PermanentError(f"The key of invitations {path} cannot be used: {said}.") from e
    if len(found) != _KEY_BYTES:
        raise PermanentError(
            f"The key of invitations {path} is none. Delete it, and another is made; invitations"
            " that are out go on to count."
        )
    return found


@dataclass(frozen=True)
class Contests:
    """All that keeps contests. One process at a time runs `projection`, `worker`, `clock` and
    `outbox`."""

    store: ContestStore
    registry: ContestRegistry
    assembly: TeamAssembly
    projection: Projection
    worker: ContestWorker
    clock: ContestClock
    outbox: TransitionOutbox


def make_contests(
    store: ContestStore,
    hub: HubClient,
    provisioner: ProvisionerClient,
    *,
    recorder: Recorder,
    invitation_key: bytes,
    now: Callable[[], datetime],
    more_steps: StepHandlers | None = None,
    term: Callable[[], int] | None = None,
) -> Contests:
    """The parts, joined.

    Parameters
    ----------
    term
        In which term of the lease those work that one process at a time runs; None: there is none.
    more_steps
        What does those steps that are not the worker's own.
    """
    fenced = store if term is None else store.fenced(term)
    outbox = TransitionOutbox(fenced, recorder)
    projection = Projection(fenced, hub, provisioner, clock=time.monotonic)
    handlers = {**contest_walk.HANDLERS, **(more_steps or {})}
    worker = ContestWorker(
        fenced,
        hub,
        provisioner,
        projection,
        handlers,
        recorder=recorder,
        now=now,
        on_transition=outbox.wake,
    )

    def wake() -> None:
        projection.wake()
        worker.wake()
        outbox.wake()

    teller = ContestTeller(recorder, now)
    words = HubWords(hub.read_decider, hub.read_group, hub.list_groups)
    registry = ContestRegistry(store, hub=words, teller=teller, now=now, wake=wake)
    assembly = TeamAssembly(
        store,
        key=invitation_key,
        teller=teller,
        admit=registry.admit,
        is_free=words.is_free,
        now=now,
        wake=wake,
    )
    clock = ContestClock(store, registry, now=now)
    return Contests(store, registry, assembly, projection, worker, clock, outbox)


def make_notice_channels(path: Path) -> list[NoticeChannel]:
    """Ways on which notices leave the hub, as a file says (JSON or YAML).

    Raises
    ------
    PermanentError
        It cannot be read or is not what it should be; or a secret that it names cannot be read.
    """
    try:
        said = yaml.safe_load(path.read_text("utf-8"))
        found = to_document(notice_channels.NoticesFile, said).channels
    except (OSError, ValueError, yaml.YAMLError) as e:
        problems = e.problems if isinstance(e, DocumentError) else ()
        why = "; ".join(
            f"{to_field(p.path)}: found {p.found}, expected {p.expected}" for p in problems
        ) or " ".join(str(e).split())
        raise PermanentError(f"The file of notices {path} cannot be used: {why}") from e
    names = [channel.name for channel in found]
    if len(set(names)) != len(names):
        raise PermanentError(f"The file of notices {path}: each way needs a name of its own.")
    return [_make_channel(channel) for channel in found]


def _make_channel(
    said: notice_channels.WebhookChannel | notice_channels.EmailChannel,
) -> NoticeChannel:
    if isinstance(said, notice_channels.WebhookChannel):
        secret = _read_secret(said.secret_file, said.name).encode()
        if len(secret) < SECRET_BYTES_MIN:
            raise PermanentError(
                f"The secret of {said.name} is shorter than {SECRET_BYTES_MIN} bytes. Make a longer"
                " one."
            )
        return NoticeWebhook(said.name, said.url, secret)
    password = _read_secret(said.password_file, said.name) if said.password_file else ""
    server = MailServer(said.host, said.port, said.user, password, said.tls, said.ca_file)
    return NoticeEmail(said.name, server, sender=said.sender)


def _read_secret(path: str, name: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError) as e:
        said = e.strerror if isinstance(e, OSError) else "it is no text"
        raise PermanentError(f"The secret of {name}, {path}, cannot be read: {said}") from e
