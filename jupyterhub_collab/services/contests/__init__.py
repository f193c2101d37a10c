"""The contests service: the registry of contests, teams and members, and all that is done to them.

Run it with ``python -m jupyterhub_collab.services.contests``, registered with the hub by `url` and
`api_token`. It has no rights in the cluster.
"""
