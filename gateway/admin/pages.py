"""What the HTTP pages show, of one worker or of all of them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Protocol

from prometheus_client import Metric

from gateway.admin.metrics import WorkerCollector
from gateway.admin.views import Views
from gateway.settings.model import Settings


class Pages(Protocol):
    """What the pages read."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""

    def families(self) -> AsyncIterator[Metric]:
        """All metrics as they are now, but those of processes."""

    def processes(self) -> list[int]:
        """The ids of the gateway's processes, ours first."""

    async def not_ready(self) -> str:
        """Why no client should be sent here now; empty when all is well."""

    def clients(self) -> int:
        """How many are connected."""


class WorkerPages:
    """The pages of a worker that is alone."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._collector = WorkerCollector(views)

    @property
    def settings(self) -> Settings:
        return self._views.context.settings

    async def families(self) -> AsyncIterator[Metric]:
        for family in self._collector.collect():
            yield family

    def processes(self) -> list[int]:
        return [os.getpid()]

    async def not_ready(self) -> str:
        return self._views.not_ready()

    def clients(self) -> int:
        return len(self._views.context.registry)
