"""Promise 8: the champion changes only for a better one, once, and whatever is killed meanwhile."""

import json
import signal
import subprocess
import sys

import pytest
import yaml

from tests.faults import proxy_that_refuses
from tests.promises.conftest import read_rows, write_rows
from tests.promises.system import MODEL_NAME, ROOT, VEHICLE, System, wait_until

CHANNELS = tuple(f"{MODEL_NAME}:{name}" for name in ("model-promoted", "model-loaded", "pipeline-completed"))
REASON = "a test wants it"
NUM_WORKERS = 2


def flow_process(
    system: System, flow: str, mlflow: str | None = None, **parameters: object
) -> "subprocess.Popen[bytes]":
    """Run a flow in a process of its own, by the entrypoint of its deployment."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    (entrypoint,) = (each["entrypoint"] for each in deployments if each["name"] == flow)
    file, _, function = entrypoint.partition(":")
    module = file.removesuffix(".py").replace("/", ".")
    code = f"import asyncio; from {module} import {function} as flow; asyncio.run(flow(**{parameters!r}))"
    environment = system.environment | {"VROOM_MLFLOW_URI": mlflow or system.mlflow}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)


@pytest.fixture
def champion(system: System, challenger: int) -> int:
    """Return the champion of the start, serving, whatever the tests before have promoted."""
    first = min(int(found.version) for found in system.registry.search_model_versions(f"name='{MODEL_NAME}'"))
    if system.champion() != first:
        system.run("vroom_forecast_promotion", version=first, force=True, reason=REASON)
    wait_until(lambda: system.serves(first))
    return first


def test_a_candidate_that_is_not_better_is_refused_and_says_why(
    system: System, champion: int, challenger: int
) -> None:
    message = system.run("vroom_forecast_promotion")
    assert f"version {challenger}" in message
    assert f"champion {champion}" in message
    assert system.serves(champion)


def test_a_version_is_promoted_by_force_from_a_terminal_and_rolled_back(
    system: System, champion: int, challenger: int
) -> None:
    command = [sys.executable, "-m", "prefect", "deployment", "run", "--watch"]
    command += ["vroom_forecast_promotion/vroom_forecast_promotion", "--param", f"version={challenger}"]
    command += ["--param", "force=true", "--param", f"reason={json.dumps(REASON)}"]
    subprocess.run(command, cwd=ROOT, env=system.environment, check=True, capture_output=True, timeout=180)
    assert system.champion() == challenger
    wait_until(lambda: system.serves(challenger))
    system.run("vroom_forecast_rollback", reason=REASON)
    assert system.champion() == champion
    wait_until(lambda: system.serves(champion))


def test_two_promotions_at_once_leave_one_champion(system: System, champion: int, challenger: int) -> None:
    both = [
        flow_process(system, "vroom_forecast_promotion", version=version, force=True, reason=REASON)
        for version in (champion, challenger)
    ]
    assert [process.wait(120) for process in both] == [0, 0]
    winner = system.champion()
    assert winner in {champion, challenger}
    wait_until(lambda: system.serves(winner))


def test_a_promotion_and_a_rollback_that_are_killed_are_finished_once(
    system: System, champion: int, challenger: int
) -> None:
    promotion = {"version": challenger, "force": True, "reason": REASON}
    for flow, is_moved, parameters, expected in (
        ("vroom_forecast_promotion", False, promotion, challenger),
        ("vroom_forecast_rollback", True, {"reason": REASON}, champion),
    ):
        killed(system, flow, is_moved=is_moved, **parameters)
        message = system.run("vroom_forecast_promotion", version=expected)  # the next who looks finishes it
        assert "champion already" in message
        assert system.champion() == expected
        wait_until(lambda expected=expected: system.serves(expected))


def killed(system: System, flow: str, *, is_moved: bool, **parameters: object) -> None:
    """Run a flow that is killed as it moves the alias."""
    victim: list[subprocess.Popen[bytes]] = []

    def kill() -> bool:
        victim[0].kill()
        return True

    with proxy_that_refuses(system.mlflow, refuses=kill, is_done=is_moved) as address:
        victim.append(flow_process(system, flow, address, **parameters))
        assert victim[0].wait(120) == -signal.SIGKILL


def test_a_better_candidate_is_promoted_told_and_taken_over_by_every_worker(system: System) -> None:
    """All who park on the street are booked twelve times more: no model of before knows it."""
    before = system.champion()
    vehicles = read_rows(system.data_dir / "vehicles.csv")
    street = [row["vehicle_id"] for row in vehicles if row["street_parked"] == "1"]
    boom = [{"vehicle_id": i, "created_at": "2023-12-30 12:00:00"} for i in street for _ in range(12)]
    bookings = system.data_dir / "reservations.csv"
    write_rows(bookings, read_rows(bookings) + boom)
    system.run("vroom_forecast_materialize")
    with system.redis.pubsub(ignore_subscribe_messages=True) as messages:
        messages.subscribe(*CHANNELS)
        system.run("vroom_forecast_pipeline")
        champion = system.champion()
        assert champion > before
        told: dict[str, list[dict[str, object]]] = {name: [] for name in CHANNELS}

        def is_told() -> bool:
            if message := messages.get_message(timeout=0.1):
                told[message["channel"].decode()].append(json.loads(message["data"]))
            return (
                len(told[CHANNELS[1]]) >= NUM_WORKERS and bool(told[CHANNELS[0]]) and bool(told[CHANNELS[2]])
            )

        wait_until(is_told)
    versions = {message["version"] for found in told.values() for message in found}
    assert versions == {champion}
    assert told[CHANNELS[2]][0]["promoted"] is True
    wait_until(lambda: system.serves(champion))
    forecasts = [system.post("/predict", VEHICLE | {"street_parked": flag}).json() for flag in (0, 1)]
    assert forecasts[1]["predicted_reservations"] > forecasts[0]["predicted_reservations"] + 6


def test_a_missing_champion_is_replaced(system: System) -> None:
    system.registry.delete_registered_model_alias(MODEL_NAME, "champion")
    system.run("vroom_forecast_promotion")
    champion = system.champion()
    wait_until(lambda: system.serves(champion))
