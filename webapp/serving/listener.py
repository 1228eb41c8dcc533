"""The thread that keeps a worker on the champion.

A Redis message is a hint that the champion changed; the registry is the truth.  The thread reads the registry
when it starts (after it subscribed, so that it misses no promotion), on every message, after every reconnect,
and every few seconds in any case, also while messages come without end.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.exceptions import RedisError
from redis.retry import Retry

from vroom_features.messages import MessageError
from vroom_features.online.redis_client import describe, node_url
from vroom_features.settings import Settings
from vroom_model.errors import BrokenModelError, VroomModelError
from vroom_model.messages import ModelPromoted
from vroom_model.records import ChampionRef
from vroom_model.registry.model_cache import ModelCache
from vroom_model.registry.registry import Registry
from vroom_model.serving.predictor import Predictor
from webapp import observability as metrics
from webapp.services import now
from webapp.serving.current_model import LoadedModel, ModelSlot

logger = logging.getLogger(__name__)

RECONNECT_INTERVAL_S = 1.0
REDIS_TIMEOUT_S = 1.0
PING_INTERVAL_S = 2
UNANSWERED_MAX = 3
"""A connection with more unanswered pings is closed; TCP would wait for a quarter of an hour."""


class ModelListener(threading.Thread):
    """Follow the champion: subscribe, read the registry, load and check the new model, swap.

    ``on_swap`` is called after every swap.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        cache: ModelCache,
        slot: ModelSlot,
        *,
        on_swap: Callable[[], None],
    ) -> None:
        super().__init__(name="model-listener", daemon=True)
        self._registry = registry
        self._cache = cache
        self._slot = slot
        self._channel = ModelPromoted.channel_of(settings.redis_prefix)
        self._on_swap = on_swap
        self._poll_interval_s = settings.web_poll_seconds
        self._redis = redis.Redis.from_url(
            node_url(settings.redis),
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=PING_INTERVAL_S,
        )
        self._stopping = threading.Event()
        self._next_poll = 0.0
        self._is_refresh_due = False
        self._refreshing = threading.Lock()
        self._remembered: ChampionRef | None = None
        self.is_subscribed = False
        self.problem = ""

    def stop(self) -> None:
        self._stopping.set()
        if self.is_alive():
            self.join(timeout=10)
        self._redis.close()

    def refresh(self) -> None:
        """Read the registry and, if another model is champion, load it and swap it in.

        If anything fails, the current model stays and the slot has the reason.
        """
        with self._refreshing:
            try:
                champion = self._registry.champion()
                self._follow(champion.ref if champion else None)
                metrics.REGISTRY_READS.labels("ok").inc()
            except VroomModelError as exc:
                metrics.REGISTRY_READS.labels("failed").inc()
                problem = str(exc)
                if isinstance(exc, BrokenModelError):  # without the folder's name, which differs each time
                    problem = f"the champion cannot be used: {exc.problem}"
                if problem != self._slot.problem:
                    logger.warning("champion not followed: %s", problem)
                self._slot.problem = problem
                if self._slot.current is None:
                    self._restore()
            finally:
                self._slot.settled.set()

    def _follow(self, ref: ChampionRef | None) -> None:
        serving = self._slot.current
        if ref is None:  # that MLflow is empty does not say that nothing may serve
            self._slot.problem = (
                "the registry has no champion" if serving or self._cache.last_good() else None
            )
            if serving is None:
                self._restore()
            return
        if serving is None or serving.ref != ref:
            self._load(ref)
        self._slot.problem = None
        if self._remembered != ref:
            self._cache.remember(ref)
            self._remembered = ref

    def _load(self, ref: ChampionRef) -> None:
        read = partial(Predictor.load, version=ref.version, manifest_sha256=ref.manifest_sha256)
        broken = metrics.SWAPS.labels("broken").count_exceptions(BrokenModelError)
        with metrics.SWAP_TIME.time(), broken:
            predictor = self._cache.load(ref, read)
            model = LoadedModel(predictor=predictor, ref=ref, since=now())
            previous = self._slot.swap(model)
        metrics.SWAPS.labels("ok").inc()
        metrics.MODEL_VERSION.set(ref.version)
        metrics.MODEL_SINCE.set(model.since.timestamp())
        logger.info(
            "champion swapped model_version=%s previous=%s", ref.version, previous and previous.version
        )
        self._on_swap()

    def _restore(self) -> None:
        """Load the last model that served on this machine, while the registry names none."""
        ref = self._cache.last_good()
        if ref is None:
            return
        problem = self._slot.problem
        try:
            self._load(ref)
        except VroomModelError as exc:
            logger.warning("last good model not restored model_version=%s: %s", ref.version, exc)
        self._slot.problem = problem

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._redis.pubsub() as pubsub:  # type: ignore[no-untyped-call]  # of redis-py
                    self._listen(pubsub)
            except RedisError as exc:
                if (problem := describe(exc)) != self.problem:
                    logger.warning("no messages are received, the registry is still read: %s", problem)
                self.problem = problem
                self._set_subscribed(False)
                self._refresh_when_due()
                self._stopping.wait(RECONNECT_INTERVAL_S)
            except Exception:
                logger.exception("unexpected error in the listener; it continues")
                self._stopping.wait(RECONNECT_INTERVAL_S)

    def _listen(self, pubsub: PubSub) -> None:
        """Receive messages until the connection breaks."""
        pubsub.subscribe(self._channel)
        while not self._stopping.is_set():
            until_poll_s = min(1.0, max(0.0, self._next_poll - time.monotonic()))
            message = pubsub.get_message(timeout=until_poll_s if self.is_subscribed else REDIS_TIMEOUT_S)
            if pubsub.health_check_response_counter > UNANSWERED_MAX:
                raise redis.TimeoutError("no answer to PING")
            if not self.is_subscribed and message is None:
                raise redis.TimeoutError("no answer to SUBSCRIBE")
            if message is not None and self._may_be_promotion(message):
                self._is_refresh_due = True
                is_more = pubsub.connection is not None and pubsub.connection.can_read(timeout=0)
                if is_more and time.monotonic() < self._next_poll:
                    continue  # one read of the registry answers all messages before it
            self._refresh_when_due()

    def _may_be_promotion(self, message: dict[str, Any]) -> bool:
        if message["type"] == "subscribe":  # the first one, and one after each reconnect
            self._set_subscribed(True)
            self.problem = ""
            return True
        if message["type"] != "message":
            return False
        metrics.LAST_MESSAGE.set_to_current_time()
        try:
            is_ours = ModelPromoted.decode(message["data"]).model_name == self._registry.model_name
        except MessageError as exc:
            metrics.MESSAGES.labels("garbled").inc()
            logger.warning("message ignored: %s", exc)
            return False
        metrics.MESSAGES.labels("promoted" if is_ours else "other_model").inc()
        return is_ours

    def _set_subscribed(self, is_subscribed: bool) -> None:
        self.is_subscribed = is_subscribed
        metrics.SUBSCRIBED.set(is_subscribed)

    def _refresh_when_due(self) -> None:
        if self._is_refresh_due or time.monotonic() >= self._next_poll:
            self.refresh()
            self._is_refresh_due = False
            self._next_poll = time.monotonic() + self._poll_interval_s
