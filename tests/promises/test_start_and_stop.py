"""What `make run` leaves running, as people meet it, and how it ends: the last tests of all on it."""

import socket

import httpx
import psutil

from tests.promises.conftest import SCHEDULED
from tests.promises.system import PORTS, System, wait_until


def test_the_main_job_ends_with_a_page_and_its_addresses(system: System) -> None:
    for address in (system.url, system.prefect.removesuffix("/api"), system.mlflow, str(system.home / "log")):
        assert address in system.output
    assert "failed" not in system.output
    page = system.get("/")
    assert (page.status_code, page.headers["Content-Type"].partition(";")[0]) == (200, "text/html")


def test_a_schedule_that_was_added_makes_runs(system: System) -> None:
    with httpx.Client(base_url=system.prefect, timeout=30) as prefect:
        wanted = {
            "deployments": {"name": {"any_": [SCHEDULED]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        wait_until(
            lambda: prefect.post("/flow_runs/filter", json=wanted).raise_for_status().json(),
            timeout_s=90,
        )


def test_ctrl_c_stops_everything(system: System) -> None:
    started = psutil.Process(system.process.pid).children(recursive=True)
    assert len(started) > len(PORTS)
    system.stop()
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []
    for port in PORTS:
        with socket.socket() as sock:
            assert sock.connect_ex(("127.0.0.1", int(system.environment[port]))) != 0
