"""Clients that save and ask while something is broken, and write down what they were told."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from tests.factories import VEHICLE

PAUSE_S = 0.05
FINISH_TIMEOUT_S = 60.0
BETTER_LATER = frozenset({429, 503})


@dataclass
class Kept:
    """What the system promised to keep.

    Parameters
    ----------
    saved : dict
        Acknowledged saves by idempotency key: the vehicle's id and its values.
    deleted : set of int
        Vehicles that were asked to be deleted.
    attempted : set of str
        Every key that was sent.
    earlier : set of int
        Vehicles that others typed in before the drill.
    """

    saved: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    attempted: set[str] = field(default_factory=set)
    earlier: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Forecast:
    """One answer to ``POST /predict``."""

    vehicle: tuple[tuple[str, Any], ...]
    version: int
    predicted: float


@dataclass
class Heard:
    """What happened to the clients of one fault."""

    num_saved: int = 0
    num_forecasts: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    forecasts: set[Forecast] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


def some_vehicle(random_: random.Random) -> dict[str, Any]:
    """Return a valid vehicle."""
    recommended = random_.randint(35, 90)
    return VEHICLE | {
        "technology": random_.randint(0, 1),
        "actual_price": round(recommended * random_.uniform(0.8, 2.0), 2),
        "recommended_price": float(recommended),
        "num_images": random_.randint(1, 5),
        "street_parked": random_.randint(0, 1),
        "description": random_.randint(1, 250),
    }


class Traffic:
    """Run clients for the time of a ``with`` block; at its end each finishes what it began.

    Parameters
    ----------
    url : str
        The page.
    kept : Kept
        Where acknowledged saves are written down.
    num_savers, num_askers : int
        How many clients of each kind.
    """

    def __init__(self, url: str, kept: Kept, *, num_savers: int = 2, num_askers: int = 2) -> None:
        self.heard = Heard()
        self._url, self._kept = url, kept
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._save_on, daemon=True) for _ in range(num_savers)]
        self._threads += [threading.Thread(target=self._ask_on, daemon=True) for _ in range(num_askers)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(FINISH_TIMEOUT_S + 30)
            if thread.is_alive():
                self._wrong("a client still waits for its answer")

    def wait_for(self, *, saves: int = 0, forecasts: int = 0, timeout_s: float = 30.0) -> None:
        """Return once so many more were answered, or the time is up: a fault may keep all answers away."""
        saves += self.heard.num_saved
        forecasts += self.heard.num_forecasts
        until = time.monotonic() + timeout_s
        while (
            self.heard.num_saved < saves or self.heard.num_forecasts < forecasts
        ) and time.monotonic() < until:
            time.sleep(0.01)

    def _wrong(self, what: str) -> None:
        with self._lock:
            self.heard.wrong.append(what)

    def _save_on(self) -> None:
        random_ = random.Random()  # noqa: S311 - vehicles, not secrets
        while not self._stopping.wait(PAUSE_S):
            self._save(f"drill-{uuid4().hex}", some_vehicle(random_))

    def _save(self, key: str, vehicle: dict[str, Any]) -> None:
        """Save until it is acknowledged, as a client with an idempotency key may; then once more."""
        self._kept.attempted.add(key)
        if (first := self._save_once(key, vehicle)) is None:
            return
        self._kept.saved[key] = (first, vehicle)
        self.heard.num_saved += 1
        again = self._save_once(key, vehicle, is_patient=False)
        if again is not None and again != first:
            self._wrong(f"the key {key} made vehicle {first} and then {again}")

    def _save_once(self, key: str, vehicle: dict[str, Any], *, is_patient: bool = True) -> int | None:
        until = None
        while True:
            answer = self._call("save", "/vehicles", vehicle, {"Idempotency-Key": key})
            if answer is not None:
                return int(answer["vehicle_id"])
            if not is_patient:
                return None
            if self._stopping.is_set():
                until = until or time.monotonic() + FINISH_TIMEOUT_S
                if time.monotonic() > until:
                    self._wrong(
                        f"the save {key} was not acknowledged within {FINISH_TIMEOUT_S:.0f} s of recovery"
                    )
                    return None
            time.sleep(0.2)

    def _ask_on(self) -> None:
        random_ = random.Random()  # noqa: S311 - vehicles, not secrets
        while not self._stopping.wait(PAUSE_S):
            vehicle = some_vehicle(random_)
            answer = self._call("predict", "/predict", vehicle)
            if answer is not None:
                forecast = Forecast(
                    tuple(vehicle.items()), answer["model_version"], answer["predicted_reservations"]
                )
                with self._lock:
                    self.heard.num_forecasts += 1
                    self.heard.forecasts.add(forecast)
            if self._kept.saved:
                vehicle_id, vehicle = random_.choice(list(self._kept.saved.values()))
                if vehicle_id not in self._kept.deleted:
                    self._ask_stored(vehicle_id, vehicle)

    def _ask_stored(self, vehicle_id: int, vehicle: dict[str, Any]) -> None:
        answer = self._call("predict/id", "/predict/id", {"vehicle_id": vehicle_id})
        if answer is not None:
            with self._lock:
                self.heard.forecasts.add(
                    Forecast(
                        tuple(vehicle.items()), answer["model_version"], answer["predicted_reservations"]
                    )
                )

    def _call(
        self, what: str, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> dict[str, Any] | None:
        """Ask over a new connection; None when refused for now, or when the connection broke."""
        try:
            answer = httpx.post(f"{self._url}{path}", json=body, headers=headers, timeout=30)
        except httpx.TransportError as exc:
            with self._lock:
                self.heard.refused[f"{what}: {type(exc).__name__}"] += 1
            return None
        if answer.is_success:
            document: dict[str, Any] = answer.json()
            return document
        if answer.status_code in BETTER_LATER:
            with self._lock:
                self.heard.refused[f"{what}: {answer.status_code}"] += 1
        elif (
            what != "predict/id" or answer.status_code != 404 or body["vehicle_id"] not in self._kept.deleted
        ):
            self._wrong(f"{what} answers {answer.status_code}: {answer.text[:200]}")
        return None
