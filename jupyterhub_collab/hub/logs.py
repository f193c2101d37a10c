"""What this package logs goes where the hub's own log goes, at the hub's level."""

from __future__ import annotations

import logging

_OURS = "jupyterhub_collab"


def join_hub_log(hub_log: logging.Logger) -> None:
    """Have all our modules write to the hub's log. Safe to repeat."""
    ours = logging.getLogger(_OURS)
    ours.setLevel(hub_log.getEffectiveLevel())
    for handler in hub_log.handlers:
        if handler not in ours.handlers:
            ours.addHandler(handler)
    ours.propagate = not ours.handlers
