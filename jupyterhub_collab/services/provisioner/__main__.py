"""``python -m jupyterhub_collab.services.provisioner``."""

from .app import ProvisionerApp

ProvisionerApp.launch_instance()
