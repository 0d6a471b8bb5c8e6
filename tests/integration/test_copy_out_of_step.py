"""A client that sends a command into its COPY: the server ends the connection, and says why."""

from __future__ import annotations

from gateway.protocol import messages
from gateway.settings.dsn import parse
from tests.conftest import FreshDatabase, Provisioned
from tests.fault_proxy import fault_proxy
from tests.running import changed, moved, past_the_gateway, place, running
from tests.wire import Wire

QUERY = messages.query("SELECT 1")
GOODBYE_S = 0.3
"""How much later than its last words the server's end is heard."""


async def test_what_is_sent_behind_the_end_is_not_told_a_second_one(
    provisioned: Provisioned, fresh_database: FreshDatabase
) -> None:
    url = await fresh_database("out_of_step")
    await past_the_gateway(url, "CREATE TABLE sink (a int)")
    dsn = parse(url)
    async with fault_proxy(dsn.host, dsn.port) as proxy:
        settings = changed(moved(provisioned.settings, "LAW", proxy.url(url)), pool={"max": 2})
        async with running(settings) as worker:
            client = await Wire.logged_in(place(worker, provisioned.owner_on("law")))
            client.send(messages.query("COPY sink FROM STDIN"))
            await client.until("G")
            proxy.latency_s = GOODBYE_S
            client.send(QUERY, messages.SYNC)
            heard = await client.until("E", 2)
            client.send(messages.SYNC)
            heard += await client.until("")
            await client.close()
    said = [(one.fields["C"], one.fields["R"]) for one in heard if one.tag == "E"]
    assert said == [("08P01", "CopyGetData"), ("08P01", "PostgresMain")]
