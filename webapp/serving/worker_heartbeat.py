"""The thread that registers this worker in Redis, syncs the online store, and finishes promotions.

While Redis is not reachable, saves go on.  The online store is synced as soon as Redis answers again, also
when it comes back empty.  A promotion whose process was killed half-way is finished.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import ParamSpec, TypeVar

from pydantic import BaseModel, ValidationError
from redis.exceptions import NoPermissionError, RedisError

from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import OnlineStoreError, VroomFeaturesError
from vroom_features.messages import Message, VehicleMaterialized
from vroom_features.online.redis_client import RedisClient
from vroom_features.online.store import BEAT_TTL_S, OnlineStore, translated
from vroom_features.online.sync import sync
from vroom_model.errors import VroomModelError
from vroom_model.messages import ModelLoaded
from webapp.observability import CAUGHT_UP, ONLINE_UP
from webapp.services import now
from webapp.serving.current_model import LoadedModel, ModelSlot

logger = logging.getLogger(__name__)

BEAT_INTERVAL_S = 5.0
RETRY_INTERVAL_S = 1.0
P = ParamSpec("P")
R = TypeVar("R")


class WorkerState(BaseModel):
    """What a worker reports of itself."""

    worker: str
    model_version: int | None
    since: datetime | None
    problem: str | None
    seen_at: datetime


class WorkerHeartbeat(threading.Thread):
    """Register this worker in Redis, and keep the online store up to date.

    With each beat the store is synced, for another program may have written to the database, and a change of
    champion that was cut off is finished.  The store is claimed first: two servers that share a Redis by
    mistake do not empty it in turns.
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
        super().__init__(name="heartbeat", daemon=True)
        self._redis = client
        self._key = f"{online.prefix}:worker:"
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
        self.is_redis_up = False
        self.problem = "it was not called yet"
        self.refused: dict[str, str] = {}
        """What Redis does not let its user do, by the call; the rest goes on."""

    def stop(self) -> None:
        """Stop the thread, and remove this worker from Redis."""
        self._stopping = True
        self._wake.set()
        if self.is_alive():
            self.join(timeout=10)
        with suppress(RedisError):  # the key expires by itself
            self._redis.delete(self._key + self._worker)

    def beat_soon(self) -> None:
        """Report a change without waiting for the next beat."""
        self._wake.set()

    def mark_stale(self) -> None:
        """Record that the online store missed something; Redis is not called before it answers a beat."""
        self._needs_resync = True
        self.problem = self.problem or "it missed a change"
        self._set_redis_up(False)
        self._wake.set()

    def try_redis(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """Return what a call to the store returns; None while Redis cannot be used, or forbids this call."""
        if not self.is_redis_up:
            return None
        name = getattr(call, "__name__", "")
        try:
            answer = call(*args, **kwargs)
        except OnlineStoreError as exc:
            if isinstance(exc.__cause__, NoPermissionError):
                if name not in self.refused:
                    logger.warning("not allowed, the rest goes on: %s", exc)
                self.refused[name] = str(exc)
            else:
                logger.warning("online store not in use: %s", exc)
                self.problem = str(exc)
                self.mark_stale()
            return None
        self.refused.pop(name, None)
        return answer

    def publish(self, message: Message) -> bool:
        """Send a message; False if Redis did not take it, so that its receivers find out by polling."""
        return self.try_redis(self._online.publish, message) is not None

    def workers(self) -> list[WorkerState] | None:
        """Return the state of every running worker, by name; None while they cannot be read."""
        values = self.try_redis(self._read_workers)
        if values is None:
            return None
        states = []
        for value in values:
            with suppress(ValidationError):  # expired meanwhile, or not ours
                states.append(WorkerState.model_validate_json(value or b""))
        return sorted(states, key=lambda state: state.worker)

    def _read_workers(self) -> list[bytes | str | None]:
        with translated():
            keys = self._redis.scan_iter(match=f"{self._key}*", count=1000)
            return [self._redis.get(key) for key in keys]  # one by one: they may be on several nodes

    def run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            for duty in (self._sync_store, self._finish_promotions):
                try:
                    duty()
                except Exception:
                    logger.exception("unexpected error in the heartbeat; it continues")
            self._wake.wait(BEAT_INTERVAL_S if self.is_redis_up else RETRY_INTERVAL_S)

    def _sync_store(self) -> None:
        try:
            self._beat()
        except VroomFeaturesError as exc:
            is_redis = isinstance(exc, OnlineStoreError)
            problem = str(exc) if is_redis else "the source database cannot be read"
            if problem != self.problem:
                logger.warning("online store not in use, answering from the database: %s", exc)
            self.problem = problem
            self._set_redis_up(False)

    def _beat(self) -> None:
        self._online.refuse_another(self._source.last_change().database_id, claim=True)
        model = self._slot.current
        state = WorkerState(
            worker=self._worker,
            model_version=model.version if model else None,
            since=model.since if model else None,
            problem=self._slot.problem,
            seen_at=now(),
        )
        with translated():
            key = self._key + self._worker
            before = self._redis.set(key, state.model_dump_json(), ex=BEAT_TTL_S, get=True)
        # If this worker's own key is gone, Redis was emptied or not reachable for long.
        if before is None:
            self._needs_resync = True
        full = self._needs_resync
        self._needs_resync = False  # before the sync: what is missed meanwhile counts
        try:
            report = sync(self._source, self._online, as_of=now(), full=full)
        except BaseException:
            self._needs_resync = True
            raise
        if not self._needs_resync:
            if not self.is_redis_up:
                self.refused.clear()
            self.problem = ""
            self._set_redis_up(True)
        if report.num_changed:
            CAUGHT_UP.inc(report.num_changed)
            logger.info("online store caught up num_rows=%s", report.num_changed)
            self.publish(VehicleMaterialized(materialized_at=now()))
        if model is not None and model is not self._announced:
            loaded = ModelLoaded(model_name=self._model_name, version=model.version, worker=self._worker)
            self._announced = model if self.publish(loaded) else None

    def _finish_promotions(self) -> None:
        problem = ""
        try:
            self._finish_promotion()
        except (VroomModelError, VroomFeaturesError) as exc:
            problem = str(exc)
            if problem != self._promotion_problem:  # logged once, not at each beat
                logger.warning("a promotion that was interrupted is not finished yet: %s", problem)
        self._promotion_problem = problem

    def _set_redis_up(self, is_up: bool) -> None:
        self.is_redis_up = is_up
        ONLINE_UP.set(is_up)
