"""The provisioner as a Deployment and a Service in the hub's namespace.

It needs no volume but for audit events on their way: what it knows lies in the hub's groups and in
the cluster. Its token for the hub comes from the Secret in which the chart keeps those of all
services.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ..constants import (
    ANNOTATION_OBJECT_HASH,
    HOME_PRIORITY_CLASS,
    HUB_SERVICE,
    PLATFORM_CONFIG_MAP,
    PLATFORM_FILE,
    PROVISIONER_PORT,
    PROVISIONER_SERVICE,
)
from ..models import Platform
from .audit import make_emitter_parts
from .home import make_home_object, platform_hash
from .home_policies import PROVISIONER, provisioner_labels
from .manifest import Manifest

_PREFIX = "/services/provisioner/"
_PLATFORM_FOLDER = "/etc/collab"


def make_provisioner(
    platform: Platform, *, image: str, public_url: str, hub_secret: str
) -> tuple[Manifest, ...]:
    """Service and Deployment.

    Parameters
    ----------
    image
        The hub's (``images/hub``): it holds our services too.
    public_url
        Where people reach the hub; its page there has a name of its own, as with subdomains.
    hub_secret
        Name of the chart's Secret.
    """
    labels = provisioner_labels(platform)
    _, _, audit_volumes = make_emitter_parts(PROVISIONER)
    port = {"name": "http", "protocol": "TCP", "port": PROVISIONER_PORT, "targetPort": "http"}
    service = make_home_object(
        "v1",
        "Service",
        PROVISIONER_SERVICE,
        platform,
        component=PROVISIONER,
        body={"spec": {"selector": labels, "ports": [port]}},
    )
    template = {
        "metadata": {
            "labels": labels,
            # Settings are read once: others make other pods.
            "annotations": {ANNOTATION_OBJECT_HASH: platform_hash(platform)},
        },
        "spec": {
            "serviceAccountName": platform.provisioner_service_account,
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
                {"name": "platform", "configMap": {"name": PLATFORM_CONFIG_MAP}},
                *audit_volumes,
            ],
        },
    }
    deployment = make_home_object(
        "apps/v1",
        "Deployment",
        PROVISIONER_SERVICE,
        platform,
        component=PROVISIONER,
        body={
            "spec": {
                "replicas": 1,
                # The next one is ready only once it holds the lease, which this one gives back at
                # its end: a rolling update would wait for ever.
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": template,
            }
        },
    )
    return service, deployment


def _make_container(
    image: str, platform: Platform, public_url: str, hub_secret: str
) -> dict[str, Any]:
    health = f"{_PREFIX}health"
    audit_environment, audit_mounts, _ = make_emitter_parts(PROVISIONER)
    return {
        "name": "provisioner",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        # Not `command`: the image's own entry point reaps and passes signals on.
        "args": ["python3", "-m", "jupyterhub_collab.services.provisioner"],
        "env": [
            *_make_environment(platform, public_url),
            *audit_environment,
            {
                "name": "JUPYTERHUB_API_TOKEN",
                "valueFrom": {
                    "secretKeyRef": {
                        "name": hub_secret,
                        "key": "hub.services.provisioner.apiToken",
                    }
                },
            },
        ],
        "ports": [{"name": "http", "containerPort": PROVISIONER_PORT}],
        # Ready: it holds the lease and knows both sides. Alive: it answers at all.
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
            {"name": "platform", "mountPath": _PLATFORM_FOLDER, "readOnly": True},
            *audit_mounts,
        ],
    }


def _make_environment(platform: Platform, public_url: str) -> list[dict[str, Any]]:
    """As JupyterHub sets it for services that it starts itself."""
    parts = urlsplit(public_url)
    page = f"{parts.scheme}://{PROVISIONER}--service.{parts.netloc}{_PREFIX}"
    values = {
        "COLLAB_PLATFORM_FILE": f"{_PLATFORM_FOLDER}/{PLATFORM_FILE}",
        "JUPYTERHUB_API_URL": f"http://{HUB_SERVICE}:{platform.hub_api.port}/hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": "service-provisioner",
        "JUPYTERHUB_HOST": f"{parts.scheme}://{parts.netloc}",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{page}oauth_callback",
        "JUPYTERHUB_SERVICE_NAME": "provisioner",
        "JUPYTERHUB_SERVICE_PREFIX": _PREFIX,
        "JUPYTERHUB_SERVICE_URL": f"http://{PROVISIONER_SERVICE}:{PROVISIONER_PORT}",
    }
    return [{"name": name, "value": value} for name, value in values.items()]
