"""Teams on JupyterHub: a namespace, a quota, volumes and an egress allowlist for each."""

__version__ = "0.1.0"
