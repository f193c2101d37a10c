"""The audit service as a Deployment, a Service and a volume in the hub's namespace.

It has no right in the cluster, and no token for it. Its key, who may tell it what, and where its
checkpoints go stand in a Secret that an administrator makes; each emitter's token in one of its
own, so that no program holds another's.
"""

from __future__ import annotations

from typing import Any, Final

from ..constants import AUDIT_PORT, AUDIT_SECRET, AUDIT_SERVICE
from ..models import Platform
from .home_policies import AUDIT
from .home_program import (
    Attachments,
    HomeProgram,
    from_secret,
    make_home_claim,
    make_home_deployment,
    make_home_service,
    make_state,
    to_environment,
)
from .manifest import Manifest

PREFIX: Final = "/services/audit/"
_STATE: Final = "/var/lib/collab-audit"
_CONFIG: Final = "/etc/collab-audit"
_TOKEN_FOLDER: Final = "/etc/collab-audit-token"  # noqa: S105 - a folder
_SPOOL: Final = "/var/spool/collab-audit"
_VOLUME_SIZE: Final = "10Gi"  # of SQLite: ten million events


def make_audit(
    platform: Platform, *, image: str, public_url: str, hub_secret: str
) -> tuple[Manifest, ...]:
    """Volume, Service and Deployment. Parameters as of `make_home_deployment`."""
    config = Attachments(
        environment=[
            # PostgreSQL in place of SQLite on the volume.
            from_secret("COLLAB_AUDIT_DATABASE_URL", AUDIT_SECRET, "database-url", is_optional=True)
        ],
        mounts=[{"name": "config", "mountPath": _CONFIG, "readOnly": True}],
        volumes=[
            {"name": "config", "secret": {"secretName": AUDIT_SECRET, "defaultMode": 0o440}},
        ],
    )
    program = HomeProgram(
        name=AUDIT,
        service=AUDIT_SERVICE,
        port=AUDIT_PORT,
        account=platform.audit_service_account,
        settings={
            "COLLAB_AUDIT_ANCHORS_FILE": f"{_CONFIG}/anchors.json",
            "COLLAB_AUDIT_EMITTERS_FILE": f"{_CONFIG}/emitters.json",
            "COLLAB_AUDIT_KEY_FILE": f"{_CONFIG}/log.key",
            "COLLAB_AUDIT_STATE": _STATE,
        },
        attachments=[make_state(AUDIT_SERVICE, _STATE), config],
    )
    return (
        make_home_claim(AUDIT_SERVICE, program, platform, size=_VOLUME_SIZE),
        make_home_service(program, platform),
        make_home_deployment(
            program, platform, image=image, public_url=public_url, hub_secret=hub_secret
        ),
    )


def make_emitter_parts(name: str, *, spool: str = "") -> Attachments:
    """Environment, mounts and volumes of a program that tells the log what it does.

    Parameters
    ----------
    spool
        Folder on a volume of the program's own. Empty: one that outlives the program, not the pod;
        numbers that are lost with it show in the log.
    """
    environment = {
        "COLLAB_AUDIT_URL": f"http://{AUDIT_SERVICE}:{AUDIT_PORT}{PREFIX}",
        "COLLAB_AUDIT_TOKEN_FILE": f"{_TOKEN_FOLDER}/token",
        "COLLAB_AUDIT_SPOOL": spool or f"{_SPOOL}/{name}",
    }
    mounts: list[dict[str, Any]] = [
        {"name": "audit-token", "mountPath": _TOKEN_FOLDER, "readOnly": True}
    ]
    volumes: list[dict[str, Any]] = [
        {
            "name": "audit-token",
            "secret": {"secretName": f"{AUDIT_SECRET}-{name}", "defaultMode": 0o440},
        }
    ]
    if not spool:
        mounts.append({"name": "audit-spool", "mountPath": _SPOOL})
        volumes.append({"name": "audit-spool", "emptyDir": {"sizeLimit": "1Gi"}})
    return Attachments(to_environment(environment), mounts, volumes)
