"""``python -m jupyterhub_collab.services.contests``."""

from .app import ContestsApp

ContestsApp.launch_instance()
