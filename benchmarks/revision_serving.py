"""What `benchmarks.side_by_side` measures on the web app of a revision."""

import http.client
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import httpx
import redis

from benchmarks.load import Load, post, post_and_check, post_ids, wrk
from benchmarks.processes import pss_mb
from benchmarks.revision import MODEL, PROMOTED_CHANNEL, TIMEOUT_S, Figure, Revision
from tests.promises.system import VEHICLE

BODY = json.dumps(VEHICLE)
ONE = "`POST /predict`, 1 connection, p50"
MANY = "`POST /predict`, 16 connections, throughput"
STORED = "`POST /predict/id`, 1 connection, p50"
WORKERS = 2
NUM_STORED = 500
NUM_ASKING = 12
"""Connections that wait for a swap: none of them is with one of two workers once in 2,000 starts."""


@dataclass
class Serving:
    """The web app of a revision, with a database of its own, and two models that it serves in turn.

    Parameters
    ----------
    revision : Revision
        With running services.
    messages : dict
        By version, for two versions of the model, what its promotion published.
    seconds : int
        How long each route is driven.
    num_swaps : int
        How often the champion changes under load, once a second.
    """

    revision: Revision
    messages: Mapping[int, bytes]
    seconds: int
    num_swaps: int
    stored: list[int] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        """The settings of the app."""
        return {
            "VROOM_HOME": str(self.revision.home / "web"),
            "VROOM_MODEL_NAME": MODEL,
            "VROOM_WEB_WORKERS": str(WORKERS),
            "VROOM_WEB_BENCHMARK": "true",
        }

    def prepare(self) -> None:
        """Save vehicles that are forecast by their ids later."""
        with (
            self.revision.web_app(self.settings) as (url, _),
            httpx.Client(base_url=url, timeout=TIMEOUT_S) as client,
        ):
            for _ in range(NUM_STORED):
                answer = client.post("/vehicles", json=VEHICLE).raise_for_status()
                self.stored.append(answer.json()["vehicle_id"])

    def measure(self) -> list[Figure]:
        """Start the app, drive it, swap its model under load, stop it."""
        began = time.perf_counter()
        with self.revision.web_app(self.settings) as (url, process):
            start_s = time.perf_counter() - began
            began = time.perf_counter()
            httpx.get(url, timeout=TIMEOUT_S).raise_for_status()
            page_s = time.perf_counter() - began
            figures = [
                Figure(f"web app: start to healthy with {WORKERS} workers, s", start_s, "<= 4 s"),
                Figure("web app: first page of a new server, s", page_s),
                *self._drive(url),
                Figure(f"web app: {WORKERS} workers and their server, PSS MB", pss_mb(process), "<= 420"),
            ]
            return figures + self._swap_under_load(url)

    def _drive(self, url: str) -> list[Figure]:
        """Drive the routes, each beside the echo route where the revision has one."""
        echo = f"{url}/benchmark/echo"
        has_echo = httpx.post(echo, json=VEHICLE, timeout=TIMEOUT_S).is_success
        echo_one = self._load(echo, post(BODY), 1) if has_echo else None
        one = self._load(f"{url}/predict", post(BODY), 1)
        stored = self._load(f"{url}/predict/id", post_ids(self.stored), 1)
        echo_many = self._load(echo, post(BODY), 16) if has_echo else None
        many = self._load(f"{url}/predict", post(BODY), 16)
        figures = [
            Figure(f"{ONE}, ms", one.p50_ms),
            Figure(f"{MANY}, 1/s", many.per_s),
            Figure(f"{STORED}, ms", stored.p50_ms),
        ]
        if echo_one and echo_many:
            figures += [
                Figure(f"{ONE}, over the echo route's", one.p50_ms / echo_one.p50_ms, "<= 1.5"),
                Figure(f"{MANY}, over the echo route's", many.per_s / echo_many.per_s),
                Figure(f"{STORED}, over the echo route's", stored.p50_ms / echo_one.p50_ms, "<= 2.2"),
            ]
        return figures

    def _load(self, url: str, script: str, connections: int) -> Load:
        load = wrk(url, script, connections=connections, seconds=self.seconds)
        if load.num_failed:
            raise RuntimeError(
                f"{self.revision.name}: {load.num_failed} of {load.num_requests} answers of {url} failed, "
                "so the time of the others means nothing"
            )
        return load

    def _swap_under_load(self, url: str) -> list[Figure]:
        first, second = self.messages
        with ExitStack() as cleanup:
            pool = cleanup.enter_context(ThreadPoolExecutor(1))
            client = cleanup.enter_context(redis.Redis.from_url(self.revision.services["VROOM_REDIS_URL"]))
            host = httpx.URL(url).netloc.decode()
            asking = [
                cleanup.enter_context(closing(http.client.HTTPConnection(host, timeout=TIMEOUT_S)))
                for _ in range(NUM_ASKING)
            ]
            forecasts = {}
            for version in (second, first):
                self._promote(version, client, asking)
                forecasts[version] = float(ask(asking[0])["predicted_reservations"])
            promoting = pool.submit(self._promote_in_turns, client, asking)
            script = post_and_check(forecasts)
            load = wrk(f"{url}/predict", script, connections=16, seconds=self.num_swaps + 2)
            took = statistics.median(promoting.result())
        failed = f"failed or mislabelled answers in {self.num_swaps} swaps, 16 connections"
        return [
            Figure(f"promote to {WORKERS} workers swapped, under load, p50 ms", took, "<= 100"),
            Figure(failed, load.num_failed, "0"),
        ]

    def _promote_in_turns(
        self, client: redis.Redis, asking: Sequence[http.client.HTTPConnection]
    ) -> list[float]:
        taken = []
        for number in range(self.num_swaps):
            time.sleep(1)
            taken.append(self._promote(list(self.messages)[1 - number % 2], client, asking))
        return taken

    def _promote(
        self, version: int, client: redis.Redis, asking: Sequence[http.client.HTTPConnection]
    ) -> float:
        """Move the alias, publish, and return how many milliseconds later it answers every connection."""
        self.revision.set_alias(MODEL, "champion", version)
        began = time.perf_counter()
        client.publish(PROMOTED_CHANNEL, self.messages[version])
        while asking := [one for one in asking if ask(one)["model_version"] != version]:
            if time.perf_counter() > began + TIMEOUT_S:
                raise TimeoutError(f"{self.revision.name}: a worker does not serve version {version}")
        return (time.perf_counter() - began) * 1000


def ask(connection: http.client.HTTPConnection) -> dict[str, Any]:
    """Ask for a forecast."""
    connection.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != httpx.codes.OK:
        raise RuntimeError(f"/predict answered {answer.status}: {content.decode()}")
    document: dict[str, Any] = json.loads(content)
    return document
