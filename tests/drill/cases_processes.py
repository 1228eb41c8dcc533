"""kill -9 of every process of the system, and of flow runs under way."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx

from tests.drill.case import Case, Fault
from tests.drill.cases_redis import other_champion
from tests.drill.system import System, is_gone, kill, wait_until
from tests.drill.traffic import Traffic

WEB = frozenset({"save", "predict"})


@contextmanager
def one_worker_killed(system: System) -> Iterator[None]:
    """Kill one web worker while it saves."""
    kill(system.web_workers()[0])
    yield


@contextmanager
def every_worker_killed(system: System) -> Iterator[None]:
    """Kill all web workers at once."""
    for worker in system.web_workers():
        kill(worker)
    yield


@contextmanager
def worker_killed_in_a_swap(system: System) -> Iterator[None]:
    """Kill a web worker just as it is told of another champion."""
    worker = system.web_workers()[0]
    other_champion(system)
    kill(worker)
    yield


@contextmanager
def web_server_killed(system: System) -> Iterator[None]:
    """Kill the web app's main process."""
    before = system.program("web")
    workers = system.web_workers()
    kill(before)
    yield
    wait_until(
        lambda: system.program_pid("web") not in (0, before.pid), "the supervisor started the web app again"
    )
    wait_until(lambda: all(map(is_gone, workers)), "the old workers are gone")


@contextmanager
def program_killed(system: System, name: str, url: str) -> Iterator[None]:
    """Kill a supervised program and all it started; wait until it answers again."""
    process = system.program(name)
    for part in [process, *process.children(recursive=True)]:
        kill(part)
    yield
    wait_until(lambda: _answers(url), f"{name} answers again", timeout_s=90)


def mlflow_killed(system: System) -> AbstractContextManager[None]:
    """Kill MLflow."""
    return program_killed(system, "mlflow", f"{system.settings.mlflow}/health")


def prefect_killed(system: System) -> AbstractContextManager[None]:
    """Kill the Prefect server."""
    return program_killed(system, "prefect", f"{system.settings.prefect}/api/health")


def workers_die_too(system: System, traffic: Traffic) -> None:
    """Kill the web workers while MLflow is away: they come back with the last good model."""
    for worker in system.web_workers():
        kill(worker)
    traffic.wait_for(saves=3, forecasts=10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False


def cases() -> Iterator[Case]:
    """Give the faults of processes."""
    yield Fault("web worker killed while it saves", "web", one_worker_killed, refuses=WEB, tries=3)
    yield Fault("all web workers killed at once", "web", every_worker_killed, refuses=WEB)
    yield Fault("web worker killed in a swap", "web", worker_killed_in_a_swap, refuses=WEB, tries=3)
    yield Fault("web app's main process killed", "web", web_server_killed, refuses=WEB)
    yield Fault("MLflow killed", "mlflow", mlflow_killed)
    yield Fault("MLflow killed, then all web workers", "mlflow", mlflow_killed, workers_die_too, refuses=WEB)
    yield Fault("Prefect server killed", "prefect", prefect_killed)
