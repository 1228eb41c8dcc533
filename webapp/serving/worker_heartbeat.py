"""The thread that tells Redis that a worker lives, syncs the online store, and finishes promotions.

While Redis is away, saves go on; what the online store missed is made good as soon as Redis answers again,
also when it comes back empty.  A promotion whose process died half-way is finished.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime

import redis
from pydantic import BaseModel, ValidationError
from redis.exceptions import RedisError

from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import VroomFeaturesError
from vroom_features.messages import PREFIX, VehicleMaterialized
from vroom_features.online.redis_client import RedisClient
from vroom_features.online.store import OnlineStore
from vroom_features.online.sync import sync
from vroom_model.errors import VroomModelError
from vroom_model.messages import ModelLoaded
from webapp import metrics
from webapp.services import now
from webapp.serving.model_slot import LoadedModel, ModelSlot

logger = logging.getLogger(__name__)

BEAT_INTERVAL_S = 5.0
RETRY_INTERVAL_S = 1.0
BEAT_TTL_S = 15
KEY = f"{PREFIX}:worker:"


class WorkerState(BaseModel):
    """What a worker says of itself."""

    worker: str
    model_version: int | None
    since: datetime | None
    problem: str | None
    seen_at: datetime


class WorkerHeartbeat:
    """Tell Redis that this worker lives, and keep the online store up to date.

    Parameters
    ----------
    client : redis.Redis or ClusterClient
        With short time-outs.
    source, online : SourceStore, OnlineStore
        The online store is synced with each beat, for another program may have written to the database; in
        full only when this worker starts or the store missed something: two servers that share a Redis by
        mistake do not empty it in turns.
    finish_promotion : callable
        Finishes a change of champion that was cut off; it is called with each beat.
    """

    def __init__(
        self,
        client: RedisClient,
        slot: ModelSlot,
        *,
        model_name: str,
        worker: str,
        source: SourceStore,
        online: OnlineStore,
        finish_promotion: Callable[[], None],
    ) -> None:
        self._redis = client
        self._slot = slot
        self._model_name = model_name
        self._worker = worker
        self._announced: LoadedModel | None = None
        self._source = source
        self._online = online
        self._finish_promotion = finish_promotion
        self._promotion_problem = ""
        self._stopping = False
        self._wake = threading.Event()
        self._needs_resync = True
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self.is_redis_up = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and take this worker off the roster."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)
        with suppress(RedisError):  # the key expires by itself
            self._redis.delete(KEY + self._worker)

    def mark_stale(self) -> None:
        """Note that the online store missed something; requests leave Redis alone until it answers again."""
        self._needs_resync = True
        self._set_redis_up(False)
        self._wake.set()

    def beat_soon(self) -> None:
        """Tell the others of a change without waiting for the next beat."""
        self._wake.set()

    def workers(self) -> Iterator[WorkerState]:
        """Yield the state of every worker that lives.

        Raises
        ------
        redis.RedisError
            If Redis is away; it is not asked while it is known to be.
        """
        if not self.is_redis_up:
            raise redis.ConnectionError("Redis did not answer, and is left alone until it does")
        try:
            keys = sorted(self._redis.scan_iter(match=f"{KEY}*", count=1000))
            values = [self._redis.get(key) for key in keys]  # of a cluster, each may be on another node
        except RedisError:
            self.mark_stale()
            raise
        for value in values:
            if value is not None:
                try:
                    yield WorkerState.model_validate_json(value)
                except ValidationError:
                    logger.warning("a worker's state cannot be read")

    def _state(self) -> WorkerState:
        served = self._slot.current
        return WorkerState(
            worker=self._worker,
            model_version=served.version if served else None,
            since=served.since if served else None,
            problem=self._slot.problem,
            seen_at=now(),
        )

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            for duty in (self._tend_the_store, self._tend_promotions):
                try:
                    duty()
                except Exception:
                    logger.exception("heartbeat met the unexpected and lives on")
            self._wake.wait(BEAT_INTERVAL_S if self.is_redis_up else RETRY_INTERVAL_S)

    def _tend_the_store(self) -> None:
        try:
            self._beat()
        except (RedisError, VroomFeaturesError) as exc:
            if self.is_redis_up:
                logger.warning("online store away, answering from the database: %s", exc)
            self._set_redis_up(False)

    def _beat(self) -> None:
        before = self._redis.set(KEY + self._worker, self._state().model_dump_json(), ex=BEAT_TTL_S, get=True)
        served = self._slot.current
        if served is not None and served is not self._announced:
            loaded = ModelLoaded(model_name=self._model_name, version=served.version, worker=self._worker)
            self._redis.publish(loaded.channel, loaded.encode())
            self._announced = served
        # A beat that finds its own key gone has met a Redis that was emptied, or was away for long.
        if before is None:
            self._needs_resync = True
        full, self._needs_resync = self._needs_resync, False  # first: what is missed meanwhile counts
        try:
            report = sync(self._source, self._online, as_of=now(), full=full)
        except BaseException:
            self._needs_resync = True
            raise
        if report.num_changed:
            metrics.CAUGHT_UP.inc(report.num_changed)
            logger.info("online store caught up num_rows=%s", report.num_changed)
            message = VehicleMaterialized(vehicle_ids=(), materialized_at=now())
            self._redis.publish(message.channel, message.encode())
        self._set_redis_up(not self._needs_resync)

    def _tend_promotions(self) -> None:
        """Finish what was cut off; what goes wrong at each try is said once."""
        problem = ""
        try:
            self._finish_promotion()
        except (VroomModelError, VroomFeaturesError, RedisError) as exc:
            problem = str(exc)
            if problem != self._promotion_problem:
                logger.warning("a promotion that was cut off waits to be finished: %s", problem)
        self._promotion_problem = problem

    def _set_redis_up(self, is_up: bool) -> None:
        self.is_redis_up = is_up
        metrics.ONLINE_UP.set(is_up)
