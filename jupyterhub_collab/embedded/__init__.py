"""A laptop's stand-in for Kubernetes: an API server and a node, in Python alone, without root.

What: `python -m jupyterhub_collab.embedded.api --dir DIR` serves enough of the API for
JupyterHub, KubeSpawner, the Kubernetes clients and kubectl; `python -m
jupyterhub_collab.embedded.node --dir DIR` runs each pod's container as a local process. Each
prints the one line ``ready`` once it serves, ends in an orderly way on SIGTERM, and exits with one
sentence on stderr when it cannot start: a busy port, another instance on the same folder, a broken
folder. `prepare(DIR)` makes certificates, token and DIR/kubeconfig without starting anything;
`stop_all(DIR)` ends every pod's processes. Servers outlive a crash or stop of either program.

Why: `jupyterhub-collab up` must work where no cluster is.

It isolates nothing (see `WARNING`, which whoever starts it prints), and it implements nothing that
no test in tests/contract asks for. Only the command line may import it.
"""

from ..constants import LABEL_PROTECTED as PROTECTED_LABEL
from .folder import Paths, prepare
from .process import stop_all

WARNING = (
    "The embedded cluster isolates nothing: all servers run as the same user of this machine, see "
    "its files and its network, and one another. Use it to try things out, never for data that "
    "somebody must not see."
)

__all__ = ["PROTECTED_LABEL", "WARNING", "Paths", "prepare", "stop_all"]
