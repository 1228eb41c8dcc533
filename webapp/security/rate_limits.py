"""Rate limits: counted in Redis for all workers together, in memory while Redis is not reachable."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import FixedWindowRateLimiter

from vroom_features.addresses import ServiceAddress
from vroom_features.messages import PREFIX
from vroom_features.settings import Settings

LIMIT_BEYOND_LOOPBACK = "6000 per minute"
GUESSES = (parse("10 per minute"), parse("50 per hour"))
"""How many wrong passwords or tokens one client may send."""
COUNTED = "vroom.counted"
REDIS_TIMEOUT_S = 0.5
REDIS_RETRY_S = 5.0
REFUSAL_S = 1.0
LEASES_PER_WINDOW = 100
NUM_CLIENTS_MAX = 10_000

Answer = TypeVar("Answer")


class Counter:
    """Counts that all workers share through Redis.

    While it is not reachable each worker counts for itself, and Redis is called again after ``retry_s``.
    """

    def __init__(
        self, redis_url: str | ServiceAddress, *, prefix: str = PREFIX, retry_s: float = REDIS_RETRY_S
    ) -> None:
        url = ServiceAddress(redis_url).url
        url = f"redis+{url}" if url.startswith("unix://") else url
        is_tls_cluster = url.startswith("rediss+cluster://")  # a scheme that the library does not know
        shared = storage_from_string(
            url.replace("rediss+", "redis+", 1) if is_tls_cluster else url,
            **({"ssl": True} if is_tls_cluster else {}),
            wrap_exceptions=True,
            key_prefix=f"{prefix}:limits",
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
        )
        self._shared = FixedWindowRateLimiter(shared)
        self._own = FixedWindowRateLimiter(MemoryStorage())
        self._retry_s = retry_s
        self._retry_at = 0.0

    def hit(self, item: RateLimitItem, *names: str, cost: int = 1) -> bool:
        """Count, and return whether it is within the limit."""
        return self._call(lambda limiter: limiter.hit(item, *names, cost=cost))

    def wait_s(self, item: RateLimitItem, *names: str) -> int:
        """Return after how many seconds the count starts again; 0 while the limit is not reached."""
        stats = self._call(lambda limiter: limiter.get_window_stats(item, *names))
        return 0 if stats.remaining else max(1, math.ceil(stats.reset_time - time.time()))

    def guess_wait_s(self, client: str) -> int:
        """Return after how many seconds a client may try a password or token; 0: now."""
        return max(self.wait_s(item, "guess", client) for item in GUESSES)

    def count_guess(self, client: str) -> None:
        for item in GUESSES:
            self.hit(item, "guess", client)

    def _call(self, count: Callable[[FixedWindowRateLimiter], Answer]) -> Answer:
        if time.monotonic() >= self._retry_at:
            try:
                return count(self._shared)
            except StorageError:
                self._retry_at = time.monotonic() + self._retry_s
        return count(self._own)


@dataclass(slots=True)
class _Lease:
    """How many forecasts this worker may still make for a client before it calls Redis again."""

    left: int
    until: float
    wait_s: int = 0
    """After how many seconds the client may try again, if nothing was left."""


class ClientLimit:
    """Count forecasts per client address: each vehicle of a batch, each answer of the forecast page.

    A forecast takes microseconds and a call to Redis a hundred, so a worker takes a hundredth of the limit at
    a time from the shared count.  Without a limit in the settings there is none on loopback, and a generous
    one elsewhere.
    """

    def __init__(self, settings: Settings, counter: Counter) -> None:
        rule = settings.web_predict_limit or ("" if settings.is_loopback else LIMIT_BEYOND_LOOPBACK)
        self._item = parse(rule) if rule else None
        self.rule = rule
        self._counter = counter
        self._leases: dict[str, _Lease] = {}
        self._lock = threading.Lock()

    def wait_s(self, environ: dict[str, Any], num_forecasts: int = 1) -> int:
        """Count the forecasts of a request, each once; return after how many seconds to try again, or 0."""
        if self._item is None:
            return 0
        counted, wait_s = environ.get(COUNTED, (0, 0))
        if not wait_s and counted < num_forecasts:
            # More than the limit is refused without counting, so that the client may still ask for less.
            if num_forecasts > self._item.amount:
                wait_s = self._item.get_expiry()
            else:
                wait_s = self._take(self._item, environ.get("REMOTE_ADDR", ""), num_forecasts - counted)
            environ[COUNTED] = num_forecasts, wait_s
        return int(wait_s)

    def _take(self, item: RateLimitItem, client: str, cost: int) -> int:
        now, left = time.monotonic(), 0
        with self._lock:
            lease = self._leases.get(client)
            if lease is not None and now < lease.until:
                if lease.left >= cost:
                    lease.left -= cost
                    return 0
                if lease.wait_s:
                    return lease.wait_s
                left, lease.left = lease.left, 0
        size = max(cost - left, item.amount // LEASES_PER_WINDOW)
        if self._counter.hit(item, "forecast", client, cost=size):
            lease = _Lease(left=left + size - cost, until=now + item.get_expiry())
        else:
            wait_s = self._counter.wait_s(item, "forecast", client) or 1
            lease = _Lease(left=0, until=now + REFUSAL_S, wait_s=wait_s)
        with self._lock:
            if len(self._leases) >= NUM_CLIENTS_MAX:
                self._leases.clear()
            other = self._leases.get(client)
            if other is not None and now < other.until and not lease.wait_s:  # another thread took too
                lease.left += other.left
            self._leases[client] = lease
        return lease.wait_s
