"""CSV to forecast to hot swap, through the real processes; the tests of this file build on one another."""

import shutil
import signal
import socket
import stat
from pathlib import Path

import httpx
import pandas as pd
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.conftest import REAL_FLEET
from tests.factories import VEHICLE
from tests.whole_system import WholeSystem

pytestmark = [pytest.mark.system, pytest.mark.timeout(500)]


def test_the_main_job_ends_with_a_page_and_its_addresses(system: WholeSystem) -> None:
    assert f"http://127.0.0.1:{system.settings.web_port}" in system.output
    assert f"http://127.0.0.1:{system.settings.prefect_port}" in system.output
    assert system.settings.mlflow in system.output
    assert str(system.settings.home / "log") in system.output
    assert "failed" not in system.output


def test_the_page_forecasts_a_vehicle(system: WholeSystem) -> None:
    forecast = httpx.post(f"{system.url}/predict", json=VEHICLE).raise_for_status().json()
    assert forecast["model_version"] == 1
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


def test_a_promotion_without_a_better_candidate_is_refused(system: WholeSystem) -> None:
    system.run_deployment("vroom_forecast_promotion", "--param", "version=1")
    _wait_for_version(system, 1)


def test_the_running_app_swaps_to_a_model_of_changed_data(system: WholeSystem, data_dir: Path) -> None:
    vehicles = pd.read_csv(data_dir / "vehicles.csv")
    reservations = pd.read_csv(data_dir / "reservations.csv")
    on_the_street = vehicles.loc[vehicles["street_parked"] == 1, "vehicle_id"]
    boom = pd.DataFrame({"vehicle_id": on_the_street.repeat(12), "created_at": "2023-12-30 12:00:00"})
    pd.concat([reservations, boom]).to_csv(data_dir / "reservations.csv", index=False)

    system.run_deployment("vroom_forecast_materialize")
    system.run_deployment("vroom_forecast_pipeline")

    _wait_for_version(system, 2)
    street = (
        httpx.post(f"{system.url}/predict", json=VEHICLE | {"street_parked": 1}).raise_for_status().json()
    )
    garage = (
        httpx.post(f"{system.url}/predict", json=VEHICLE | {"street_parked": 0}).raise_for_status().json()
    )
    assert street["model_version"] == garage["model_version"] == 2
    assert street["predicted_reservations"] > garage["predicted_reservations"] + 6


def test_a_rollback_brings_the_previous_champion_back(system: WholeSystem) -> None:
    system.run_deployment("vroom_forecast_rollback")
    _wait_for_version(system, 1)


def test_the_running_system_goes_over_to_the_real_fleet(system: WholeSystem, data_dir: Path) -> None:
    if not REAL_FLEET.is_dir():
        pytest.skip(f"the real fleet is not at {REAL_FLEET}; set VROOM_REAL_DATA to its folder")
    for name in ("vehicles.csv", "reservations.csv"):
        shutil.copy(REAL_FLEET / name, data_dir)
    system.run_deployment("vroom_forecast_materialize")
    fleet = httpx.get(f"{system.url}/vehicles", params={"kind": "fleet"}).raise_for_status().json()
    assert fleet["total"] == len(pd.read_csv(REAL_FLEET / "vehicles.csv"))
    system.run_deployment("vroom_forecast_pipeline")
    reason = 'reason="the fleet is another one now"'
    system.run_deployment(
        "vroom_forecast_promotion", "--param", "version=3", "--param", "force=true", "--param", reason
    )
    _wait_for_version(system, 3)


def test_ctrl_c_stops_everything(system: WholeSystem) -> None:
    assert system.stop(signal.SIGINT) == 0
    settings = system.settings
    for port in (settings.web_port, settings.redis_port, settings.mlflow_port, settings.prefect_port):
        with socket.socket() as sock:
            assert sock.connect_ex(("127.0.0.1", port)) != 0


@retry(
    stop=stop_after_delay(20),
    wait=wait_fixed(0.1),
    retry=retry_if_exception_type(AssertionError),
    reraise=True,
)
def _wait_for_version(system: WholeSystem, version: int) -> None:
    """Wait until every worker answers with a version: connections are spread over them."""
    for _ in range(20):
        answer = httpx.post(f"{system.url}/predict", json=VEHICLE).raise_for_status().json()
        assert answer["model_version"] == version
