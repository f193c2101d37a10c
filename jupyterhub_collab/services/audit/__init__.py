"""The audit service: takes events from emitters, keeps the log, shows it to whom it concerns.

Run it with ``python -m jupyterhub_collab.services.audit``, registered with the hub by `url` and
`api_token`. It has no rights in the cluster.
"""
