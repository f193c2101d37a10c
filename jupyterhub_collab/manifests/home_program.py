"""One of our services as a program in the hub's namespace: its Service, its Deployment.

What all of them share stands here, once: how JupyterHub's own variables say which hub a service
belongs to, when it counts as ready and as alive, and what Pod Security `restricted` asks for. Each
service's module says only what is its own.

It must not: know any of the services.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from ..constants import HOME_PRIORITY_CLASS, HUB_SERVICE, PLATFORM_CONFIG_MAP, PLATFORM_FILE
from ..models import Platform
from .home import make_home_object
from .home_policies import home_labels
from .manifest import Manifest

PLATFORM_VARIABLE: Final = "COLLAB_PLATFORM_FILE"
_PLATFORM_FOLDER: Final = "/etc/collab"
_PLATFORM_PATH: Final = f"{_PLATFORM_FOLDER}/{PLATFORM_FILE}"


@dataclass(frozen=True)
class Attachments:
    """What a container is given besides its program. Each part may be empty.

    Attributes
    ----------
    environment
        Kubernetes' EnvVar each.
    mounts, volumes
        Kubernetes' VolumeMount and Volume each.
    """

    environment: Sequence[Mapping[str, Any]] = ()
    mounts: Sequence[Mapping[str, Any]] = ()
    volumes: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class HomeProgram:
    """One service, all its replicas of which there is one.

    Attributes
    ----------
    name
        As JupyterHub knows it; its component label, its container and its module too.
    service
        Name of Service and Deployment.
    account
        Service account of its pods.
    has_cluster_token
        Whether its pods get a token of the cluster.
    settings
        Variables of its own, by name.
    attachments
        In order, after the settings and JupyterHub's own variables.
    optional_secret
        A Secret each of whose keys becomes a variable, if it is there; none that is set otherwise
        can be changed by it. Empty: none.
    annotations
        Of the pods: others make other pods.
    live
        Path below the prefix that answers as long as the program answers at all.
    """

    name: str
    service: str
    port: int
    account: str
    has_cluster_token: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    attachments: Sequence[Attachments] = ()
    optional_secret: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    live: str = "health/live"

    @property
    def prefix(self) -> str:
        """Path below the hub's proxy."""
        return f"/services/{self.name}/"


def make_home_service(
    program: HomeProgram, platform: Platform, *, address: str = "", port: int | None = None
) -> Manifest:
    """The Service.

    Parameters
    ----------
    address
        A ClusterIP that was chosen; empty: the cluster gives one.
    port
        Where the Service answers; the program's own unless said.
    """
    spec: dict[str, Any] = {"clusterIP": address} if address else {}
    spec["selector"] = home_labels(program.name, platform)
    spec["ports"] = [
        {"name": "http", "protocol": "TCP", "port": port or program.port, "targetPort": "http"}
    ]
    return _make("v1", "Service", program, platform, {"spec": spec})


def make_home_deployment(
    program: HomeProgram, platform: Platform, *, image: str, public_url: str, hub_secret: str
) -> Manifest:
    """The Deployment: one pod, and the next one only when that one has ended.

    Parameters
    ----------
    image
        The hub's (``images/hub``): it holds our services too.
    public_url
        Where people reach the hub; a service's page has a name of its own, as with subdomains.
    hub_secret
        Name of the chart's Secret with the services' tokens.
    """
    labels = home_labels(program.name, platform)
    metadata: dict[str, Any] = {"labels": labels}
    if program.annotations:
        metadata["annotations"] = dict(program.annotations)
    account: dict[str, Any] = {"serviceAccountName": program.account}
    if not program.has_cluster_token:
        account["automountServiceAccountToken"] = False
    container = _make_container(program, platform, image, public_url, hub_secret)
    template = {
        "metadata": metadata,
        "spec": {
            **account,
            "priorityClassName": HOME_PRIORITY_CLASS,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "runAsGroup": 1000,
                "fsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [dict(v) for a in program.attachments for v in a.volumes],
        },
    }
    body = {
        "spec": {
            "replicas": 1,
            # Each has something that one pod holds at a time: a lease, a volume, a log.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": template,
        }
    }
    return _make("apps/v1", "Deployment", program, platform, body)


