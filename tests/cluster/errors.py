"""Errors of the test cluster: each tells what happened, why, and what to do."""

from __future__ import annotations


class ClusterError(Exception):
    """The cluster could not be started, stopped or asked."""


class CannotHave(ClusterError):
    """This machine cannot have the level asked for; the message says what would change that."""


class BuildFailed(ClusterError):
    """A build step failed; the message names its log."""
