"""Hands a rule set to the kernel in one transaction."""

from __future__ import annotations

import subprocess

from tests.cluster.errors import ClusterError


def load(ruleset: str) -> None:
    """Replace what `ruleset` names, all or nothing.

    Raises
    ------
    ClusterError
        If nft refuses it; the rules that were in force stay in force.
    """
    result = subprocess.run(
        ["nft", "-f", "-"], input=ruleset, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise ClusterError(f"nft refused the rules: {result.stderr.strip()[:2000]}")
