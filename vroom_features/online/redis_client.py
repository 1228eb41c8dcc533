"""Clients of Redis by URL: one server, or a Redis Cluster as ``redis+cluster://host:port``.

A cluster's client follows its nodes by itself.  Messages need no such client: a cluster sends what is
published on one node to all, so publishers and subscribers use the node of the URL.
"""

from typing import Any, cast

import redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException

from vroom_features.addresses import ServiceAddress

_CLUSTER = "+cluster://"


class ClusterClient(RedisCluster):
    """redis-py's client, with errors that are all ``RedisError``, as those of one server."""

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:  # as redis-py declares it
        try:
            return super().execute_command(*args, **kwargs)  # type: ignore[no-untyped-call]  # redis-py's own
        except RedisClusterException as exc:
            raise redis.ConnectionError(str(exc)) from exc


RedisClient = redis.Redis | ClusterClient


def connect_redis(url: str | ServiceAddress, **options: Any) -> RedisClient:  # as redis-py takes them
    """Return a client; a cluster's connects now, one server's at its first command.

    Raises
    ------
    redis.RedisError
        If no node of a cluster answers.
    """
    address = ServiceAddress(url)
    if _CLUSTER not in address.url:
        return redis.Redis.from_url(address.url, **options)
    try:
        return cast("ClusterClient", ClusterClient.from_url(node_url(address), **options))
    except RedisClusterException as exc:
        raise redis.ConnectionError(str(exc)) from exc


def node_url(url: str | ServiceAddress) -> str:
    """Return the whole URL of the one server that messages go through.

    Examples
    --------
    >>> node_url("redis+cluster://10.0.0.5:6379")
    'redis://10.0.0.5:6379'
    """
    return ServiceAddress(url).url.replace(_CLUSTER, "://", 1)


def used_memory(client: RedisClient) -> int:
    """Return the bytes that the server, or all nodes of the cluster, hold in memory."""
    if isinstance(client, ClusterClient):
        nodes: dict[str, dict[str, int]] = client.info("memory", target_nodes=ClusterClient.ALL_NODES)
        return sum(node["used_memory"] for node in nodes.values())
    server: dict[str, int] = client.info("memory")
    return server["used_memory"]