def make_home_claim(name: str, program: HomeProgram, platform: Platform, *, size: str) -> Manifest:
    """A volume that one program writes. `size`: a Kubernetes quantity."""
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if platform.storage_class:
        spec["storageClassName"] = platform.storage_class
    return make_home_object(
        "v1",
        "PersistentVolumeClaim",
        name,
        platform,
        component=program.name,
        body={"spec": spec},
    )


def make_state(claim: str, path: str, *, name: str = "state") -> Attachments:
    """A volume of `make_home_claim`, mounted."""
    return Attachments(
        mounts=[{"name": name, "mountPath": path}],
        volumes=[{"name": name, "persistentVolumeClaim": {"claimName": claim}}],
    )


def make_platform_settings() -> tuple[dict[str, str], Attachments]:
    """Variable and mount of the platform's settings."""
    attachments = Attachments(
        mounts=[{"name": "platform", "mountPath": _PLATFORM_FOLDER, "readOnly": True}],
        volumes=[{"name": "platform", "configMap": {"name": PLATFORM_CONFIG_MAP}}],
    )
    return {PLATFORM_VARIABLE: _PLATFORM_PATH}, attachments


def from_secret(
    variable: str, secret: str, key: str, *, is_optional: bool = False
) -> dict[str, Any]:
    """A variable whose value stands in a Secret."""
    ref: dict[str, Any] = {"name": secret, "key": key}
    if is_optional:
        ref["optional"] = True
    return {"name": variable, "valueFrom": {"secretKeyRef": ref}}


def to_environment(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Variables as a container has them."""
    return [{"name": name, "value": value} for name, value in values.items()]


def _make_container(
    program: HomeProgram, platform: Platform, image: str, public_url: str, hub_secret: str
) -> dict[str, Any]:
    attached = [dict(e) for a in program.attachments for e in a.environment]
    of_secret = [e for e in attached if "valueFrom" in e]
    token = from_secret("JUPYTERHUB_API_TOKEN", hub_secret, f"hub.services.{program.name}.apiToken")
    optional = {}
    if program.optional_secret:
        ref = {"name": program.optional_secret, "optional": True}
        optional["envFrom"] = [{"secretRef": ref}]
    return {
        "name": program.name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        # Not `command`: the image's own entry point reaps and passes signals on.
        "args": ["python3", "-m", f"jupyterhub_collab.services.{program.name}"],
        **optional,
        "env": [
            *to_environment(program.settings),
            *to_environment(_hub_variables(program, platform, public_url)),
            *(e for e in attached if "valueFrom" not in e),
            token,
            *of_secret,
        ],
        "ports": [{"name": "http", "containerPort": program.port}],
        # Ready: it can do its work. Alive: it answers at all.
        "readinessProbe": {
            "httpGet": {"path": f"{program.prefix}health", "port": "http"},
            "periodSeconds": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": program.prefix + program.live, "port": "http"},
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
        "volumeMounts": [dict(m) for a in program.attachments for m in a.mounts],
    }


def _hub_variables(program: HomeProgram, platform: Platform, public_url: str) -> dict[str, str]:
    """As JupyterHub sets them for services that it starts itself."""
    parts = urlsplit(public_url)
    page = f"{parts.scheme}://{program.name}--service.{parts.netloc}{program.prefix}"
    return {
        "JUPYTERHUB_API_URL": f"http://{HUB_SERVICE}:{platform.hub_api.port}/hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": f"service-{program.name}",
        "JUPYTERHUB_HOST": f"{parts.scheme}://{parts.netloc}",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{page}oauth_callback",
        "JUPYTERHUB_SERVICE_NAME": program.name,
        "JUPYTERHUB_SERVICE_PREFIX": program.prefix,
        "JUPYTERHUB_SERVICE_URL": f"http://{program.service}:{program.port}",
    }


def _make(
    version: str, kind: str, program: HomeProgram, platform: Platform, body: Mapping[str, Any]
) -> Manifest:
    return make_home_object(
        version, kind, program.service, platform, component=program.name, body=body
    )
