"""Pytest plugin: SIGTERM ends a run as Ctrl-C does, so that fixtures end what they started.

Python would be gone at once, and hubs, services and clusters would go on without it.
"""

from __future__ import annotations

import signal


def pytest_sessionstart() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
