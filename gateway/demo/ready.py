"""The ready file: what a program outside needs to use a running demo."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gateway.demo.clusters import Clusters
from gateway.demo.postgres import HOST
from gateway.demo.seed import SeedLogin
from gateway.router.topology import Endpoint, Role, Shard, Snapshot
from gateway.settings.shards import HUB


def ready_document(
    *,
    port: int,
    http_port: int,
    snapshot: Snapshot,
    clusters: Clusters,
    logins: Sequence[SeedLogin],
    pids: dict[str, int],
) -> dict[str, Any]:
    """The ready file's content. Holds passwords; the endpoints' URLs are the superuser's.

    ``pids["gateway"]`` is the process that takes signals.
    """
    return {
        "gateway": {
            "host": HOST,
            "port": port,
            "http_port": http_port,
            "console_database": snapshot.console_database,
        },
        "logins": [_login(login) for login in logins],
        "endpoints": list(_endpoints(snapshot, clusters)),
        "pids": pids,
    }


def _login(login: SeedLogin) -> dict[str, str | None]:
    return {
        "kind": login.kind.value,
        "user": login.user,
        "password": login.password,
        "database": login.database,
        "owner": login.owner,
        "industry": login.industry,
        "shard": login.shard,
    }


def _endpoints(snapshot: Snapshot, clusters: Clusters) -> Iterable[dict[str, str | None]]:
    for shard in (shard for shard in snapshot.shards.values() if shard.name != HUB):
        for endpoint in (shard.primary, *shard.replicas):
            yield _endpoint(shard, endpoint, clusters)


def _endpoint(shard: Shard, endpoint: Endpoint, clusters: Clusters) -> dict[str, str | None]:
    cluster = clusters.primary if endpoint.role is Role.PRIMARY else clusters.standby
    return {
        "name": endpoint.name,
        "industry": shard.industry,
        "shard": shard.name,
        "role": endpoint.role.value,
        "dsn": cluster.dsn(endpoint.database),
    }
