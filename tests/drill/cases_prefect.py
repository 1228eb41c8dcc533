"""The Prefect worker and the processes of flow runs killed while a run is under way."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.drill import promises
from tests.drill.case import Case, Fault
from tests.drill.cases_processes import program_killed
from tests.drill.system import System, kill, wait_until
from tests.drill.traffic import Traffic

RUN_TIMEOUT_S = 150.0
"""Prefect reports a run that is lost within two minutes."""
ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


def run_killed(action: str, after_s: float) -> Fault:
    """Return the fault of a run's process that is killed a while after it began."""

    @contextmanager
    def broken(system: System) -> Iterator[None]:
        run_id = system.start_run(action)
        wait_until(system.run_processes, "the run's process is there", timeout_s=RUN_TIMEOUT_S)
        time.sleep(after_s)
        for process in system.run_processes():
            kill(process)
        yield
        ends(system, run_id)
        completes(system, action)

    return Fault(f"run of {action} killed {after_s:.1f} s after its start", "prefect", broken)


@contextmanager
def worker_killed(system: System) -> Iterator[None]:
    """Kill the worker while a run is under way; the run goes on or ends, and the next one completes."""
    run_id = system.start_run("materialize")
    wait_until(system.run_processes, "the run's process is there", timeout_s=RUN_TIMEOUT_S)
    kill(system.program("worker"))
    yield
    ends(system, run_id)
    completes(system, "materialize")


@contextmanager
def worker_and_run_killed(system: System) -> Iterator[None]:
    """Kill the worker and the run's process together, so that nobody is left to tell Prefect."""
    run_id = system.start_run("materialize")
    wait_until(system.run_processes, "the run's process is there", timeout_s=RUN_TIMEOUT_S)
    victims = [*system.run_processes(), system.program("worker")]
    for process in victims:
        process.suspend()
    for process in victims:
        kill(process)
    yield
    ends(system, run_id)
    completes(system, "materialize")


@contextmanager
def server_killed_mid_run(system: System) -> Iterator[None]:
    """Kill the Prefect server while a run is under way."""
    run_id = system.start_run("materialize")
    wait_until(system.run_processes, "the run's process is there", timeout_s=RUN_TIMEOUT_S)
    with program_killed(system, "prefect", f"{system.settings.prefect}/api/health"):
        yield
    ends(system, run_id)
    completes(system, "materialize")


def ends(system: System, run_id: str) -> None:
    """Wait until Prefect knows how a run ended."""
    wait_until(
        lambda: system.run_state(run_id) in ENDED,
        f"run {run_id} has an end ({system.run_state(run_id)})",
        timeout_s=RUN_TIMEOUT_S,
    )


def completes(system: System, action: str) -> None:
    """Start a run anew, by the button, and see it completed."""
    run_id = system.start_run(action)
    ends(system, run_id)
    state = system.run_state(run_id)
    promises.hold(state == "COMPLETED", f"{action}, run again, ends as {state}")


def briefly(_: System, traffic: Traffic) -> None:
    """Let the clients go on for a moment."""
    traffic.wait_for(saves=2, forecasts=5)


def cases() -> Iterator[Case]:
    """Give them."""
    for after_s in (0.5, 2.0, 3.0):
        yield run_killed("materialize", after_s)
    yield run_killed("train", 4.0)
    yield Fault("Prefect worker killed in a run", "prefect", worker_killed, briefly)
    yield Fault("Prefect worker and run killed together", "prefect", worker_and_run_killed, briefly)
    yield Fault("Prefect server killed in a run", "prefect", server_killed_mid_run, briefly)
