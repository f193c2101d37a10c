"""`jupyterhub-collab up`: hub, proxy, provisioner and, on a laptop, a cluster, as one command.

What: starts every program as a child of its own, watches them, restarts what dies, stops all in
order, and comes back with all state from one data folder.
Why: so that somebody who has Python and nothing else sees the whole of it run.
It must not: hold state outside the data folder, put a secret on a command line, end a process
that it did not start, or end members' servers when it crashes.
"""
