"""Metrics, health and a status page over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from html import escape

from aiohttp import web
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gateway.admin.metrics import WorkerCollector
from gateway.admin.version import version_line
from gateway.admin.views import Views

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STOP_S = 1.0
_KEEPALIVE_S = 20.0

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Postgres routing gateway</title>
<h1>Postgres routing gateway</h1>
<p>{version}</p>
<p>State: {state}. Clients: {clients}.</p>
<ul>
<li><a href="/metrics">/metrics</a> figures for Prometheus
<li><a href="/healthz">/healthz</a> 200 while the process answers
<li><a href="/readyz">/readyz</a> 200 when clients are welcome, else 503 and why
</ul>
<p>More with SHOW HELP in the console: psql -d {console}</p>
</html>
"""


class _One(Collector):
    """One metric that is there already."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


class HttpServer:
    """The pages of one worker, at the address that the settings name."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._runner: web.AppRunner | None = None
        self._worker = WorkerCollector(views)
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)

    async def start(self) -> None:
        """Listen, unless ``http.port`` is null. Raises OSError when the address can't be had."""
        http = self._views.context.settings.http
        if http.port is None:
            return
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=_KEEPALIVE_S,
            shutdown_timeout=_STOP_S,
        )
        await runner.setup()
        site = web.TCPSite(runner, http.host, http.port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise OSError(
                error.errno, f"HTTP can't listen on {http.host}:{http.port}: {_reason(error)}"
            ) from error
        self._runner = runner

    async def stop(self) -> None:
        """Close; what is being answered gets a moment."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port really bound; None when HTTP is off."""
        if self._runner is None or not self._runner.addresses:
            return None
        host, port = self._runner.addresses[0][:2]
        return host, port

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=1024)
        application.router.add_get("/", self._page)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthy)
        application.router.add_get("/readyz", self._ready)
        return application

    async def _page(self, request: web.Request) -> web.Response:
        context = self._views.context
        text = _PAGE.format(
            version=escape(version_line()),
            state=escape(self._views.not_ready() or "ready"),
            clients=len(context.registry),
            console=escape(context.settings.console.database),
        )
        return web.Response(text=text, content_type="text/html")

    async def _metrics(self, request: web.Request) -> web.Response:
        parts: list[bytes] = []
        for family in self._worker.collect():
            parts.append(generate_latest(_One(family)))
            await asyncio.sleep(
                0
            )  # with many pools the whole page takes long: traffic has its turn
        # Figures of the process are read from /proc, descriptor by descriptor: not in the loop.
        parts.append(await asyncio.to_thread(generate_latest, self._process))
        return web.Response(body=b"".join(parts), headers={"Content-Type": _METRICS_TYPE})

    async def _healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, request: web.Request) -> web.Response:
        reason = self._views.not_ready()
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)


def _reason(error: OSError) -> str:
    """Why an address can't be had, without asyncio's own words around it."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)  # a name that can't be looked up has a code of its own
