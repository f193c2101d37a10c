"""Where a member's own packages are, and how pip and Python are told.

The spawner names a folder in the personal volume for each version of an image (PYTHONUSERBASE);
Python's own rule adds the version of Python below it. Packages thus outlive pods, and those of one
image are never put before another's (`startup_path.sitecustomize`).
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

STARTUP_PATH = Path(__file__).parent / "startup_path"


def package_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables to be set for the server and all that it starts; empty without PYTHONUSERBASE."""
    base = environ.get("PYTHONUSERBASE")
    if not base:
        return {}
    own = site_packages(Path(base))
    earlier = earlier_bases(Path(base))
    variables = {
        "COLLAB_PYTHON": f"{sys.prefix}:{sys.version_info[0]}.{sys.version_info[1]}",
        "COLLAB_PACKAGES": str(own),
        "COLLAB_EARLIER_PACKAGES": os.pathsep.join(str(site_packages(b)) for b in earlier),
        "PYTHONPATH": _joined(str(STARTUP_PATH), environ.get("PYTHONPATH", "")),
    }
    path = environ.get("PATH", os.defpath)
    if not site.ENABLE_USER_SITE:
        # The server runs in a closed virtual environment: pip refuses --user there.
        variables["PIP_TARGET"] = str(own)
        variables["JUPYTER_PATH"] = _joined(
            str(own / "share" / "jupyter"), environ.get("JUPYTER_PATH", "")
        )
        ours = [str(own / "bin")]
    else:
        if os.access(sysconfig.get_path("purelib"), os.W_OK):
            # What is written beside the image's packages is lost with the pod.
            variables["PIP_USER"] = "1"
        ours = [str(Path(base) / "bin")]
    variables["PATH"] = _joined(*ours, path, *(str(b / "bin") for b in earlier))
    return variables


def site_packages(base: Path) -> Path:
    """Folder of packages below a user base, for this version of Python."""
    return Path(sysconfig.get_path("purelib", "posix_user", vars={"userbase": str(base)}))


def earlier_bases(base: Path) -> list[Path]:
    """Folders of earlier versions of the image with packages for this Python, newest first.

    A folder is named ``IMAGE.DIGEST``; an image's id has no dot.
    """
    image = base.name.partition(".")[0]
    try:
        found = [
            (site_packages(other).stat().st_mtime, other)
            for other in base.parent.iterdir()
            if other != base and other.name.partition(".")[0] == image
            if site_packages(other).is_dir()
        ]
    except OSError:
        return []
    return [other for _, other in sorted(found, reverse=True)]


def safe_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The same without any package of the member's: what the image alone would do."""
    left_out = {"PIP_TARGET", "PIP_USER", "COLLAB_PACKAGES", "COLLAB_EARLIER_PACKAGES"}
    kept = {key: value for key, value in environ.items() if key not in left_out}
    base = environ.get("PYTHONUSERBASE", "")
    if base:
        entries = kept.get("PATH", "").split(os.pathsep)
        parent = str(Path(base).parent)
        kept["PATH"] = os.pathsep.join(e for e in entries if not e.startswith(parent))
    return {**kept, "PYTHONNOUSERSITE": "1", "COLLAB_SAFE_MODE": "1"}


def _joined(*parts: str) -> str:
    return os.pathsep.join(part for part in parts if part)
