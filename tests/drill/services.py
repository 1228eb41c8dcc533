"""Faults of Redis, messages, the web app, MLflow and Prefect: killed, hung, full, emptied, forged."""

import time
from collections.abc import Sequence

import httpx

from tests.drill.case import CASES, Fault, fault
from tests.drill.system import System, is_gone, kill
from tests.drill.traffic import Traffic
from tests.promises.system import wait_until
from vroom_features.messages import VehicleSaved
from vroom_model.messages import ModelPromoted

RESTART_TIMEOUT_S = 90
NOT_THERE = 987_654
WEB = "save predict"
GARBAGE = (b"", b"\xff\xfe\x00", b"[]", b'{"version": 1e999}', b"x" * 100_000)


def redis_killed(system: System, _: Traffic) -> None:
    kill(system.redis_server())


def unannounced(system: System, _: Traffic) -> None:
    system.change_champion(publish=lambda _: None)


CASES += [
    Fault("redis", "Redis killed (kill -9); it comes back empty", redis_killed, tries=2),
    Fault("redis", "Redis emptied (FLUSHALL)", lambda system, _: system.web.redis.flushall()),
    Fault("messages", "promotion whose message is lost", unannounced),
]


@fault("redis", "Redis stopped, started again empty")
def redis_stopped(system: System, traffic: Traffic) -> None:
    system.supervise("stopProcess", "redis")
    traffic.go_on()
    system.supervise("startProcess", "redis")


@fault("redis", "Redis hung while the champion changes", how={"is_promoting": True})
@fault("redis", "Redis hung (SIGSTOP)")
def redis_hung(system: System, traffic: Traffic, *, is_promoting: bool = False) -> None:
    server = system.redis_server()
    server.suspend()
    try:
        if is_promoting:
            unannounced(system, traffic)
        traffic.go_on()
    finally:
        server.resume()


@fault("redis", "Redis read-only (min-replicas-to-write)", how={"setting": "min-replicas-to-write"})
@fault("redis", "Redis full (maxmemory, noeviction)", how={"setting": "maxmemory"})
def redis_refuses_writes(system: System, traffic: Traffic, *, setting: str) -> None:
    system.web.redis.config_set(setting, 1)
    try:
        traffic.go_on()
    finally:
        system.web.redis.config_set(setting, 0)


@fault("messages", "messages forged and garbled")
def messages_forged(system: System, traffic: Traffic) -> None:
    traffic.go_on()
    for payload in GARBAGE:
        for channel in (ModelPromoted.channel, VehicleSaved.channel):
            system.web.redis.publish(channel, payload)
    for version in (NOT_THERE, 1) * 3:
        system.publish(ModelPromoted(model_name=system.settings.model_name, version=version, epoch=10**6))
    system.web.redis.publish(VehicleSaved.channel, VehicleSaved(vehicle_id=NOT_THERE).encode())


@fault("messages", "messages repeated and out of order")
def messages_repeated(system: System, traffic: Traffic) -> None:
    """Those of two promotions, each many times and before the other."""
    sent: list[ModelPromoted] = []
    for _ in range(2):
        system.change_champion(publish=sent.append)
    traffic.go_on()
    for message in [*reversed(sent), *sent, *reversed(sent)]:
        system.publish(message)


@fault("web", "web worker killed in a swap", refuses=WEB, tries=3, how={"in_a_swap": True})
@fault("web", "all web workers killed at once", refuses=WEB, how={"num": None})
@fault("web", "web worker killed while it saves", refuses=WEB, tries=3)
def web_workers_killed(system: System, _: Traffic, *, num: int | None = 1, in_a_swap: bool = False) -> None:
    workers = system.web_workers()
    if in_a_swap:
        system.change_champion()
    for worker in workers[:num]:
        kill(worker)


@fault("web", "web app's main process killed", refuses=WEB)
def web_server_killed(system: System, traffic: Traffic) -> None:
    workers = system.web_workers()
    kill(system.program("web"))
    traffic.go_on()
    wait_until(lambda: all(map(is_gone, workers)))


@fault("prefect", "Prefect server killed", how={"name": "prefect"})
@fault("mlflow", "MLflow killed, then all web workers", refuses=WEB, how={"workers_too": True})
@fault("mlflow", "MLflow killed")
def server_killed(
    system: System, traffic: Traffic, *, name: str = "mlflow", workers_too: bool = False
) -> None:
    """Web workers that are killed while MLflow is not there come back with the last good model."""
    program = system.program(name)
    for process in [program, *program.children(recursive=True)]:
        kill(process)
    if workers_too:
        web_workers_killed(system, traffic, num=None)
    traffic.go_on()
    health = {
        "mlflow": f"{system.settings.mlflow}/health",
        "prefect": f"{system.settings.prefect}/api/health",
    }
    wait_until(lambda: httpx.get(health[name], timeout=2).is_success, timeout_s=RESTART_TIMEOUT_S)


@fault("prefect", "Prefect server killed in a run", how={"programs": ["prefect"], "run": False})
@fault("prefect", "Prefect worker and run killed together", how={"programs": ["worker"]})
@fault("prefect", "Prefect worker killed in a run", how={"programs": ["worker"], "run": False})
@fault("prefect", "run of train killed 4.0 s after its start", how={"flow": "training", "after_s": 4})
@fault("prefect", "run of materialize killed 3.0 s after its start", how={"after_s": 3.0})
@fault("prefect", "run of materialize killed 2.0 s after its start", how={"after_s": 2.0})
@fault("prefect", "run of materialize killed 0.5 s after its start", how={"after_s": 0.5})
def killed_in_a_run(
    system: System,
    traffic: Traffic,
    *,
    flow: str = "materialize",
    after_s: float = 0,
    run: bool = True,
    programs: Sequence[str] = (),
) -> None:
    """The run comes to an end, and the next one completes."""
    run_id = system.web.deploy_run(f"vroom_forecast_{flow}")
    wait_until(system.run_processes, timeout_s=RESTART_TIMEOUT_S)
    time.sleep(after_s)
    processes = [*(system.run_processes() if run else []), *map(system.program, programs)]
    for process in processes:
        process.suspend()  # so that none reports the end of another
    for process in processes:
        kill(process)
    traffic.go_on()
    system.web.end_of(run_id)
    system.web.run(f"vroom_forecast_{flow}")
