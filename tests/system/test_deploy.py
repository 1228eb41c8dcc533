"""What deploy/ holds, as far as it can be tried without Docker; docs/deploy.md says what that is."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from tests.promises.system import ROOT, VEHICLE, Json, wait_until
from tests.system.containers import HOST, OURS, VARIABLES, Containers, started
from tests.system.images import DEPLOY, compose, machine, stages

pytestmark = pytest.mark.packaging

ABSENT = {
    "web": {"mlflow", "mlflow-skinny", "prefect", "xgboost", "xgboost-cpu", "matplotlib", "pandas"},
    "orchestrator": {"mlflow", "mlflow-skinny", "xgboost", "xgboost-cpu", "matplotlib", "pandas", "pyarrow"},
}
MONITORING = DEPLOY / "monitoring"
DISTRIBUTIONS = "from importlib.metadata import *; print(*(d.name.lower() for d in distributions()))"


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test with a sentence where programs are not installed; `make test-packaging` installs them."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"{', '.join(missing)} not installed, and no right to install it"
    )


def run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_compose_file_is_valid_and_mounts_files_that_exist() -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    run(check, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    example = re.findall(r"^(\w+)=", (DEPLOY / "compose.env").read_text(), flags=re.MULTILINE)
    assert set(example) == set(VARIABLES)
    services = compose(VARIABLES)
    named = set(stages())
    for name, service in services.items():
        assert {*service.get("depends_on", ())} <= {*services}
        if "build" in service:
            assert service["build"]["target"] in named, name
        for volume in service.get("volumes", ()):
            origin = volume.split(":")[0]
            assert "/" not in origin or (DEPLOY / origin).exists() or origin == "./tls", volume
    for name in re.findall(r"^  server (\w+):", (DEPLOY / "nginx.conf").read_text(), flags=re.MULTILINE):
        assert services["nginx"]["depends_on"][name]["restart"]  # it finds their addresses when it starts


@needs("systemd-analyze")
def test_the_units_are_valid_and_start_the_programs_of_the_images(tmp_path: Path) -> None:
    units = []
    for unit in sorted((DEPLOY / "systemd").iterdir()):
        text = unit.read_text()
        for path in re.findall(r"^ExecStart=/opt/vroom/(\S+)", text, flags=re.MULTILINE):
            assert (ROOT / path).exists(), path
        units.append(tmp_path / unit.name)
        units[-1].write_text(text.replace("/opt/vroom", str(ROOT)))
    assert len(units) == 5
    assert run("systemd-analyze", "verify", *units) == ""


@needs("promtool")
def test_the_alerts_are_valid_and_fire() -> None:
    run("promtool", "check", "config", MONITORING / "prometheus.yml")
    run("promtool", "test", "rules", Path(__file__).with_name("alerts.yml"))
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    cases = yaml.safe_load(Path(__file__).with_name("alerts.yml").read_text())["tests"]
    tested = {case["alertname"] for test in cases for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert tested == {rule["alert"] for rule in rules}


def panel_expressions() -> list[str]:
    """Return what the dashboard asks Prometheus."""
    panels = json.loads((MONITORING / "grafana.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def selectors() -> Iterator[tuple[str, str]]:
    """Yield each metric that an alert or the dashboard reads, with its labels."""
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    for expression in [*(rule["expr"] for rule in rules), *panel_expressions()]:
        yield from re.findall(r"\b(vroom_\w+)(?:\{([^}]*)\})?", expression)


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("apt-get") is None:
        pytest.skip("images are built by root on Debian alone: it takes namespaces and packages")
    with machine(tmp_path_factory.mktemp("deploy")) as made:
        containers = Containers(made)
        hosts = f"127.0.0.1 localhost {' '.join(containers.services)}\n"
        for image in (*dict.fromkeys(map(containers.image, OURS)), "others"):
            if image == "others":
                containers.prepare_others()
            else:
                made.build(image)
            made.run("sh", "-c", f"echo '{hosts}' >{made.root(image)}/etc/hosts")
        for name in OURS:
            containers.mount_volumes(name)
        with containers.stack:
            yield containers


@pytest.mark.timeout(2400)
def test_every_line_of_the_dockerfile_builds_and_no_image_has_what_it_does_not_need(
    containers: Containers,
) -> None:
    version = re.findall(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert re.findall(r"uv==([\d.]+)", (DEPLOY / "Dockerfile").read_text()) == version
    for image, service in (("web", "web"), ("orchestrator", "prefect")):
        python = "/opt/orchestrator/bin/python" if image == "orchestrator" else "python"
        found = containers.run(service, python, "-c", DISTRIBUTIONS).split()
        assert len(found) > 20
        assert ABSENT[image] & set(found) == set()
    assert containers.run("web", "id", "-un").strip() == "vroom"


@pytest.mark.timeout(2400)
def test_the_composed_services_train_promote_and_forecast_behind_nginx(containers: Containers) -> None:
    containers.start_others()
    containers.start("mlflow")
    containers.start("prefect")
    assert containers.ask("/", address="http://prefect:4200")[1].startswith("<!DOCTYPE html>")
    containers.run("deployments")
    for name in ("worker", "web", "events"):
        containers.start(name)
    nginx = "exec nginx -g 'daemon off;'"
    containers.machine.run(*containers.machine.inside("others", "nginx -t"))
    containers.stack.enter_context(
        started(containers.machine.enter(*containers.machine.inside("others", nginx)))
    )
    wait_until(lambda: containers.ask("/v2/health/live")[0] == 200, timeout_s=60)
    assert containers.ask("/predict", address=f"http://{HOST}")[0] == 301
    assert containers.ask("/metrics")[0] == 403

    for flow in ("vroom_forecast_materialize", "vroom_forecast_pipeline"):
        containers.run("worker", "prefect", "deployment", "run", f"{flow}/{flow}", "--watch")
    wait_until(lambda: containers.json("/health")["status"] == "ok", timeout_s=60)
    body = ["-H", "Content-Type: application/json", "-d", json.dumps(VEHICLE)]
    assert containers.json("/predict", *body)["model_version"] == 1
    token = ["-H", f"Authorization: Bearer {VARIABLES['VROOM_OPERATOR_PASSWORD']}"]
    saved = containers.json("/vehicles", *body, *token)["vehicle_id"]
    assert containers.json("/predict/id", *body[:2], "-d", json.dumps({"vehicle_id": saved}))["source"]
    assert containers.ask("/vehicles", *body)[0] == 401  # behind a proxy only the operator saves
    _, events = containers.ask("/events", "--max-time", "10")
    assert events.startswith("retry: 2000")

    containers.run("backup", "sh", "deploy/backup.sh", "/backups/whole")
    files = {"vroom.backup", "mlflow.dump", "prefect.dump", "artifacts.tar"}
    assert {path.name for path in (containers.machine.folder / "volumes/backups/whole").iterdir()} == files


def test_alerts_and_dashboard_read_metrics_that_are_there(containers: Containers) -> None:
    status, text = containers.ask("/metrics", address="http://web:8000")
    assert status == 200  # by the name that prometheus.yml has
    labels: dict[str, set[str]] = {}
    for name, pairs in re.findall(r"^(vroom_\w+)(?:\{(.*)\})? ", text, flags=re.MULTILINE):
        labels.setdefault(name, set()).update(re.findall(r'(\w+)="', pairs))
    for metric, given in selectors():
        assert metric in labels
        assert set(re.findall(r"(\w+)=", given)) <= labels[metric], metric


@pytest.mark.timeout(600)
def test_prometheus_has_data_for_every_panel_and_an_alert_when_the_web_app_is_stopped(
    containers: Containers,
) -> None:
    def answer(what: str, *options: str) -> Json:
        address = "http://prometheus:9090"
        found: Json = containers.json(f"/api/v1/{what}", *options, address=address)["data"]
        return found

    def has_numbers(expression: str) -> bool:
        found = answer("query", "-G", "--data-urlencode", f"query={expression}")["result"]
        return bool(found) and all(series["value"][1] != "NaN" for series in found)

    def rules() -> list[Json]:
        return list(answer("rules")["groups"][0]["rules"])

    body = ["-H", "Content-Type: application/json", "-d", json.dumps(VEHICLE)]
    empty = panel_expressions()

    def is_on_every_panel() -> bool:
        containers.json("/predict", *body)  # rates are of what is asked between two scrapes
        empty[:] = [expression for expression in empty if not has_numbers(expression)]
        return not empty

    with suppress(AssertionError):
        wait_until(is_on_every_panel, timeout_s=120)
    assert empty == []
    assert [target["health"] for target in answer("targets")["activeTargets"]] == ["up"]
    assert {rule["health"] for rule in rules()} == {"ok"}
    assert "firing" not in {rule["state"] for rule in rules()}

    containers.stop("web")
    wait_until(lambda: any(rule["state"] == "firing" for rule in rules()), timeout_s=180)
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == ["VroomDown"]
