"""``python -m jupyterhub_collab.services.audit``."""

from .app import AuditApp

AuditApp.launch_instance()
