"""Promise 1: an acknowledged save is in the database, once."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from tests.promises.system import VEHICLE, System, process_id, wait_until

NUM_CLIENTS = 8
COLUMNS = ", ".join(VEHICLE)


def save(system: System, key: str, **changes: object) -> httpx.Response:
    """Save a vehicle under an idempotency key."""
    return system.post("/vehicles", VEHICLE | changes, headers={"Idempotency-Key": key})


def test_an_acknowledged_save_is_a_row_of_the_database(system: System) -> None:
    body = VEHICLE | {"actual_price": 61.5, "num_images": 3}
    answer = system.post("/vehicles", body)
    assert answer.status_code == 201
    saved = answer.json()
    assert saved["status"] == "new_arrival"
    found = system.sql(f"SELECT source, {COLUMNS} FROM vehicles WHERE vehicle_id = ?", saved["vehicle_id"])
    assert found == [("ui", *body.values())]


def test_many_requests_with_one_key_make_one_row(system: System) -> None:
    (before,) = system.sql("SELECT COUNT(*) FROM vehicles")[0]
    key = uuid4().hex
    with ThreadPoolExecutor(NUM_CLIENTS) as clients:
        answers = list(clients.map(lambda _: save(system, key), range(3 * NUM_CLIENTS)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["vehicle_id"] for answer in answers}) == 1
    assert system.sql("SELECT COUNT(*) FROM vehicles") == [(before + 1,)]


def test_a_key_that_was_used_for_another_vehicle_is_a_conflict(system: System) -> None:
    key = uuid4().hex
    assert save(system, key).status_code == 201
    (before,) = system.sql("SELECT COUNT(*) FROM vehicles")[0]
    assert save(system, key, num_images=5).status_code == 409
    assert system.sql("SELECT COUNT(*) FROM vehicles") == [(before,)]


@pytest.mark.parametrize("body", [{}, VEHICLE | {"actual_price": -1}, VEHICLE | {"colour": "red"}, [VEHICLE]])
def test_what_is_refused_leaves_nothing(system: System, body: object) -> None:
    (before,) = system.sql("SELECT COUNT(*) FROM vehicles")[0]
    assert system.post("/vehicles", body).status_code == 422
    assert system.sql("SELECT COUNT(*) FROM vehicles") == [(before,)]


class Savers:
    """Clients that save one vehicle after the other, each until it is acknowledged, under one key."""

    def __init__(self, system: System) -> None:
        self.acknowledged: dict[int, float] = {}
        self._system, self._stopping = system, threading.Event()
        self._threads = [threading.Thread(target=self._save, args=(n,), daemon=True) for n in range(4)]

    def __enter__(self) -> "Savers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for_more(self) -> None:
        """Wait until each client may have gone on."""
        goal = len(self.acknowledged) + 2 * len(self._threads)
        wait_until(lambda: len(self.acknowledged) >= goal, timeout_s=120)

    def _save(self, number: int) -> None:
        price = 30.0 + number
        while not self._stopping.is_set():
            key, price = uuid4().hex, price + 0.25
            while (vehicle_id := self._try(key, price)) is None:
                pass
            self.acknowledged[vehicle_id] = price

    def _try(self, key: str, price: float) -> int | None:
        try:
            answer = save(self._system, key, actual_price=price)
        except httpx.TransportError:  # the worker that was asked is gone
            return None
        return answer.json()["vehicle_id"] if answer.status_code == 201 else None


def test_saves_survive_the_death_of_the_workers_that_take_them(system: System) -> None:
    (before,) = system.sql("SELECT COUNT(*) FROM vehicles")[0]
    with Savers(system) as savers:
        for _ in range(3):
            savers.wait_for_more()
            wait_until(system.workers, timeout_s=120)
            os.kill(process_id(next(iter(system.workers()))), signal.SIGKILL)
        savers.wait_for_more()
    assert system.sql("SELECT COUNT(*) FROM vehicles") == [(before + len(savers.acknowledged),)]
    stored = dict(system.sql("SELECT vehicle_id, actual_price FROM vehicles WHERE source = 'ui'"))
    assert savers.acknowledged.items() <= stored.items()
