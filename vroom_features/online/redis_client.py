"""Clients of Redis by URL: one server, or a Redis Cluster as ``redis+cluster://host:port``.

A cluster's client follows its nodes by itself.  Messages need no such client: a cluster sends what is
published on one node to all, so publishers and subscribers use the node of the URL.
"""

import re
from collections.abc import Iterable
from typing import Any, cast

import redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException

from vroom_features.addresses import ServiceAddress

_CLUSTER = "+cluster://"
HINTS = {
    "^NoPermission|ACL failure": "give the user of VROOM_REDIS_URL this right, and read and write access to"
    " the keys and channels of VROOM_REDIS_PREFIX",
    "^Authentication|invalid username": "set the user name and password in VROOM_REDIS_URL",
    "^(Moved|Ask|ClusterDown)|cluster mode$": "a node of a Redis Cluster answers; write redis+cluster://host:port",
    "Cluster mode is not enabled|Cluster support disabled": "it is no Redis Cluster; write redis://host:port",
    "Redis Cluster cannot be connected": "start a node of the cluster, or name another in VROOM_REDIS_URL",
    "^ReadOnly": "a replica answers; VROOM_REDIS_URL must name the primary",
    "^OutOfMemory": "Redis is full; raise its maxmemory",
    "^BusyLoading": "it reads its data since it started; this ends by itself",
    "index is out of range": "the number of the database in VROOM_REDIS_URL is too high",
    'got "H"|got "<"': "a web server answers; are host and port of VROOM_REDIS_URL right?",
    r'got "\\x15"|closed by server|reset by peer': "if it speaks TLS, write rediss:// in VROOM_REDIS_URL",
    "SSL|Timeout connecting": "if it speaks no TLS, write redis:// in VROOM_REDIS_URL",
}
"""What to do about an error, by a pattern of its class and text."""


class ClusterClient(RedisCluster):
    """redis-py's client, with errors that are all ``RedisError``, as those of one server."""

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:  # as redis-py declares it
        try:
            return super().execute_command(*args, **kwargs)  # type: ignore[no-untyped-call]  # redis-py's own
        except RedisClusterException as exc:
            raise redis.ConnectionError(str(exc)) from exc


RedisClient = redis.Redis | ClusterClient


def connect_redis(url: str | ServiceAddress, **options: Any) -> RedisClient:  # as redis-py takes them
    """Return a client; a cluster's connects now, one server's at its first command."""
    address = ServiceAddress(url)
    if _CLUSTER not in address.url:
        return redis.Redis.from_url(address.url, **options)
    try:
        return cast("ClusterClient", ClusterClient.from_url(node_url(address), **options))
    except RedisClusterException as exc:
        raise redis.ConnectionError(describe(exc)) from exc


def node_url(url: str | ServiceAddress) -> str:
    """Return the whole URL of the one server that messages go through.

    Examples
    --------
    >>> node_url("redis+cluster://10.0.0.5:6379")
    'redis://10.0.0.5:6379'
    """
    return ServiceAddress(url).url.replace(_CLUSTER, "://", 1)


def describe(error: Exception) -> str:
    """Return an error of Redis with what to do about it, without user and address.

    Examples
    --------
    >>> describe(redis.ConnectionError("Error 111 connecting to 10.0.0.5:6379. Connection refused."))
    'Error 111 connecting to the server. Connection refused.'
    """
    text = re.sub(r"\bUser \S+ has", "its user has", re.sub(r" script:[^:]* on @.*", "", str(error)))
    text = re.sub(r"[\w.\[\]:-]*[\w\]]:\d+\b", "the server", text)
    kind = f"{type(error).__name__}: {text}"
    hint = next((hint for pattern, hint in HINTS.items() if re.search(pattern, kind)), "")
    return text if hint in text else f"{text}; {hint}"


def memory_info(client: RedisClient) -> list[dict[str, Any]]:
    """Return what the server, or each node of a cluster, says of its memory; nothing if it does not."""
    try:
        if isinstance(client, ClusterClient):
            return list(client.info("memory", target_nodes=ClusterClient.ALL_NODES).values())
        return [client.info("memory")]
    except redis.RedisError:
        return []


def memory_warning(nodes: Iterable[dict[str, Any]]) -> str:
    """Return that rows may be lost when Redis is full; empty if it keeps them."""
    policies = {node.get("maxmemory_policy", "noeviction") for node in nodes} - {"noeviction"}
    if not policies:
        return ""
    return f"Redis drops keys when it is full (maxmemory-policy {policies.pop()}); set it to noeviction"
