"""Faults of Redis, messages, the web app, MLflow and Prefect: killed, hung, full, emptied, forged."""

import time
from collections.abc import Callable
from functools import partial

import httpx
import psutil

from tests.drill.case import Case, Fault
from tests.drill.system import System, is_gone, kill
from tests.drill.traffic import Traffic
from tests.promises.system import wait_until
from vroom_features.messages import VehicleSaved
from vroom_model.messages import ModelPromoted

RESTART_TIMEOUT_S = 90
NOT_THERE = 987_654
GARBAGE = (b"", b"\xff\xfe\x00", b"[]", b'{"version": 1e999}', b"x" * 100_000)


def redis_killed(system: System, traffic: Traffic) -> None:
    """The supervisor starts another, which is empty."""
    kill(system.redis_server())
    traffic.go_on()


def redis_stopped(system: System, traffic: Traffic) -> None:
    system.supervise("stopProcess", "redis")
    traffic.go_on()
    system.supervise("startProcess", "redis")


def redis_hung(system: System, traffic: Traffic, *, is_promoting: bool = False) -> None:
    """It accepts connections and answers nothing."""
    server = system.redis_server()
    server.suspend()
    try:
        if is_promoting:
            system.change_champion(publish=lambda _: None)
        traffic.go_on()
    finally:
        server.resume()


def redis_refuses_writes(system: System, traffic: Traffic, *, setting: str) -> None:
    system.redis.config_set(setting, 1)
    try:
        traffic.go_on()
    finally:
        system.redis.config_set(setting, 0)


def redis_emptied(system: System, traffic: Traffic) -> None:
    system.redis.flushall()
    traffic.go_on()


def messages_forged(system: System, traffic: Traffic) -> None:
    """Garbage, and messages of models and vehicles that do not exist."""
    traffic.go_on()
    for payload in GARBAGE:
        for channel in (ModelPromoted.channel, VehicleSaved.channel):
            system.redis.publish(channel, payload)
    for version in (NOT_THERE, 1) * 3:
        system.publish(ModelPromoted(model_name=system.settings.model_name, version=version, epoch=10**6))
    system.redis.publish(VehicleSaved.channel, VehicleSaved(vehicle_id=NOT_THERE).encode())


def message_lost(system: System, traffic: Traffic) -> None:
    system.change_champion(publish=lambda _: None)
    traffic.go_on()


def messages_repeated(system: System, traffic: Traffic) -> None:
    """Those of two promotions, each many times and before the other."""
    sent: list[ModelPromoted] = []
    for _ in range(2):
        system.change_champion(publish=sent.append)
    traffic.go_on()
    for message in [*reversed(sent), *sent, *reversed(sent)]:
        system.publish(message)


def web_workers_killed(
    system: System, traffic: Traffic, *, every: bool = False, in_a_swap: bool = False
) -> None:
    workers = system.web_workers()
    if in_a_swap:
        system.change_champion()
    for worker in workers if every else workers[:1]:
        kill(worker)
    traffic.go_on()


def web_server_killed(system: System, traffic: Traffic) -> None:
    workers = system.web_workers()
    kill(system.program("web"))
    traffic.go_on()
    wait_until(lambda: all(map(is_gone, workers)))


def mlflow_killed(system: System, traffic: Traffic, *, workers_too: bool = False) -> None:
    """Web workers that are killed while it is not there come back with the last good model."""
    kill_program(system, "mlflow")
    if workers_too:
        web_workers_killed(system, traffic, every=True)
    traffic.go_on()
    wait_until_healthy(f"{system.settings.mlflow}/health")


def prefect_killed(system: System, traffic: Traffic) -> None:
    kill_program(system, "prefect")
    traffic.go_on()
    wait_until_healthy(f"{system.settings.prefect}/api/health")


def kill_program(system: System, name: str) -> None:
    """Kill a supervised program and all it started."""
    program = system.program(name)
    for process in [program, *program.children(recursive=True)]:
        kill(process)


