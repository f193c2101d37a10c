"""The provisioner: keeps teams' namespaces as the hub's groups say, and tells how they are.

Run it with ``python -m jupyterhub_collab.services.provisioner``, registered with the hub by `url`
and `api_token`. It holds the only rights to make and change namespaces.
"""
