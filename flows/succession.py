"""What promotion and rollback share: the succession of champions, and the message to the web workers."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager

import redis

from vroom_features.messages import Message
from vroom_features.settings import Settings
from vroom_features.stores.source import SourceStore
from vroom_model.ledger import Ledger
from vroom_model.registry import Registry
from vroom_model.succession import Succession

logger = logging.getLogger(__name__)
REDIS_TIMEOUT_S = 2.0


@contextmanager
def open_succession(settings: Settings) -> Iterator[Succession]:
    """Open the registry, the ledger and the way to the web workers."""
    with (
        closing(SourceStore.open(settings.source_database)) as source,
        Registry(settings.mlflow, settings.model_name) as registry,
    ):
        yield Succession(
            registry,
            Ledger(source.engine, settings.model_name),
            publish=lambda message: publish(settings, message),
            cache_dir=settings.home / "models",
        )


def publish(settings: Settings, message: Message) -> None:
    """Send a message.  It is a hint: with Redis away, the workers read the registry a few seconds later."""
    with redis.Redis.from_url(settings.redis, socket_timeout=REDIS_TIMEOUT_S) as client:
        try:
            client.publish(message.channel, message.encode())
        except redis.RedisError as exc:
            logger.warning("message not sent channel=%s: %s", message.channel, exc)
