"""How JupyterLab is set up in a member's pod where nobody says otherwise: `jupyter_config/`.

No news and no look for updates: a pod has no way out, and who is asked "Would you like to get
notified about official Jupyter news?" can only get an error for it. The image's version is the
host's affair. The server's settings keep it from going out; the page asks all the same unless its
own defaults (`labconfig/`) say no, which members can change in JupyterLab's settings.

Besides, the notices of contests and teams: `notices.py` is switched on there, and what shows them
in JupyterLab is in `jupyter_data/`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

OURS = Path(__file__).parent / "jupyter_config"
OUR_DATA = Path(__file__).parent / "jupyter_data"
_SYSTEM = ("/usr/local/etc/jupyter", "/etc/jupyter")


def config_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Variables that let Jupyter find our settings after the member's and the image's own.

    Folders of JUPYTER_CONFIG_PATH come before all that Jupyter knows by itself, so those are named
    before ours: the first that says something wins. In JUPYTER_PATH ours is the last of those that
    are named; nothing else has an extension of that name.
    """
    own = environ.get("JUPYTER_CONFIG_DIR") or str(home / ".jupyter")
    known = (own, os.path.join(sys.prefix, "etc", "jupyter"), *_SYSTEM)
    given = [part for part in environ.get("JUPYTER_CONFIG_PATH", "").split(os.pathsep) if part]
    data = [part for part in environ.get("JUPYTER_PATH", "").split(os.pathsep) if part]
    return {
        "JUPYTER_CONFIG_PATH": os.pathsep.join(dict.fromkeys([*given, *known, str(OURS)])),
        "JUPYTER_PATH": os.pathsep.join(dict.fromkeys([*data, str(OUR_DATA)])),
    }
