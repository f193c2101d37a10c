"""A hub with teams, whole: an example to begin with. What to change is marked.

The provisioner runs beside it: ``python -m jupyterhub_collab.services.provisioner``. Tokens come
from the environment, each 32 random hexadecimal digits, and are nobody else's.
"""

import os

from jupyterhub_collab.hub import configure

c = get_config()  # noqa: F821

configure(
    c,
    platform_file="/etc/collab/platform.json",  # CHANGE
    provisioner_url="http://127.0.0.1:8085/services/provisioner/",  # CHANGE
    provisioner_token=os.environ["COLLAB_PROVISIONER_TOKEN"],
    credential_key_file="/srv/hub/server-credential.key",  # CHANGE
)

# Who people are. CHANGE: the hub does not start with this line, so that none is open to everybody
# by mistake. Say who may come in too: allowed_users, or allow_all if the authenticator decides.
c.JupyterHub.authenticator_class = "CHANGE: how people sign in, such as generic-oauth or ldap"

# Each server on an origin of its own. CHANGE, with a wildcard certificate for *.hub.example.org
c.JupyterHub.bind_url = "https://hub.example.org"
c.JupyterHub.subdomain_host = "https://hub.example.org"
c.JupyterHub.hub_bind_url = "http://0.0.0.0:8081"

# Services have a url and a token of their own, never a command, and the least scopes.
c.JupyterHub.services = [
    {
        "name": "provisioner",
        "url": "http://127.0.0.1:8085",  # CHANGE
        "api_token": os.environ["PROVISIONER_API_TOKEN"],
        "oauth_no_confirm": True,
    },
    {"name": "spawner", "api_token": os.environ["COLLAB_PROVISIONER_TOKEN"]},
    {"name": "contests", "api_token": os.environ["CONTESTS_API_TOKEN"]},
]
c.JupyterHub.load_roles = [
    {
        "name": "provisioner",
        "description": "Reads which teams there should be.",
        "services": ["provisioner"],
        "scopes": ["list:groups", "read:groups"],
    },
    {
        "name": "spawner",
        "description": "Asks the provisioner for a team's space before a server starts.",
        "services": ["spawner"],
        "scopes": ["access:services!service=provisioner", "custom:collab:provision"],
    },
    {
        "name": "contests",
        "description": "Makes teams and members as the contest manifests say.",
        "services": ["contests"],
        # admin:users goes where one of our authenticators decides who is in which team.
        "scopes": ["admin:groups", "admin:users"],
    },
]
