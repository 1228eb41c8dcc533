"""How fast and how steady forecasts are served: `python -m benchmarks.serving [--seconds S] [--rounds N]`.

Starts Redis, MLflow and the web app with two workers, trains and registers two models, and drives the app
with wrk (Debian's package `wrk`).  The echo route takes the same short way as `/predict`, parses the same
body and returns a constant; the Flask echo is a view that does so.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import redis

from benchmarks.load import Load, median, post, post_and_check, post_ids, wrk
from benchmarks.processes import cpu_s, pss_mb
from benchmarks.serving_stack import Stack, stack
from tests.promises.system import VEHICLE
from vroom_model.messages import ModelLoaded, ModelPromoted

NUM_STORED = 500
NUM_STREAMS = 200
NUM_SWAPS = 50
NUM_UNHEARD = 6
WORKERS = 2


@contextmanager
def streams(url: str, count: int) -> Iterator[None]:
    """Hold this many event streams open in a process of its own."""
    code = f"""
import asyncio, sys
async def hold(host, port):
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /events HTTP/1.1\\r\\nHost: " + host.encode() + b"\\r\\n\\r\\n")
    await reader.readuntil(b"retry")
    return reader, writer
async def main():
    held = await asyncio.gather(*(hold("127.0.0.1", {httpx.URL(url).port}) for _ in range({count})))
    print(len(held), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        try:
            opened = holder.stdout.readline().strip() if holder.stdout else ""
            if opened != str(count):
                raise RuntimeError(f"opened {opened or 'no'} streams of {count}")
            yield
        finally:
            holder.terminate()


def swaps(app: Stack, *, num_swaps: int, pause_s: float, promoted: list[float], is_told: bool = True) -> None:
    """Promote the two models in turn, and note how long until every worker serves the new one.

    Without the message the workers find out by looking at the registry.
    """
    with (
        redis.Redis.from_url(app.redis_url) as client,
        client.pubsub(ignore_subscribe_messages=True) as heard,
    ):
        heard.subscribe(ModelLoaded.channel)
        heard.get_message(timeout=5)  # the confirmation
        pause = threading.Event()
        for swap in range(num_swaps):
            version = app.versions[1 - swap % 2]
            began = time.perf_counter()
            app.registry.set_alias("champion", version)
            moved = time.perf_counter()
            if is_told:
                message = ModelPromoted(model_name=app.registry.model_name, version=version)
                client.publish(message.channel, message.encode())
            told: set[str] = set()
            while len(told) < WORKERS:
                loaded = heard.get_message(timeout=10)
                if loaded is None:
                    raise TimeoutError(f"swap {swap}: only {sorted(told)} serve version {version}")
                answer = ModelLoaded.decode(loaded["data"])
                if answer.version == version:
                    told.add(answer.worker)
            promoted.append((time.perf_counter() - moved) * 1000)
            pause.wait(max(0.0, pause_s - (time.perf_counter() - began)))


def measure(app: Stack, *, seconds: int, rounds: int) -> dict[str, Load]:
    """Drive every route, in turn within a round, so that a ratio compares neighbours in time."""
    with httpx.Client(base_url=app.url) as client:
        ids = [client.post("/vehicles", json=VEHICLE).json()["vehicle_id"] for _ in range(NUM_STORED)]
    one = post(json.dumps(VEHICLE))
    many = post(json.dumps([VEHICLE] * 1000))
    cases = {
        "echo, 1 connection": ("/benchmark/echo", one, 1),
        "/predict, 1 connection": ("/predict", one, 1),
        "/predict/id, 1 connection": ("/predict/id", post_ids(ids), 1),
        "Flask echo, 1 connection": ("/benchmark/flask-echo", one, 1),
        "/predict/batch of 1,000, 1 connection": ("/predict/batch", many, 1),
        "echo, 16 connections": ("/benchmark/echo", one, 16),
        "/predict, 16 connections": ("/predict", one, 16),
        "/predict/id, 16 connections": ("/predict/id", post_ids(ids), 16),
    }
    seen: dict[str, list[Load]] = {}
    for _ in range(rounds):
        for name, (path, script, connections) in cases.items():
            load = wrk(app.url + path, script, connections=connections, seconds=seconds)
            seen.setdefault(name, []).append(load)
        with streams(app.events_url, NUM_STREAMS):
            for connections in (1, 16):
                name = f"/predict beside {NUM_STREAMS} streams, {connections} connection(s)"
                load = wrk(f"{app.url}/predict", one, connections=connections, seconds=seconds)
                seen.setdefault(name, []).append(load)
    return {name: median(loads) for name, loads in seen.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="how long each route is driven")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many rounds")
    parser.add_argument("--swap-seconds", type=int, default=60, help="how long the 50 promotions take")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed; it is in Debian's package wrk")
        return 2
    with stack(workers=WORKERS) as app:
        print(f"start to healthy      {app.start_s:6.2f} s")
        print(f"memory at start       {pss_mb(app.process):6.0f} MB PSS, server and {WORKERS} workers")
        loads = measure(app, seconds=options.seconds, rounds=options.rounds)
        cpu = cpu_s(app.process)
        checked = wrk(
            f"{app.url}/predict", post(json.dumps(VEHICLE)), connections=16, seconds=options.seconds
        )
        cpu_us = (cpu_s(app.process) - cpu) / checked.num_requests * 1e6
        answers = {}
        for version in (app.versions[1], app.versions[0]):
            app.registry.set_alias("champion", version)
            answers[version] = served(app, version)
        promoted: list[float] = []
        swapping = threading.Thread(
            target=swaps,
            args=(app,),
            kwargs={
                "num_swaps": NUM_SWAPS,
                "pause_s": options.swap_seconds / NUM_SWAPS,
                "promoted": promoted,
            },
        )
        swapping.start()
        under = wrk(
            f"{app.url}/predict", post_and_check(answers), connections=16, seconds=options.swap_seconds
        )
        swapping.join()
        unheard: list[float] = []
        swaps(app, num_swaps=NUM_UNHEARD, pause_s=0, promoted=unheard, is_told=False)
        print(f"memory after the load {pss_mb(app.process):6.0f} MB PSS")
        print(f"CPU of one /predict   {cpu_us:6.0f} us\n")
    show(loads | {f"/predict while {len(promoted)} swaps, 16 connections": under})
    summary(loads, promoted, under)
    print(
        f"promote to all {WORKERS} workers swapped, {len(unheard)} times without the message: "
        f"p50 {statistics.median(unheard) / 1000:.1f} s, max {max(unheard) / 1000:.1f} s"
    )
    return 0 if len(promoted) == NUM_SWAPS and under.num_failed == 0 else 1


def summary(loads: dict[str, Load], promoted: list[float], under: Load) -> None:
    """Print the ratios that are promised."""
    echo, stored = loads["echo, 1 connection"].p50_ms, loads["/predict/id, 1 connection"].p50_ms
    ours, ours16 = loads["/predict, 1 connection"], loads["/predict, 16 connections"]
    print(f"\n/predict p50 against echo: {ours.p50_ms / echo:.2f} x")
    print(f"/predict/id p50 against echo: {stored / echo:.2f} x")
    print(
        f"promote to all {WORKERS} workers swapped, {len(promoted)} times under load: "
        f"p50 {statistics.median(promoted):.0f} ms, max {max(promoted):.0f} ms"
    )
    print(f"failed or mislabelled meanwhile: {under.num_failed} of {under.num_requests}")
    print(f"p99 meanwhile: {under.p99_ms / ours16.p99_ms:.2f} x the quiet one")


def served(app: Stack, version: int) -> float:
    """Wait until every worker serves this version, and return what it forecasts."""
    with httpx.Client(base_url=app.url, timeout=10) as client:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            workers = client.get("/health", params={"all": "true"}).json()["workers"] or []
            if [worker["model_version"] for worker in workers] == [version] * WORKERS:
                return float(client.post("/predict", json=VEHICLE).json()["predicted_reservations"])
            time.sleep(0.1)
    raise TimeoutError(f"not every worker serves version {version}")


def show(loads: dict[str, Load]) -> None:
    """Print what wrk saw."""
    print(f"{'':<50}{'p50 ms':>9}{'p99 ms':>9}{'req/s':>10}{'failed':>8}")
    for name, load in loads.items():
        print(f"{name:<50}{load.p50_ms:9.3f}{load.p99_ms:9.2f}{load.per_s:10,.0f}{load.num_failed:8}")


if __name__ == "__main__":
    sys.exit(main())
