"""Clients of Redis by URL: one server, or a Redis Cluster as ``redis+cluster://host:port``.

A cluster's client follows its nodes by itself.  Messages need none: what is published on one node is heard on
all, so publishers and subscribers speak to the node that the URL names.
"""

from typing import Any, cast

import redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException

from vroom_features.addresses import ServiceAddress

_CLUSTER = "+cluster://"


class ClusterClient(RedisCluster):
    """redis-py's client, whose every error is a ``RedisError``, as one server's are."""

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:  # as redis-py declares it
        """Run a command on the node that has its key."""
        try:
            return super().execute_command(*args, **kwargs)  # type: ignore[no-untyped-call]  # redis-py's own
        except RedisClusterException as exc:
            raise redis.ConnectionError(str(exc)) from exc


RedisClient = redis.Redis | ClusterClient


def connect_redis(url: str | ServiceAddress, **options: Any) -> RedisClient:  # as redis-py takes them
    """Return a client; to a cluster it connects now, to one server at its first command.

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
