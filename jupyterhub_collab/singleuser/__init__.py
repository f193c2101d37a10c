"""What runs in a member's pod: a few lines of the standard library before JupyterLab.

Nothing of the hub, of Kubernetes or of any other package is imported here: an image needs no more
than ``pip install --no-deps jupyterhub-collab``.
"""
