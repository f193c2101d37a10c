"""The audit service's process: settings, one writer, orderly end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from traitlets.config import Application

from ... import __version__
from . import watching
from .handlers import Route

ROUTES: Final[list[Iterable[Route]]] = [watching.ROUTES]
"""A list a module of handlers: whoever adds a module adds its list here."""


class AuditApp(Application):
    """Settings and life of the service."""

    name = "jupyterhub-collab-audit"
    version = __version__
    description = "Keeps the audit log."
