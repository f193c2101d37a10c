"""Kubernetes, as little of it as we need: plain dicts over HTTP, and caches fed by watches.

Knows nothing of teams. Who asks may be the hub or a service.
"""

from .client import KubeClient
from .errors import ConflictError, GoneError, NotFoundError, PermanentKubeError, RetryableKubeError
from .informer import Change, Informer
from .kinds import Kind, kind_of
from .watch_lines import WatchEvent

__all__ = [
    "Change",
    "ConflictError",
    "GoneError",
    "Informer",
    "Kind",
    "KubeClient",
    "NotFoundError",
    "PermanentKubeError",
    "RetryableKubeError",
    "WatchEvent",
    "kind_of",
]
