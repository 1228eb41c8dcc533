"""Clients that save and ask while something is broken, and keep what they were answered."""

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from tests.factories import VEHICLE

PAUSE_S = 0.05
FINISH_TIMEOUT_S = 60.0
TRY_LATER = frozenset({429, 503})
Json = dict[str, Any]


@dataclass
class Kept:
    """What the system promised to keep: vehicles by idempotency key, and which of them were deleted."""

    earlier: set[int]
    saved: dict[str, tuple[int, Json]] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    attempted: set[str] = field(default_factory=set)


class Traffic:
    """Run clients for the time of a ``with`` block; at its end each finishes what it began."""

    def __init__(self, url: str, kept: Kept, *, num_savers: int = 2) -> None:
        self.num_saved = self.num_forecasts = 0
        self.refused: Counter[str] = Counter()  # answered by "try later" or a broken connection
        self.forecasts: list[tuple[Json, Json]] = []  # the vehicle, and the answer
        self.wrong: list[str] = []  # what no fault excuses
        self._url, self._kept = url, kept
        self._stopping, self._until = threading.Event(), math.inf
        works = [self._save] * num_savers + [self._ask] * 2
        self._threads = [threading.Thread(target=self._repeat, args=[work], daemon=True) for work in works]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._until = time.monotonic() + FINISH_TIMEOUT_S
        self._stopping.set()
        for thread in self._threads:
            thread.join(FINISH_TIMEOUT_S + 30)
            if thread.is_alive():
                self.wrong.append("a client still waits for its answer")

    def go_on(self, *, saves: int = 5, forecasts: int = 10, timeout_s: float = 30.0) -> None:
        """Return once so many more were answered, or the time is up: a fault may keep all answers away."""
        saves, forecasts = saves + self.num_saved, forecasts + self.num_forecasts
        until = time.monotonic() + timeout_s
        while (self.num_saved < saves or self.num_forecasts < forecasts) and time.monotonic() < until:
            time.sleep(0.01)

    def _repeat(self, work: Callable[[random.Random], None]) -> None:
        random_ = random.Random()
        while not self._stopping.wait(PAUSE_S):
            work(random_)

    def _save(self, random_: random.Random) -> None:
        """Save until it is acknowledged, as a client with an idempotency key may; then once more."""
        key, vehicle = f"drill-{uuid4().hex}", some_vehicle(random_)
        self._kept.attempted.add(key)
        while (answer := self._post("save", "/vehicles", vehicle, {"Idempotency-Key": key})) is None:
            if time.monotonic() > self._until:
                self.wrong.append(f"the save {key} was not acknowledged {FINISH_TIMEOUT_S:.0f} s later")
                return
            time.sleep(0.2)
        self._kept.saved[key] = (answer["vehicle_id"], vehicle)
        self.num_saved += 1
        again = self._post("save", "/vehicles", vehicle, {"Idempotency-Key": key})
        if again is not None and again["vehicle_id"] != answer["vehicle_id"]:
            self.wrong.append(f"{key} made vehicle {answer['vehicle_id']} and then {again['vehicle_id']}")

    def _ask(self, random_: random.Random) -> None:
        vehicle = some_vehicle(random_)
        if self._forecast("predict", "/predict", vehicle, vehicle):
            self.num_forecasts += 1
        if self._kept.saved:
            vehicle_id, vehicle = random_.choice(list(self._kept.saved.values()))
            if vehicle_id not in self._kept.deleted:
                self._forecast("predict/id", "/predict/id", {"vehicle_id": vehicle_id}, vehicle)

    def _forecast(self, what: str, path: str, body: Json, vehicle: Json) -> bool:
        if (answer := self._post(what, path, body)) is None:
            return False
        self.forecasts.append((vehicle, answer))
        return True

    def _post(self, what: str, path: str, body: Json, headers: dict[str, str] | None = None) -> Json | None:
        """Post over a new connection; return None when refused for now, or when the connection broke."""
        try:
            answer = httpx.post(f"{self._url}{path}", json=body, headers=headers, timeout=30)
        except httpx.TransportError as exc:
            self.refused[f"{what}: {type(exc).__name__}"] += 1
            return None
        if answer.is_success:
            return dict(answer.json())
        if answer.status_code in TRY_LATER:
            self.refused[f"{what}: {answer.status_code}"] += 1
        elif answer.status_code != 404 or body.get("vehicle_id") not in self._kept.deleted:
            self.wrong.append(f"{what} answers {answer.status_code}: {answer.text[:200]}")
        return None


def some_vehicle(random_: random.Random) -> Json:
    price, images = round(random_.uniform(30, 180), 2), random_.randint(1, 5)
    return VEHICLE | {"actual_price": price, "num_images": images, "description": random_.randint(1, 250)}
