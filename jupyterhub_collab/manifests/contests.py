"""The contests service as a Deployment, a Service and volumes in the hub's namespace.

It has no right in the cluster, and no token for it: it asks the hub and the provisioner. The
registry lies on a volume of its own, or in PostgreSQL; copies of teams' volumes on another one, so
that a copy that is too large leaves the registry room to write. A Secret that an administrator may
make gives it any further setting: address and password of a database, of an object store, of mail.

Archive Jobs know it by an address that is chosen, as servers know the hub's.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from ..constants import (
    ANNOTATION_OBJECT_HASH,
    ARCHIVES_CLAIM,
    CONTESTS_PORT,
    CONTESTS_SECRET,
    CONTESTS_SERVICE,
    PROVISIONER_PORT,
    PROVISIONER_SERVICE,
)
from ..errors import UserError
from ..models import Platform
from ..models.platform import Endpoint, PodPeer
from ..units import from_bytes
from .archive_job import can_archive
from .audit import make_emitter_parts
from .home import platform_hash
from .home_policies import CONTESTS, PROVISIONER, home_labels
from .home_program import (
    Attachments,
    HomeProgram,
    make_home_claim,
    make_home_deployment,
    make_home_service,
    make_platform_settings,
    make_state,
)
from .manifest import Manifest

_STATE: Final = "/var/lib/collab-contests"
_ARCHIVES: Final = "/var/lib/collab-archives"
_INCOMING: Final = f"{_STATE}/archives-incoming"
# The Secret once more as files, such as that of webhooks and mail servers.
_FILES: Final = Attachments(
    mounts=[{"name": "files", "mountPath": "/etc/collab-contests", "readOnly": True}],
    volumes=[
        {
            "name": "files",
            "secret": {"secretName": CONTESTS_SECRET, "defaultMode": 0o440, "optional": True},
        }
    ],
)
_STATE_SIZE: Final = "10Gi"  # of SQLite: 5,000 teams take less than 0.1; audit events on their way


def make_contests(
    platform: Platform, *, image: str, public_url: str, hub_secret: str
) -> tuple[Manifest, ...]:
    """Volumes, Service and Deployment. Parameters as of `make_home_deployment`.

    Raises
    ------
    UserError
        The platform's settings say that the contests service is something else.
    """
    endpoint = platform.contests
    if endpoint is not None:
        _check(endpoint, platform)
    settings, platform_file = make_platform_settings()
    settings |= {
        "COLLAB_CONTESTS_STATE": _STATE,
        "COLLAB_CONTESTS_ORIGIN": f"{urlsplit(public_url).netloc}/{CONTESTS}",
        "COLLAB_PROVISIONER_URL": (
            f"http://{PROVISIONER_SERVICE}:{PROVISIONER_PORT}/services/{PROVISIONER}/"
        ),
    }
    # Its volume outlives the pod, and with it what the audit service has not been told yet.
    emitter = make_emitter_parts(CONTESTS, spool=f"{_STATE}/audit-spool")
    attachments = [make_state(CONTESTS_SERVICE, _STATE), platform_file, emitter, _FILES]
    if can_archive(platform):
        # What goes to an object store is received here first, apart from the registry as well.
        folder = _INCOMING if platform.archive_place else _ARCHIVES
        settings["COLLAB_CONTESTS_ARCHIVES"] = platform.archive_place or f"file://{_ARCHIVES}"
        attachments.append(make_state(ARCHIVES_CLAIM, folder, name="archives"))
    program = HomeProgram(
        name=CONTESTS,
        service=CONTESTS_SERVICE,
        port=CONTESTS_PORT,
        account=platform.contests_service_account,
        settings=settings,
        attachments=attachments,
        optional_secret=CONTESTS_SECRET,
        # Settings are read once: others make other pods.
        annotations={ANNOTATION_OBJECT_HASH: platform_hash(platform)},
        live="live",
    )
    claims = [make_home_claim(CONTESTS_SERVICE, program, platform, size=_STATE_SIZE)]
    if can_archive(platform):
        size = from_bytes(platform.archive_storage_bytes)
        claims.append(make_home_claim(ARCHIVES_CLAIM, program, platform, size=size))
    return (
        *claims,
        make_home_service(
            program,
            platform,
            address=endpoint.address if endpoint else "",
            port=endpoint.port if endpoint else None,
        ),
        make_home_deployment(
            program, platform, image=image, public_url=public_url, hub_secret=hub_secret
        ),
    )


def _check(endpoint: Endpoint, platform: Platform) -> None:
    """Whether the settings name the very pod that is made here. Raises UserError."""
    peer, labels = endpoint.peer, home_labels(CONTESTS, platform)
    if not (
        isinstance(peer, PodPeer)
        and peer.namespace == platform.hub_namespace
        and peer.pod_labels.items() <= labels.items()
    ):
        raise UserError(
            "The platform's contests.peer is not the contests service that is installed here: it"
            f" is a pod of namespace {platform.hub_namespace} with the labels"
            f" {', '.join(f'{key}: {value}' for key, value in labels.items())}. Name it by"
            " namespace and podLabels, by any of these labels."
        )
    if (endpoint.target_port or endpoint.port) != CONTESTS_PORT:
        raise UserError(
            "The platform's contests.targetPort (port unless said) must be"
            f" {CONTESTS_PORT}, where the contests service listens in its pod."
        )
