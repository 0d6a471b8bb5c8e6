"""Asking a Patroni's REST API: whoever answers, and for how long an answer is believed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.health.cluster_watch import ClusterWatch
from gateway.health.patroni import Member, read_members
from tests.running import eventually
from tests.unit.health.test_patroni import ANSWER


class Api:
    """Stands for the REST APIs of a cluster; ``status`` is what it answers with."""

    def __init__(self) -> None:
        self.status = 200
        self.text = json.dumps(ANSWER)
        self.asked = 0
        self.heard: list[list[Member] | None] = []
        self.resolved: dict[str, frozenset[str]] = {}
        application = web.Application()
        application.router.add_get("/cluster", self._cluster)
        self.server = TestServer(application)

    async def _cluster(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=self.status, text=self.text)

    def news(self, members: list[Member] | None, resolved: dict[str, frozenset[str]]) -> None:
        self.heard.append(members)
        self.resolved = resolved

    def watch(self, *before: str) -> ClusterWatch:
        url = f"http://127.0.0.1:{self.server.port}"
        return ClusterWatch((*before, url), ["127.0.0.1"], 0.01, 1.0, 0.01, self.news)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    made = Api()
    await made.server.start_server()
    try:
        yield made
    finally:
        await made.server.close()


async def test_whoever_answers_is_asked_and_what_is_known_ends_with_the_answers(api: Api) -> None:
    watch = api.watch("http://127.0.0.1:1")
    watch.start()
    await eventually(lambda: len(api.heard) >= 2)
    assert api.heard[-1] == read_members(api.text.encode())
    assert api.resolved["127.0.0.1"] == {"127.0.0.1"}
    api.status = 503
    await eventually(lambda: api.heard[-1] is None)
    told, asked = len(api.heard), api.asked
    await eventually(lambda: api.asked > asked + 3)
    assert len(api.heard) == told, "told once"
    api.status = 200
    await eventually(lambda: api.heard[-1] is not None)
    watch.close()
    await watch.closed()


@pytest.mark.parametrize("text", ["", "[]", '{"members": 7}', "x" * 2_000_000], ids=len)
async def test_what_is_no_answer_is_none(api: Api, text: str) -> None:
    api.text = text
    watch = api.watch()
    watch.start()
    await eventually(lambda: api.asked > 4)
    watch.close()
    await watch.closed()
    assert set(api.heard) <= {None}
