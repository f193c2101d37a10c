"""TeamSpawner that says when it was asked whether a server still runs."""

from __future__ import annotations

from jupyterhub_collab.hub.spawner import TeamSpawner


class CountingSpawner(TeamSpawner):
    """Writes a line into the hub's log for each poll that is over."""

    async def poll(self) -> int | None:
        result: int | None = await super().poll()
        self.log.info("Polled %s: %s", self._log_name, result)
        return result
