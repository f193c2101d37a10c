"""Kubernetes manifests as plain dicts in wire format, built by pure functions."""
