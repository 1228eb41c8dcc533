"""Redis killed, hung, full, read-only, emptied; and messages lost, repeated, forged and out of order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from tests.drill.case import Case, Fault
from tests.drill.clock import now
from tests.drill.system import System, kill, wait_until
from tests.drill.traffic import Traffic
from vroom_features.messages import VehicleSaved
from vroom_model.messages import ModelPromoted

FORGED_VERSION = 987_654


@contextmanager
def killed(system: System) -> Iterator[None]:
    """Kill the server; the supervisor starts another, which is empty."""
    kill(system.redis_server())
    yield
    wait_until(lambda: _answers(system), "Redis is back")


@contextmanager
def stopped(system: System) -> Iterator[None]:
    """Stop it through the supervisor: nobody answers until it is started again, empty."""
    system.supervise("stopProcess", "redis")
    try:
        yield
    finally:
        system.supervise("startProcess", "redis")
    wait_until(lambda: _answers(system), "Redis is back")


@contextmanager
def hung(system: System) -> Iterator[None]:
    """Let it accept connections and say nothing."""
    server = system.redis_server()
    server.suspend()
    try:
        yield
    finally:
        server.resume()


@contextmanager
def full(system: System) -> Iterator[None]:
    """Let it refuse every write for want of memory."""
    system.redis.config_set("maxmemory", 1)
    system.redis.config_set("maxmemory-policy", "noeviction")
    try:
        yield
    finally:
        system.redis.config_set("maxmemory", 0)


@contextmanager
def read_only(system: System) -> Iterator[None]:
    """Let it refuse every write for want of replicas."""
    system.redis.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        system.redis.config_set("min-replicas-to-write", 0)


@contextmanager
def emptied(system: System) -> Iterator[None]:
    """Empty it under everybody's feet."""
    system.redis.flushall()
    yield


@contextmanager
def forged(system: System) -> Iterator[None]:
    """Send garbage, and messages of models and vehicles that do not exist."""
    name = system.settings.model_name
    yield
    for payload in (b"", b"\xff\xfe\x00", b"[]", b'{"version": 1e999}', b"x" * 100_000):
        for channel in (ModelPromoted.channel, VehicleSaved.channel):
            system.redis.publish(channel, payload)
    for version in (FORGED_VERSION, 1):
        for _ in range(3):
            message = ModelPromoted(model_name=name, version=version, epoch=10**6)
            system.redis.publish(message.channel, message.encode())
    vehicle = VehicleSaved(vehicle_id=FORGED_VERSION)
    system.redis.publish(vehicle.channel, vehicle.encode())


@contextmanager
def champion_moves_unheard(system: System) -> Iterator[None]:
    """Promote without telling anybody."""
    other_champion(system, publish=lambda _: None)
    yield


@contextmanager
def champion_moves_with_noise(system: System) -> Iterator[None]:
    """Promote, and tell of it many times, before the message of the one before, after it, and again."""
    sent: list[ModelPromoted] = []
    for _ in range(2):
        other_champion(system, publish=sent.append)
    yield
    for message in [*reversed(sent), *sent, *reversed(sent)]:
        system.redis.publish(message.channel, message.encode())


def other_champion(system: System, publish: Callable[[ModelPromoted], None] | None = None) -> None:
    """Make the other of two versions champion, by force."""
    champion = system.registry.champion()
    version = next(v.version for v in system.registry.versions() if v != champion)
    system.promotions(publish).promote(
        system.offline.current(),
        as_of=now(),
        version=version,
        force_reason="the drill wants the other",
    )


def promotes(system: System, traffic: Traffic) -> None:
    """Promote while it is broken, and let the clients go on."""
    other_champion(system, publish=lambda _: None)
    traffic.wait_for(saves=3, forecasts=10)


def _answers(system: System) -> bool:
    try:
        return bool(system.redis.ping())
    except redis.RedisError:
        return False


def cases() -> Iterator[Case]:
    """Give the faults of Redis and of messages."""
    yield Fault("Redis killed (kill -9); it comes back empty", "redis", killed, tries=2)
    yield Fault("Redis stopped, started again empty", "redis", stopped)
    yield Fault("Redis hung (SIGSTOP)", "redis", hung)
    yield Fault("Redis hung while the champion changes", "redis", hung, promotes)
    yield Fault("Redis full (maxmemory, noeviction)", "redis", full)
    yield Fault("Redis read-only (min-replicas-to-write)", "redis", read_only)
    yield Fault("Redis emptied (FLUSHALL)", "redis", emptied)
    yield Fault("messages forged and garbled", "messages", forged)
    yield Fault("promotion whose message is lost", "messages", champion_moves_unheard)
    yield Fault("messages repeated and out of order", "messages", champion_moves_with_noise)
