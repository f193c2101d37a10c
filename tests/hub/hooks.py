# Configuration of the hub under test: what an administrator's hook may do for some users.
def adjust(spawner):
    """For max, two seconds of patience; for gen, the genuine JupyterLab."""
    if spawner.user.name == "max":
        spawner.http_timeout = 2
    if spawner.user.name == "gen":
        spawner.cmd = type(spawner)._cmd_default(spawner)


c.Spawner.pre_spawn_hook = adjust  # noqa: F821
