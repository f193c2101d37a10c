"""Runs at the start of every Python in a member's pod: their own packages, where they belong.

What was installed under this very image comes before the image's packages, as a user's packages
always do. What was installed under an earlier version of it, with the same Python, can still be
imported where the image has nothing of that name: it never comes before anything of the image, so
an old package cannot break a new environment.

Only the server's own Python does this: not other versions, nor a virtual environment of the user's.
"""

from __future__ import annotations

import os
import site
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any


class EarlierPackages:
    """Finder of last resort: looks where earlier versions of the image put packages."""

    def __init__(self, folders: list[str]) -> None:
        self._folders = folders

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Top-level modules only: a package's own modules are found beside it."""
        return PathFinder.find_spec(name, self._folders, target) if path is None else None


def _add_own(folder: str) -> None:
    """Put a folder before the image's packages and behind the standard library."""
    if folder in sys.path or not os.path.isdir(folder):
        return
    before = list(sys.path)
    site.addsitedir(folder)
    added = [entry for entry in sys.path if entry not in before]
    first = next((i for i, e in enumerate(before) if e.endswith("-packages")), len(before))
    sys.path[:] = before[:first] + added + before[first:]


def _run_the_other_one() -> None:
    """An image may have a sitecustomize of its own, which this one hides."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None and hasattr(spec.loader, "get_code"):
        exec(spec.loader.get_code("sitecustomize"), {"__name__": "sitecustomize"})  # noqa: S102


def _main() -> None:
    _run_the_other_one()
    if os.environ.get("COLLAB_PYTHON") != _identity() or os.environ.get("COLLAB_SAFE_MODE"):
        return
    own = os.environ.get("COLLAB_PACKAGES")
    if own and not sys.flags.no_user_site:
        _add_own(own)
        folders = os.environ.get("COLLAB_EARLIER_PACKAGES", "").split(os.pathsep)
        if any(folders):
            sys.meta_path.append(EarlierPackages([f for f in folders if f]))


def _identity() -> str:
    return f"{sys.prefix}:{sys.version_info[0]}.{sys.version_info[1]}"


_main()