def wait_until_healthy(url: str) -> None:
    """Wait until a service is back."""
    wait_until(lambda: httpx.get(url, timeout=2).is_success, timeout_s=RESTART_TIMEOUT_S)


def killed_in_a_run(
    system: System,
    traffic: Traffic,
    *,
    victims: Callable[[System], list[psutil.Process]] = System.run_processes,
    action: str = "materialize",
    after_s: float = 0,
) -> None:
    """The run comes to an end, and the next one completes."""
    run_id = system.press(action)
    wait_until(system.run_processes, timeout_s=RESTART_TIMEOUT_S)
    time.sleep(after_s)
    processes = victims(system)
    for process in processes:
        process.suspend()  # so that none reports the end of another
    for process in processes:
        kill(process)
    traffic.go_on()
    system.whole.system.end_of(run_id)
    state, message = system.whole.system.end_of(system.press(action))
    assert state == "COMPLETED", f"{action}, run again, ends as {state}: {message}"


def prefect_worker(system: System) -> list[psutil.Process]:
    """Return the process that starts flow runs."""
    return [system.program("worker")]


def prefect_server(system: System) -> list[psutil.Process]:
    """Return Prefect's server and what it started."""
    server = system.program("prefect")
    return [server, *server.children(recursive=True)]


def run_killed(action: str, after_s: float) -> Fault:
    """Return the fault of a run's process that is killed a while after it began."""
    name = f"run of {action} killed {after_s:.1f} s after its start"
    return Fault("prefect", name, partial(killed_in_a_run, action=action, after_s=after_s))


WEB = "save predict"
CASES: tuple[Case, ...] = (
    Fault("redis", "Redis killed (kill -9); it comes back empty", redis_killed, tries=2),
    Fault("redis", "Redis stopped, started again empty", redis_stopped),
    Fault("redis", "Redis hung (SIGSTOP)", redis_hung),
    Fault("redis", "Redis hung while the champion changes", partial(redis_hung, is_promoting=True)),
    Fault(
        "redis",
        "Redis full (maxmemory, noeviction)",
        partial(redis_refuses_writes, setting="maxmemory"),
    ),
    Fault(
        "redis",
        "Redis read-only (min-replicas-to-write)",
        partial(redis_refuses_writes, setting="min-replicas-to-write"),
    ),
    Fault("redis", "Redis emptied (FLUSHALL)", redis_emptied),
    Fault("messages", "messages forged and garbled", messages_forged),
    Fault("messages", "promotion whose message is lost", message_lost),
    Fault("messages", "messages repeated and out of order", messages_repeated),
    Fault("web", "web worker killed while it saves", web_workers_killed, refuses=WEB, tries=3),
    Fault("web", "all web workers killed at once", partial(web_workers_killed, every=True), refuses=WEB),
    Fault(
        "web",
        "web worker killed in a swap",
        partial(web_workers_killed, in_a_swap=True),
        refuses=WEB,
        tries=3,
    ),
    Fault("web", "web app's main process killed", web_server_killed, refuses=WEB),
    Fault("mlflow", "MLflow killed", mlflow_killed),
    Fault(
        "mlflow",
        "MLflow killed, then all web workers",
        partial(mlflow_killed, workers_too=True),
        refuses=WEB,
    ),
    Fault("prefect", "Prefect server killed", prefect_killed),
    *(run_killed("materialize", after_s) for after_s in (0.5, 2.0, 3.0)),
    run_killed("train", 4.0),
    Fault("prefect", "Prefect worker killed in a run", partial(killed_in_a_run, victims=prefect_worker)),
    Fault(
        "prefect",
        "Prefect worker and run killed together",
        partial(killed_in_a_run, victims=lambda s: [*s.run_processes(), *prefect_worker(s)]),
    ),
    Fault("prefect", "Prefect server killed in a run", partial(killed_in_a_run, victims=prefect_server)),
)
