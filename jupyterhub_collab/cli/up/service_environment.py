"""What every service of a run is told of its hub, as JupyterHub tells those that it starts."""

from __future__ import annotations

from ...hub.demo_settings import DemoSettings
from .data_folder import DataFolder


def service_environment(
    folder: DataFolder, settings: DemoSettings, name: str, *, port: int, page: str
) -> dict[str, str]:
    """Environment of a service.

    Parameters
    ----------
    page
        Its address for browsers, with its prefix.
    """
    return {
        "JUPYTERHUB_API_TOKEN": folder.read_token(name),
        "JUPYTERHUB_API_URL": f"{settings.hub_url}/hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": f"service-{name}",
        "JUPYTERHUB_HOST": settings.public_url,
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{page}oauth_callback",
        "JUPYTERHUB_SERVICE_NAME": name,
        "JUPYTERHUB_SERVICE_PREFIX": f"/services/{name}/",
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
    }
