"""The Debian packages that the node and the building of images need."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tests.cluster.errors import CannotHave
from tests.cluster.programs_build import report

#: Where Debian keeps what ordinary users do not run.
SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: A file or program that a package brings, and the package.
NODE_PACKAGES: Final[Mapping[str, str]] = {
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
}
IMAGE_PACKAGES: Final[Mapping[str, str]] = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
COMPILER_PACKAGES: Final[Mapping[str, str]] = {"cc": "gcc"}


def is_there(needed: str) -> bool:
    """Say whether a file (absolute) or program (bare name) is there."""
    if needed.startswith("/"):
        return Path(needed).exists()
    return shutil.which(needed, path=SEARCH_PATH) is not None


def find_missing(packages: Mapping[str, str]) -> list[str]:
    """Return the packages of which something is missing, each once."""
    return sorted({package for needed, package in packages.items() if not is_there(needed)})


def demand(packages: Mapping[str, str]) -> None:
    """Raise unless everything is there.

    Raises
    ------
    CannotHave
        Says which packages to install.
    """
    missing = find_missing(packages)
    if missing:
        raise CannotHave(
            f"missing here: {', '.join(missing)}; run `python -m tests.cluster build` as root "
            f"on Debian, or `apt-get install {' '.join(missing)}`"
        )


def install(packages: Mapping[str, str]) -> None:
    """Install what is missing, if this is Debian and we are root.

    Raises
    ------
    CannotHave
        If it cannot be done here; says which packages are missing.
    """
    missing = find_missing(packages)
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get", path=SEARCH_PATH) is None:
        demand(packages)
    report(f"installing Debian packages: {', '.join(missing)} ...")
    install_by_apt(missing)
    demand(packages)


def install_by_apt(names: Iterable[str]) -> None:
    """Run apt-get with the lists brought up to date."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-q", "-y", "--no-install-recommends", *names]
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", *options]):
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            raise CannotHave(f"{' '.join(command)} failed: {result.stderr.strip()[-1500:]}")
