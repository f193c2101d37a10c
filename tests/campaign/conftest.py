"""Campaigns use the provisioner's fixture."""

from tests.services.conftest import make_provisioner

__all__ = ["make_provisioner"]
