"""A manifest that tests change."""

from __future__ import annotations

MANIFEST = """\
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Contest
contest:
  id: forecast
  title: Seasonal forecasts
  ends: 2027-06-30T22:00:00Z
tiers:
  large: {cpu: 8, memory: 32Gi, storage: 200Gi, ephemeralStorage: 10Gi, pods: 4}
  small: {cpu: 2, memory: 8Gi, storage: 20Gi, ephemeralStorage: 10Gi, pods: 2}
images:
  basic: {title: Basic, image: "registry.example.org/basic:1"}
  deep: {title: Deep, image: "registry.example.org/deep:1"}
profiles:
  medium: {title: Medium, cpu: 1, memory: 4Gi}
volumes: {team: 5Gi, personal: 1Gi}
egress:
  - name: mirror
    cidr: 151.101.0.0/16
    ports: [{port: 443}]
datasets:
  sst:
    title: Sea surface temperatures
    csi: {driver: files.example.org, volumeHandle: sst}
teams:
  ocean:
    tier: large
    datasets: [sst]
    members: [ada, bob]
  ice:
    tier: small
    members: [ada]
"""


def replaced(old: str, new: str) -> str:
    """The manifest with one place changed; the place must be there once."""
    assert MANIFEST.count(old) == 1, f"{old!r} stands {MANIFEST.count(old)} times"
    return MANIFEST.replace(old, new)
