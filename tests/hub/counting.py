"""TeamSpawner that says when it was asked whether a server still runs, and may be asked often."""

from __future__ import annotations

from traitlets import Float

from jupyterhub_collab.hub.spawner import TeamSpawner


class CountingSpawner(TeamSpawner):
    """Writes a line into the hub's log for each poll that is over."""

    poll_interval = Float(30.0, help="Parts of a second too.").tag(config=True)

    async def poll(self) -> int | None:
        result: int | None = await super().poll()
        self.log.info("Polled %s: %s", self._log_name, result)
        return result
