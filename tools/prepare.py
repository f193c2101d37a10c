"""Fetch what the tests use beyond Python: Chromium, and the programs and images of the clusters.

Installs what it can (as root on Debian) and prints, in capitals, what it had to leave unproved;
the tests that need it then skip with the same words. Never fails the run by itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def say(text: str) -> None:
    print(f"jupyterhub-collab: {text}", flush=True)


def is_root_on_debian() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


SAMBA = (
    "samba samba-ad-provision samba-ad-dc samba-dsdb-modules samba-vfs-modules winbind krb5-user"
    " python3-samba"
)


def install(program: str, package: str, unproved: str) -> None:
    """Have ``program`` on the path, by installing ``package`` (or several) if that can be done."""
    if shutil.which(program):
        return
    if is_root_on_debian():
        say(f"installing {package}")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *package.split()],
        ):
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    if not shutil.which(program):
        say(f"NOT PROVED: {unproved} (no {program} here; on Debian: apt-get install {package})")


def cluster(step: str, unproved: str) -> None:
    """Run one step of the test cluster's own command; it caches what it builds."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "tests.cluster", step], cwd=ROOT, check=False)
    if done.returncode:
        say(f"NOT PROVED: {unproved} (the step '{step}' failed; its lines above say why)")
    else:
        say(f"cluster {step}: {time.monotonic() - started:.0f} s")


def main() -> None:
    install("chromium", "chromium", "what the pages look like and do in a browser")
    install("slapd", "slapd", "logging in through a directory (LDAP)")
    install("ldapmodify", "ldap-utils", "that a directory's administrator can take rights away")
    install("samba-tool", SAMBA, "what is Active Directory's own when people log in")
    cluster("build", "everything about a real Kubernetes")
    cluster("images", "real containers on a real node")


if __name__ == "__main__":
    main()
