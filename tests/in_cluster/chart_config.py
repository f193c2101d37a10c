"""The hub's configuration file as the Zero to JupyterHub chart would have it: a stand-in.

The chart cannot be fetched where these tests run. This sets what its documentation says that it
sets from the values that `helm-values/jupyterhub.yaml` uses, among it settings for KubeSpawner
that our values must cope with (a toleration, a label, an affinity). It runs in the hub's pod.
"""

import os
from pathlib import Path

import yaml

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - JupyterHub provides it

_SECRET = Path("/usr/local/etc/jupyterhub/secret")
values = yaml.safe_load((_SECRET / "values.yaml").read_text())
hub, singleuser = values["hub"], values["singleuser"]


def read_secret(key: str) -> str:
    """A generated value of the chart's Secret."""
    return (_SECRET / key).read_text()


c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.ConfigurableHTTPProxy.api_url = f"http://proxy-api:{os.environ['PROXY_API_SERVICE_PORT']}"
c.ConfigurableHTTPProxy.should_start = False
c.JupyterHub.cleanup_servers = False
c.JupyterHub.last_activity_interval = 60
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.JupyterHub.db_url = "sqlite:///jupyterhub.sqlite"
c.JupyterHub.allow_named_servers = hub["allowNamedServers"]
c.JupyterHub.hub_bind_url = "http://:8081"
c.JupyterHub.hub_connect_url = f"http://hub:{os.environ['HUB_SERVICE_PORT']}"
c.JupyterHub.cookie_secret = bytes.fromhex(read_secret("hub.config.JupyterHub.cookie_secret"))

c.KubeSpawner.namespace = os.environ["POD_NAMESPACE"]
c.KubeSpawner.common_labels = {"app": "jupyterhub", "heritage": "jupyterhub"}
c.KubeSpawner.extra_labels = {"hub.jupyter.org/network-access-hub": "true"}
c.KubeSpawner.image = "quay.io/jupyterhub/k8s-singleuser-sample:set-by-chartpress"
c.KubeSpawner.allow_privilege_escalation = False
c.KubeSpawner.uid = 1000
c.KubeSpawner.fs_gid = 100
c.KubeSpawner.mem_guarantee = "1G"
c.KubeSpawner.tolerations = [
    {
        "key": "hub.jupyter.org/dedicated",
        "operator": "Equal",
        "value": "user",
        "effect": "NoSchedule",
    }
]
c.KubeSpawner.node_affinity_preferred = [
    {
        "weight": 100,
        "preference": {
            "matchExpressions": [
                {"key": "hub.jupyter.org/node-purpose", "operator": "In", "values": ["user"]}
            ]
        },
    }
]
if singleuser["cmd"] is not None:
    c.Spawner.cmd = singleuser["cmd"]

c.JupyterHub.services = [
    {"name": name, "api_token": read_secret(f"hub.services.{name}.apiToken"), **service}
    for name, service in hub["services"].items()
]
c.JupyterHub.load_roles = [{"name": name, **role} for name, role in hub["loadRoles"].items()]
for class_name, settings in hub["config"].items():
    c[class_name].update(settings)
for _, snippet in sorted(hub["extraConfig"].items()):
    exec(snippet)
