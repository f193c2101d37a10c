"""Hub and proxy as the Zero to JupyterHub chart makes them from our values: a stand-in.

The chart cannot be fetched where these tests run. This renders what its documentation and schema
say of the values that `helm-values/jupyterhub.yaml` sets, and nothing that it leaves out: names,
labels, Services, the one Secret, the volume of the database, security contexts.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

VALUES_FILE: Final = Path(__file__).parents[2] / "helm-values" / "jupyterhub.yaml"
CONFIG_FILE: Final = Path(__file__).with_name("chart_config.py")
RELEASE: Final = "jupyterhub"
HUB_PORT: Final = 8081
PROXY_API_PORT: Final = 8001
_CONFIG_PATH: Final = "/usr/local/etc/jupyterhub/jupyterhub_config.py"
_SECRET_PATH: Final = "/usr/local/etc/jupyterhub/secret"


def load_values(*overlays: Mapping[str, Any]) -> dict[str, Any]:
    """Our values with an administrator's over them, merged as Helm merges."""
    values: dict[str, Any] = yaml.safe_load(VALUES_FILE.read_text())
    for overlay in overlays:
        values = merge(values, overlay)
    return values


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged, everything else is replaced."""
    result = copy.deepcopy(dict(base))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if both else copy.deepcopy(value)
    return result


def make_chart_secret(values: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """The chart's Secret ``hub`` with a fresh token for each service."""
    texts = {f"hub.services.{name}.apiToken": secrets.token_hex(32) for name in _services(values)}
    texts["hub.config.ConfigurableHTTPProxy.auth_token"] = secrets.token_hex(32)
    texts["hub.config.JupyterHub.cookie_secret"] = secrets.token_hex(32)
    texts["values.yaml"] = yaml.safe_dump(dict(values), sort_keys=False)
    return {**_object("v1", "Secret", "hub", "hub", namespace), "stringData": texts}


def make_chart(values: Mapping[str, Any], namespace: str) -> list[dict[str, Any]]:
    """Everything else."""
    hub, proxy = values["hub"], values["proxy"]
    claim = {
        "accessModes": hub["db"]["pvc"]["accessModes"],
        "resources": {"requests": {"storage": hub["db"]["pvc"]["storage"]}},
    }
    config = {"jupyterhub_config.py": CONFIG_FILE.read_text()}
    return [
        {**_object("v1", "ConfigMap", "hub", "hub", namespace), "data": config},
        {**_object("v1", "PersistentVolumeClaim", "hub-db-dir", "hub", namespace), "spec": claim},
        _make_service("hub", "hub", HUB_PORT, "http", namespace),
        _make_service("proxy-api", "proxy", PROXY_API_PORT, "api", namespace),
        _make_service("proxy-public", "proxy", 80, "http", namespace),
        _make_deployment("hub", _make_hub_pod(hub), namespace, {"strategy": {"type": "Recreate"}}),
        _make_deployment("proxy", _make_proxy_pod(proxy["chp"]), namespace, {}),
    ]


def _services(values: Mapping[str, Any]) -> list[str]:
    return list(values["hub"]["services"])


def _labels(component: str) -> dict[str, str]:
    return {"app": "jupyterhub", "component": component, "release": RELEASE}


def _object(
    api_version: str, kind: str, name: str, component: str, namespace: str
) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": _labels(component)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _make_service(
    name: str, component: str, port: int, target: str, namespace: str
) -> dict[str, Any]:
    ports = [{"name": target, "port": port, "targetPort": target}]
    spec = {"selector": _labels(component), "ports": ports}
    return {**_object("v1", "Service", name, component, namespace), "spec": spec}


def _make_deployment(
    component: str, pod: dict[str, Any], namespace: str, more: dict[str, Any]
) -> dict[str, Any]:
    labels = _labels(component)
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template, **more}
    return {**_object("apps/v1", "Deployment", component, component, namespace), "spec": spec}


def _token_of_proxy() -> dict[str, Any]:
    key = {"name": "hub", "key": "hub.config.ConfigurableHTTPProxy.auth_token"}
    return {"name": "CONFIGPROXY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": key}}


def _make_hub_pod(hub: Mapping[str, Any]) -> dict[str, Any]:
    image = hub["image"]
    health = {"path": "/hub/health", "port": "http"}
    container = {
        "name": "hub",
        "image": f"{image['name']}:{image['tag']}",
        "imagePullPolicy": image["pullPolicy"],
        "args": ["jupyterhub", "--config", _CONFIG_PATH, "--upgrade-db"],
        "env": [
            {"name": "PYTHONUNBUFFERED", "value": "1"},
            {"name": "HELM_RELEASE_NAME", "value": RELEASE},
            {
                "name": "POD_NAMESPACE",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}},
            },
            _token_of_proxy(),
            *({"name": name, "value": value} for name, value in hub["extraEnv"].items()),
        ],
        "ports": [{"name": "http", "containerPort": HUB_PORT}],
        "readinessProbe": {"httpGet": health, "periodSeconds": 2, "failureThreshold": 1000},
        "livenessProbe": {
            "httpGet": health,
            "initialDelaySeconds": 300,
            "periodSeconds": 10,
            "failureThreshold": 30,
        },
        "resources": hub["resources"],
        "securityContext": hub["containerSecurityContext"],
        "volumeMounts": [
            {"name": "config", "mountPath": _CONFIG_PATH, "subPath": "jupyterhub_config.py"},
            {"name": "secret", "mountPath": _SECRET_PATH},
            {"name": "pvc", "mountPath": "/srv/jupyterhub"},
            *hub["extraVolumeMounts"],
        ],
    }
    return {
        "serviceAccountName": hub["serviceAccount"]["name"],
        "securityContext": hub["podSecurityContext"],
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": "hub"}},
            {"name": "secret", "secret": {"secretName": "hub"}},
            {"name": "pvc", "persistentVolumeClaim": {"claimName": "hub-db-dir"}},
            *hub["extraVolumes"],
        ],
        **hub["extraPodSpec"],
    }


def _make_proxy_pod(chp: Mapping[str, Any]) -> dict[str, Any]:
    image = chp["image"]
    hub = f"http://hub:{HUB_PORT}"
    command = [
        "configurable-http-proxy",
        "--ip=",
        "--api-ip=",
        f"--api-port={PROXY_API_PORT}",
        f"--default-target={hub}",
        f"--error-target={hub}/hub/error",
        "--port=8000",
        *chp["extraCommandLineFlags"],
    ]
    container = {
        "name": "chp",
        "image": f"{image['name']}:{image['tag']}",
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [_token_of_proxy()],
        "ports": [
            {"name": "http", "containerPort": 8000},
            {"name": "api", "containerPort": PROXY_API_PORT},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/_chp_healthz", "port": "http"},
            "periodSeconds": 2,
            "failureThreshold": 1000,
        },
        "resources": chp["resources"],
        "securityContext": chp["containerSecurityContext"],
    }
    return {"containers": [container], **chp["extraPodSpec"]}
