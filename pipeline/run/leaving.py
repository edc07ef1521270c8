"""On the scheduler of somebody else's cluster: takes a run's work off the workers when its driver is gone for good.

A driver that ends takes it off by itself. One that is killed cannot: without this, its network and its open volumes
would stay in every worker until the cluster is started anew.
"""

from __future__ import annotations

from typing import Any

from distributed import Scheduler, SchedulerPlugin

GRACE = 60.0
"""Seconds in which a driver that lost its connection may come back."""


class LeaveAlone(SchedulerPlugin):
    """Watches one client.

    Args:
        client: id of the driver's client.
        work: name of the worker plugin that holds its work.
        grace: seconds that the client may be gone for.
    """

    def __init__(self, client: str, work: str, grace: float = GRACE) -> None:
        self.name = f"{work}-left"
        self._client = client
        self._work = work
        self._grace = grace

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Look again after a while, if it is the driver that has gone."""
        if client == self._client:
            scheduler.loop.call_later(self._grace, scheduler.loop.add_callback, self._leave, scheduler)

    async def _leave(self, scheduler: Any) -> None:
        if self._client in scheduler.clients:  # it is back
            return
        if self._work in scheduler.worker_plugins:
            await scheduler.unregister_worker_plugin(comm=None, name=self._work)
        if self.name in scheduler.plugins:
            scheduler.remove_plugin(name=self.name)
