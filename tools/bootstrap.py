"""Make the virtual environment that `make` works in. Standard library alone, Python 3.10 or newer.

``python3 tools/bootstrap.py EXTRA`` creates ``.venv`` when it is missing and installs the project
with that extra at the versions of constraints.txt. It does nothing when setup.py and
constraints.txt have not changed since the last time. Every failure is one sentence.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OLDEST = (3, 10)


def fail(sentence: str) -> None:
    sys.exit(f"jupyterhub-collab: {sentence}")


def stamp(extra: str) -> str:
    """What the installed state depends on, as one hash."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {extra} {ROOT}".encode())
    for name in ("setup.py", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def create() -> None:
    """Create the virtual environment, or say in one sentence why that cannot be."""
    print("jupyterhub-collab: making a virtual environment in .venv", flush=True)
    try:
        venv.create(VENV, with_pip=True, symlinks=os.name != "nt")
    except (subprocess.CalledProcessError, OSError) as error:
        fail(
            f"Python {sys.version.split()[0]} could not make a virtual environment ({error}). "
            "On Debian and Ubuntu install python3-venv, then try again."
        )


def main() -> None:
    if sys.version_info < OLDEST:
        fail(
            f"this is Python {sys.version.split()[0]}; 3.10 or newer is needed. "
            "Say which with: make PYTHON=/path/to/python3 ..."
        )
    extra = sys.argv[1] if len(sys.argv) == 2 else ""
    if not extra.isalpha():
        fail("usage: python3 tools/bootstrap.py EXTRA (demo, test or docs)")
    python = VENV / "bin" / "python"
    if not python.exists():
        create()
    mark = VENV / f"installed-{extra}"
    wanted = stamp(extra)
    if mark.exists() and mark.read_text() == wanted:
        return
    print(f"jupyterhub-collab: installing the packages of '{extra}' (a minute or two)", flush=True)
    command = [
        *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--constraint", ROOT / "constraints.txt", "--editable", f"{ROOT}[{extra}]"),
    ]
    if subprocess.run(command, cwd=ROOT).returncode:
        fail(
            "pip could not install the packages; the lines above say why. "
            "A package index must be reachable the first time."
        )
    mark.write_text(wanted)


if __name__ == "__main__":
    main()
