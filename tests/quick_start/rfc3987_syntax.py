"""Keeps hubs of tests from making a grammar of all IRIs, which takes half of the time of a start.

jsonschema makes it at every import, where it can, for two formats that no schema of JupyterHub's
events asks for. First on the path of the hub's process; nothing else may have this folder there.
"""

raise ImportError("hubs of tests do without it")
