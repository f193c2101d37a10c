"""The file that `jupyterhub -f` reads in a run of `jupyterhub-collab up`."""

from jupyterhub_collab.hub.demo_config import configure_demo

configure_demo(get_config())  # type: ignore[name-defined]  # noqa: F821 - JupyterHub provides it
