"""The audit service of a run: its key, who may tell it what, where its checkpoints go.

What: writes the files that the service reads, and makes its program.
It must not: make another key beside a log that was begun with the old one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from ...errors import UserError
from ...hub.demo_settings import DemoSettings
from ...policy.audit_emitters import DEFAULT_VERBS, Emitter, Emitters, hash_token
from ...policy.checkpoint import LogSigner
from .data_folder import DataFolder, write_file
from .probes import http_probe
from .program import Program
from .service_environment import service_environment

LOG_NAME = "hub.localhost/audit"
_KEY = "audit-log.key"
_PUBLIC_KEY = "audit-log.pub"
_EMITTERS = "audit-emitters.json"
_ANCHORS = "audit-anchors.json"


def put_audit(folder: DataFolder) -> None:
    """Write what the service reads. Raises UserError if a log is there and its key is not."""
    key = folder.secret(_KEY)
    if not key.exists():
        if (folder.audit / "audit.sqlite").exists():
            raise UserError(
                f"The audit log's key {key} is gone and the log in {folder.audit} is there; restore"
                " the key from a backup, or move the log away to begin another."
            )
        signer = LogSigner.generate(LOG_NAME)
        write_file(key, signer.to_text() + "\n")
        write_file(folder.root / _PUBLIC_KEY, signer.verifier.to_text() + "\n")
    emitters = Emitters(
        tuple(
            Emitter(
                name=name, token_sha256=hash_token(folder.read_token(f"audit-{name}")), verbs=verbs
            )
            for name, verbs in DEFAULT_VERBS.items()
        )
    )
    write_file(folder.root / "run" / _EMITTERS, emitters.to_text())
    anchors = [{"kind": "file", "name": "folder", "folder": str(folder.audit_anchor)}]
    write_file(folder.root / "run" / _ANCHORS, json.dumps({"anchors": anchors}, indent=1) + "\n")


def make_audit_program(folder: DataFolder, settings: DemoSettings) -> Program:
    """The service."""
    return Program(
        name="audit",
        title="Audit service",
        command=(sys.executable, "-m", "jupyterhub_collab.services.audit"),
        env={
            "COLLAB_AUDIT_STATE": str(folder.audit),
            "COLLAB_AUDIT_KEY_FILE": str(folder.secret(_KEY)),
            "COLLAB_AUDIT_EMITTERS_FILE": str(folder.root / "run" / _EMITTERS),
            "COLLAB_AUDIT_ANCHORS_FILE": str(folder.root / "run" / _ANCHORS),
            **service_environment(
                folder, settings, "audit", port=settings.audit_port, page=settings.audit_page
            ),
        },
        is_ready=http_probe(f"{settings.audit_url}health"),
        cwd=folder.audit,
        is_beside=True,
    )


def audit_environment(folder: DataFolder, settings: DemoSettings, name: str) -> Mapping[str, str]:
    """What an emitter is told: where the service is, its token, its spool."""
    return {
        "COLLAB_AUDIT_URL": settings.audit_url,
        "COLLAB_AUDIT_TOKEN_FILE": str(folder.secret(f"audit-{name}-token")),
        "COLLAB_AUDIT_SPOOL": str(folder.audit_spool(name)),
    }
