"""What `make run` leaves running, as people and programs meet it; the last test stops it.

Before this, on the same system: operations by the buttons of the pages (tests/browser) and a few faults.
"""

import signal
import socket
import stat

import httpx
import pytest

from tests.factories import VEHICLE
from tests.webapp.waiting import wait_until
from tests.whole_system import WholeSystem

pytestmark = [pytest.mark.system, pytest.mark.timeout(500)]


def test_the_main_job_ends_with_a_page_and_its_addresses(system: WholeSystem) -> None:
    assert f"http://127.0.0.1:{system.settings.web_port}" in system.output
    assert f"http://127.0.0.1:{system.settings.prefect_port}" in system.output
    assert str(system.settings.mlflow) in system.output
    assert str(system.settings.home / "log") in system.output
    assert "failed" not in system.output


def test_the_page_forecasts_a_vehicle(system: WholeSystem) -> None:
    forecast = httpx.post(f"{system.url}/predict", json=VEHICLE).raise_for_status().json()
    assert forecast["model_version"] == httpx.get(f"{system.url}/health").json()["model_version"]
    assert (
        0 <= forecast["interval"]["low"] <= forecast["predicted_reservations"] <= forecast["interval"]["high"]
    )
    assert httpx.get(f"{system.url}/").raise_for_status().headers["content-type"].startswith("text/html")


def test_a_saved_vehicle_is_forecast_from_the_online_store(system: WholeSystem) -> None:
    saved = httpx.post(f"{system.url}/vehicles", json=VEHICLE).raise_for_status().json()
    by_id = (
        httpx.post(f"{system.url}/predict/id", json={"vehicle_id": saved["vehicle_id"]})
        .raise_for_status()
        .json()
    )
    typed_in = httpx.post(f"{system.url}/predict", json=VEHICLE).raise_for_status().json()
    assert by_id["predicted_reservations"] == typed_in["predicted_reservations"]
    assert httpx.get(f"{system.url}/health").json()["status"] == "ok"


def test_the_printed_link_signs_the_operator_in_once(system: WholeSystem) -> None:
    codes = []
    for _ in range(2):
        with httpx.Client() as browser:
            browser.get(system.printed_link)
            codes.append(browser.get(f"{system.url}/audit").status_code)
    assert codes == [200, 401]


@pytest.mark.parametrize("headers", [{"Host": "rebound.example"}, {"Origin": "https://evil.example"}])
def test_no_server_answers_a_page_of_another_site(system: WholeSystem, headers: dict[str, str]) -> None:
    settings = system.settings
    for url in (
        f"{settings.prefect}/api/deployments/filter",
        f"{settings.mlflow}/api/2.0/mlflow/runs/search",
        f"http://127.0.0.1:{settings.web_port}/vehicles",
    ):
        ours = httpx.post(url, json={})
        assert ours.status_code in {200, 422}, (
            url,
            ours.text,
        )  # it is the name that is refused, not the call
        assert httpx.post(url, json={}, headers=headers).status_code in {400, 403}, url


def test_what_is_written_is_for_its_owner_alone(system: WholeSystem) -> None:
    home = system.settings.home
    written = {path: stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*") if not path.is_symlink()}
    assert {"vroom.db", "secret-key", "operator-password", "mlflow.db"} <= {path.name for path in written}
    assert {str(path): oct(mode) for path, mode in written.items() if mode & 0o077} == {}


def test_a_version_is_promoted_by_force_from_a_terminal(system: WholeSystem) -> None:
    reason = 'reason="the other one is known better"'
    system.run_deployment(
        "vroom_forecast_promotion", "--param", "version=1", "--param", "force=true", "--param", reason
    )
    system.wait_for_version(1)


def test_a_schedule_that_is_added_makes_runs(system: WholeSystem) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{system.settings.prefect_port}/api") as prefect:
        name = "vroom_forecast_monitor"
        deployment = prefect.get(f"/deployments/name/{name}/{name}").raise_for_status().json()
        daily = [{"active": True, "schedule": {"cron": "0 4 * * *"}}]
        prefect.post(f"/deployments/{deployment['id']}/schedules", json=daily).raise_for_status()
        mine = {"deployment_id": {"any_": [deployment["id"]]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
        wait_until(lambda: prefect.post("/flow_runs/filter", json={"flow_runs": mine}).json(), timeout_s=90)


def test_ctrl_c_stops_everything(system: WholeSystem) -> None:
    assert system.stop(signal.SIGINT) == 0
    settings = system.settings
    for port in (settings.web_port, settings.redis_port, settings.mlflow_port, settings.prefect_port):
        with socket.socket() as sock:
            assert sock.connect_ex(("127.0.0.1", port)) != 0
