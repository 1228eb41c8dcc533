"""Streams of events: what happens reaches everybody who listens, and hundreds cost the forecasts nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import redis as redis_py
from flask.testing import FlaskClient

from tests.ports import free_port
from tests.webapp.faults import Relay
from tests.webapp.waiting import wait_until
from vroom_features.messages import Message, VehicleDeleted, VehicleMaterialized, VehicleSaved
from vroom_features.settings import Settings
from vroom_model.messages import ModelLoaded, ModelPromoted, PipelineCompleted
from webapp.events import encode

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MESSAGES: list[tuple[Message, str]] = [
    (ModelPromoted(model_name="m", version=2), "model-promoted"),
    (ModelLoaded(model_name="m", version=2, worker="w"), "model-swapped"),
    (VehicleSaved(vehicle_id=7), "vehicle-saved"),
    (VehicleDeleted(vehicle_id=7), "vehicle-deleted"),
    (VehicleMaterialized(vehicle_ids=(7,), materialized_at=NOW), "vehicle-materialized"),
    (PipelineCompleted(model_name="m", version=2, promoted=True, reason="better"), "run-finished"),
]


@contextmanager
def serving_streams(redis_url: str, home: Path) -> Iterator[str]:
    """Start the server of event streams, as it is started for real."""
    port = free_port()
    command = [sys.executable, "-m", "webapp", "events"]
    environment = os.environ | {
        "VROOM_REDIS_URL": redis_url,
        "VROOM_HOME": str(home),
        "VROOM_WEB_EVENTS_PORT": str(port),
    }
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        try:
            return bool(httpx.get(f"{url}/health", timeout=2).json()["status"] == "ok")
        except httpx.HTTPError:
            return False

    with subprocess.Popen(command, env=environment) as server:
        try:
            wait_until(is_up, timeout_s=30)
            yield url
        finally:
            server.terminate()


@pytest.fixture
def streams(redis_url: str, tmp_path: Path) -> Iterator[str]:
    """Return the address of the server of event streams."""
    with serving_streams(redis_url, tmp_path) as url:
        yield url


def test_every_message_becomes_an_event(streams: str, redis: redis_py.Redis) -> None:
    with httpx.stream("GET", f"{streams}/events", timeout=10) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 2000"
        redis.publish(VehicleSaved.channel, b"garbage")
        for message, name in MESSAGES:
            redis.publish(message.channel, message.encode())
            event = next(line for line in lines if line.startswith("event:"))
            assert event == f"event: {name}"
            assert json.loads(next(lines).removeprefix("data: ")) == json.loads(message.encode())


def test_two_hundred_streams_hear_and_are_forgotten_when_they_go(streams: str, redis: redis_py.Redis) -> None:
    limits = httpx.Limits(max_connections=None)
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=20, limits=limits))
        lines = [
            stack.enter_context(client.stream("GET", f"{streams}/events")).iter_lines() for _ in range(200)
        ]
        assert {next(line) for line in lines} == {"retry: 2000"}
        assert httpx.get(f"{streams}/health").json()["streams"] == 200
        redis.publish(VehicleSaved.channel, VehicleSaved(vehicle_id=9).encode())
        for line in lines:
            assert next(found for found in line if found.startswith("data:")) == 'data: {"vehicle_id":9}'


def test_a_killed_subscription_comes_back(streams: str, redis: redis_py.Redis) -> None:
    killed = {client["id"] for client in redis.client_list(_type="pubsub")}
    redis.client_kill_filter(_type="pubsub")
    wait_until(lambda: any(client["id"] not in killed for client in redis.client_list(_type="pubsub")))
    wait_until(lambda: redis.pubsub_numsub(VehicleSaved.channel)[0][1] == 1)
    with httpx.stream("GET", f"{streams}/events", timeout=10) as stream:
        lines = stream.iter_lines()
        next(lines)
        redis.publish(VehicleSaved.channel, VehicleSaved(vehicle_id=9).encode())
        assert next(line for line in lines if line.startswith("data:")) == 'data: {"vehicle_id":9}'


def test_a_connection_that_falls_silent_is_given_up(redis: redis_py.Redis, tmp_path: Path) -> None:
    relay = Relay(redis.connection_pool.connection_kwargs["port"])
    with serving_streams(f"redis://127.0.0.1:{relay.port}/0", tmp_path) as url:
        with httpx.stream("GET", f"{url}/events", timeout=40) as stream:
            lines = stream.iter_lines()
            next(lines)
            relay.silence()
            wait_until(lambda: redis.pubsub_numsub(VehicleSaved.channel)[0][1] == 2, timeout_s=30)
            redis.publish(VehicleSaved.channel, VehicleSaved(vehicle_id=9).encode())
            assert next(line for line in lines if line.startswith("data:")) == 'data: {"vehicle_id":9}'
        assert httpx.get(f"{url}/health").json()["status"] == "ok"
    relay.close()


def test_pages_of_this_machine_may_listen_and_others_may_not(streams: str) -> None:
    for origin, allowed in (("http://localhost:8000", True), ("https://evil.example", False), ("", False)):
        with httpx.stream("GET", f"{streams}/events", headers={"Origin": origin}, timeout=10) as stream:
            assert stream.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)


def test_an_origin_that_is_none_is_foreign(streams: str) -> None:
    for origin in ("http://[", "http://[1:2]", "null", "http://localhost:x"):
        with httpx.stream("GET", f"{streams}/events", headers={"Origin": origin}, timeout=10) as stream:
            assert stream.status_code == 200
            assert "Access-Control-Allow-Origin" not in stream.headers


def test_streams_are_found_by_our_names_only(streams: str) -> None:
    for host in ("rebound.example", "rebound.example:8001", "[", "a b"):
        headers = {"Host": host, "Origin": "http://rebound.example"}
        assert httpx.get(f"{streams}/health", headers=headers).status_code == 400
        with httpx.stream("GET", f"{streams}/events", headers=headers, timeout=10) as stream:
            assert stream.status_code == 400
            assert "Access-Control-Allow-Origin" not in stream.headers


def test_events_stay_on_one_line() -> None:
    event = encode(
        PipelineCompleted.channel,
        PipelineCompleted(model_name="m", version=1, promoted=False, reason="a\nb\r\nc").encode().encode(),
    )
    assert event.count(b"\n") == 3


def test_the_app_leads_to_the_streams(client: FlaskClient, settings: Settings) -> None:
    answer = client.get("/events", base_url="http://localhost")
    assert answer.status_code == 307
    assert answer.headers["Location"] == f"http://localhost:{settings.web_events_port}/events"
