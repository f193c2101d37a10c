"""The audit service as a Deployment, a Service and a volume in the hub's namespace.

It has no right in the cluster, and no token for it. Its key, who may tell it what, and where its
checkpoints go stand in a Secret that an administrator makes; each emitter's token in one of its
own, so that no program holds another's.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from ..constants import (
    AUDIT_PORT,
    AUDIT_SECRET,
    AUDIT_SERVICE,
    HOME_PRIORITY_CLASS,
    HUB_SERVICE,
)
from ..models import Platform
from .home import make_home_object
from .home_policies import AUDIT, audit_labels
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
    """Volume, Service and Deployment. Parameters as of `make_provisioner`."""
    labels = audit_labels(platform)
    claim = {
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": _VOLUME_SIZE}},
            **({"storageClassName": platform.storage_class} if platform.storage_class else {}),
        }
    }
    port = {"name": "http", "protocol": "TCP", "port": AUDIT_PORT, "targetPort": "http"}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "serviceAccountName": platform.audit_service_account,
            "automountServiceAccountToken": False,
            "priorityClassName": HOME_PRIORITY_CLASS,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "runAsGroup": 1000,
                "fsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_make_container(image, platform, public_url, hub_secret)],
            "volumes": [
                {"name": "state", "persistentVolumeClaim": {"claimName": AUDIT_SERVICE}},
                {
                    "name": "config",
                    "secret": {"secretName": AUDIT_SECRET, "defaultMode": 0o440},
                },
            ],
        },
    }
    deployment = {
        "spec": {
            "replicas": 1,
            # One writes to the log, and the next one is refused until this one has ended.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": template,
        }
    }
    made = (
        ("v1", "PersistentVolumeClaim", claim),
        ("v1", "Service", {"spec": {"selector": labels, "ports": [port]}}),
        ("apps/v1", "Deployment", deployment),
    )
    return tuple(
        make_home_object(version, kind, AUDIT_SERVICE, platform, component=AUDIT, body=body)
        for version, kind, body in made
    )


def make_emitter_parts(name: str) -> tuple[list[dict[str, Any]], list[Any], list[Any]]:
    """Environment, mounts and volumes of a program that tells the log what it does.

    Its spool outlives the program, not the pod: numbers that are lost with it show in the log.
    """
    environment = {
        "COLLAB_AUDIT_URL": f"http://{AUDIT_SERVICE}:{AUDIT_PORT}{PREFIX}",
        "COLLAB_AUDIT_TOKEN_FILE": f"{_TOKEN_FOLDER}/token",
        "COLLAB_AUDIT_SPOOL": f"{_SPOOL}/{name}",
    }
    mounts = [
        {"name": "audit-token", "mountPath": _TOKEN_FOLDER, "readOnly": True},
        {"name": "audit-spool", "mountPath": _SPOOL},
    ]
    volumes = [
        {
            "name": "audit-token",
            "secret": {"secretName": f"{AUDIT_SECRET}-{name}", "defaultMode": 0o440},
        },
        {"name": "audit-spool", "emptyDir": {"sizeLimit": "1Gi"}},
    ]
    return [{"name": key, "value": value} for key, value in environment.items()], mounts, volumes


def _make_container(
    image: str, platform: Platform, public_url: str, hub_secret: str
) -> dict[str, Any]:
    health = f"{PREFIX}health"
    return {
        "name": "audit",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["python3", "-m", "jupyterhub_collab.services.audit"],
        "env": [
            *_make_environment(platform, public_url),
            _from_secret("JUPYTERHUB_API_TOKEN", hub_secret, "hub.services.audit.apiToken"),
            # PostgreSQL in place of SQLite on the volume.
            _from_secret(
                "COLLAB_AUDIT_DATABASE_URL", AUDIT_SECRET, "database-url", is_optional=True
            ),
        ],
        "ports": [{"name": "http", "containerPort": AUDIT_PORT}],
        "readinessProbe": {"httpGet": {"path": health, "port": "http"}, "periodSeconds": 2},
        "livenessProbe": {
            "httpGet": {"path": f"{health}/live", "port": "http"},
            "initialDelaySeconds": 30,
            "periodSeconds": 10,
            "failureThreshold": 6,
            "timeoutSeconds": 5,
        },
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"memory": "1Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "state", "mountPath": _STATE},
            {"name": "config", "mountPath": _CONFIG, "readOnly": True},
        ],
    }


def _from_secret(
    variable: str, secret: str, key: str, *, is_optional: bool = False
) -> dict[str, Any]:
    ref: dict[str, Any] = {"name": secret, "key": key}
    if is_optional:
        ref["optional"] = True
    return {"name": variable, "valueFrom": {"secretKeyRef": ref}}


def _make_environment(platform: Platform, public_url: str) -> list[dict[str, Any]]:
    parts = urlsplit(public_url)
    page = f"{parts.scheme}://{AUDIT}--service.{parts.netloc}{PREFIX}"
    values = {
        "COLLAB_AUDIT_ANCHORS_FILE": f"{_CONFIG}/anchors.json",
        "COLLAB_AUDIT_EMITTERS_FILE": f"{_CONFIG}/emitters.json",
        "COLLAB_AUDIT_KEY_FILE": f"{_CONFIG}/log.key",
        "COLLAB_AUDIT_STATE": _STATE,
        # As JupyterHub sets them for services that it starts itself.
        "JUPYTERHUB_API_URL": f"http://{HUB_SERVICE}:{platform.hub_api.port}/hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": "service-audit",
        "JUPYTERHUB_HOST": f"{parts.scheme}://{parts.netloc}",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{page}oauth_callback",
        "JUPYTERHUB_SERVICE_NAME": "audit",
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_SERVICE_URL": f"http://{AUDIT_SERVICE}:{AUDIT_PORT}",
    }
    return [{"name": name, "value": value} for name, value in values.items()]
