"""Metrics, health and a status page over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from functools import partial
from html import escape

from aiohttp import web
from prometheus_client import Metric, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gateway.admin.pages import Pages
from gateway.admin.sums import merged, plain
from gateway.admin.version import version_line

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
    """The pages of a gateway, at the address that the settings name."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, unless ``http.port`` is null. Raises OSError when the address can't be had."""
        http = self._pages.settings.http
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
        text = _PAGE.format(
            version=escape(version_line()),
            state=escape(await self._pages.not_ready() or "ready"),
            clients=self._pages.clients(),
            console=escape(self._pages.settings.console.database),
        )
        return web.Response(text=text, content_type="text/html")

    async def _metrics(self, request: web.Request) -> web.Response:
        parts: list[bytes] = []
        async for family in self._pages.families():
            parts.append(generate_latest(_One(family)))
            await asyncio.sleep(
                0
            )  # with many pools the whole page takes long: traffic has its turn
        # Figures of the process are read from /proc, descriptor by descriptor: not in the loop.
        processes = await asyncio.to_thread(_of_processes, self._pages.processes())
        parts += [generate_latest(_One(family)) for family in processes]
        return web.Response(body=b"".join(parts), headers={"Content-Type": _METRICS_TYPE})

    async def _healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, request: web.Request) -> web.Response:
        reason = await self._pages.not_ready()
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)


def _of_processes(pids: list[int]) -> list[Metric]:
    """Memory, processor time and descriptors of processes, added up; those that have gone aside."""
    found = [ProcessCollector(pid=partial(int, pid), registry=None).collect() for pid in pids]
    return list(merged([plain(family) for family in families] for families in found))


def _reason(error: OSError) -> str:
    """Why an address can't be had, without asyncio's own words around it."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)  # a name that can't be looked up has a code of its own
