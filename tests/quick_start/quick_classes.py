"""JupyterHub that loads the classes its configuration names and no others.

It loads each authenticator and spawner that is installed, for the list of all settings that
`--help-all` prints: half of a start. That they can be loaded, and that a hub starts so, is shown
where the hub is whole: in the demo (`tests/walk`) and in the cluster (`tests/in_cluster`).
"""

from __future__ import annotations

from typing import Any

from jupyterhub.app import JupyterHub as Whole
from jupyterhub.auth import Authenticator
from jupyterhub.crypto import CryptKeeper
from jupyterhub.spawner import Spawner
from traitlets import default


class JupyterHub(Whole):  # type: ignore[misc]
    """Of the same name, which settings and lines of the log bear."""

    @default("classes")
    def _load_classes(self) -> list[Any]:
        return [Spawner, Authenticator, CryptKeeper]
