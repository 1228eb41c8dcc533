"""Messages from flows to the web workers and to open pages."""

import logging

import redis

from vroom_features.messages import Message
from vroom_features.online.redis_client import node_url
from vroom_features.settings import Settings

logger = logging.getLogger(__name__)
REDIS_TIMEOUT_S = 2.0


def publish(settings: Settings, message: Message) -> None:
    """Send a message.  It is a hint: with Redis away, the workers read the registry a few seconds later."""
    with redis.Redis.from_url(node_url(settings.redis), socket_timeout=REDIS_TIMEOUT_S) as client:
        try:
            client.publish(message.channel, message.encode())
        except redis.RedisError as exc:
            logger.warning("message not sent channel=%s: %s", message.channel, exc)
