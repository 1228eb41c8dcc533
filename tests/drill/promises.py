"""What must hold after every fault, looked up in the stores themselves and not asked of the web app."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from sqlalchemy import select

from tests.drill.clock import now
from tests.drill.system import System
from tests.drill.traffic import Heard
from tests.factories import VEHICLE
from vroom_features.database.queries import keys, vehicles
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import VroomFeaturesError
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.sync import audit
from vroom_model.errors import VroomModelError
from vroom_model.registry.registry import Registry

NUM_QUESTIONS = 8


class BrokenPromiseError(AssertionError):
    """A promise does not hold."""


def check_all(system: System) -> None:
    """Raise BrokenPromiseError unless every promise holds now."""
    try:
        saves_are_there_once(system)
        history_and_alias_agree(system)
        online_store_equals_the_database(system)
        snapshots_are_whole(system)
        a_verified_model_serves(system)
    except (VroomFeaturesError, VroomModelError, httpx.HTTPError) as exc:
        raise BrokenPromiseError(f"{type(exc).__name__}: {exc}") from exc


def saves_are_there_once(system: System) -> None:
    """Each acknowledged save is one row with its values; no save made a second row."""
    with system.source.engine.connect() as connection:
        made = {row.key: row.vehicle_id for row in connection.execute(select(keys))}
        typed_in = {
            row.vehicle_id: row
            for row in connection.execute(select(vehicles).where(vehicles.c.source == "ui"))
        }
    for key, (vehicle_id, body) in system.kept.saved.items():
        hold(
            made.get(key) == vehicle_id,
            f"the key {key} stands for {made.get(key)}, acknowledged was {vehicle_id}",
        )
        if vehicle_id in system.kept.deleted:
            hold(vehicle_id not in typed_in, f"vehicle {vehicle_id} is back after its deletion")
            continue
        row = typed_in.get(vehicle_id)
        hold(row is not None, f"the acknowledged vehicle {vehicle_id} is not in the database")
        stored = {name: getattr(row, name) for name in body}
        hold(stored == body, f"vehicle {vehicle_id} was saved as {body} and is {stored}")
    owners = Counter(made.values())
    for vehicle_id in typed_in.keys() - system.kept.earlier:
        hold(owners[vehicle_id] == 1, f"vehicle {vehicle_id} belongs to {owners[vehicle_id]} saves")
    unknown = {key for key, vehicle_id in made.items() if vehicle_id not in system.kept.earlier}
    hold(unknown <= system.kept.attempted, "the database holds keys that nobody sent")


def history_and_alias_agree(system: System) -> None:
    """The alias is what the history's last record says, and that record is closed."""
    (last, *_), champion = system.promotions().history(limit=1), system.registry.champion()
    hold(champion is not None, "there is no champion")
    if champion is not None:
        hold(last.version == champion.version, f"history says {last.version}, the alias {champion.version}")
        hold(last.is_closed, f"record {last.number} is open")


def online_store_equals_the_database(system: System) -> None:
    """Every online row is the pure functions of its database row, and none is missing or too many."""
    report = audit(system.source, system.online, as_of=now())
    hold(report.is_clean, f"the audit finds {report}")


def snapshots_are_whole(system: System) -> None:
    """Every part of every snapshot that is kept has its checksum, and the rows are as many as it says."""
    for snapshot in [*system.offline.snapshots(), system.offline.current()]:
        num_rows = snapshot.table().num_rows
        hold(
            num_rows == snapshot.num_rows,
            f"snapshot {snapshot.id} has {num_rows} rows, says {snapshot.num_rows}",
        )


def a_verified_model_serves(system: System) -> None:
    """Every worker answers with the champion, and with the number that its verified files give."""
    champion = system.registry.champion()
    version = champion.version if champion else 0
    expected = system.predictor(version).predict_one(VEHICLE).predicted_reservations
    for _ in range(NUM_QUESTIONS):
        answer = httpx.post(f"{system.url}/predict", json=VEHICLE, timeout=10).raise_for_status().json()
        hold(
            answer["model_version"] == version,
            f"version {answer['model_version']} serves, champion is {version}",
        )
        hold(
            abs(answer["predicted_reservations"] - expected) < 1e-4,
            f"version {version} forecasts {answer['predicted_reservations']}, its files {expected}",
        )
    for _ in range(NUM_QUESTIONS):
        health = system.health()
        hold(health["status"] == "ok", f"health is {health['status']}: {health['reasons']}")
    alive = {str(worker.pid) for worker in system.web_workers()}
    states = [state for state in health["workers"] or [] if state["worker"].rpartition(":")[2] in alive]
    served = [state["model_version"] for state in states]
    hold(served == [version] * system.settings.web_workers, f"the workers serve {served}")


def answers_were_true(system: System, heard: Heard) -> None:
    """Every forecast given meanwhile is that of the version it names, and no answer was an error of ours."""
    hold(not heard.wrong, "; ".join(heard.wrong[:3]))
    registered = {v.version for v in system.registry.versions() if v.tags.get("complete")}
    for forecast in heard.forecasts:
        hold(
            forecast.version in registered,
            f"an answer names version {forecast.version}, registered: {registered}",
        )
        expected = (
            system.predictor(forecast.version).predict_one(dict(forecast.vehicle)).predicted_reservations
        )
        hold(
            abs(forecast.predicted - expected) < 1e-4,
            f"an answer names version {forecast.version} and is {forecast.predicted}, which gives {expected}",
        )


def runs_converge(system: System) -> None:
    """The flows' work, run again, gives what one clean run gives; once more, it changes nothing."""
    try:
        seed(system.source, system.settings.data_dir)
        first = materialize(system.source, system.offline, system.online, as_of=now())
        seeded = seed(system.source, system.settings.data_dir)
        second = materialize(system.source, system.offline, system.online, as_of=now())
        snapshot = system.offline.current()
        system.promotions().finish()
        champion = system.registry.champion()
        version = champion.version if champion else None
        outcome = system.promotions().promote(snapshot, as_of=now(), version=version)
    except (VroomFeaturesError, VroomModelError) as exc:
        raise BrokenPromiseError(f"run again: {type(exc).__name__}: {exc}") from exc
    hold(seeded.is_unchanged and second.is_unchanged, f"a second run changes the stores: {seeded} {second}")
    hold(first.digest == second.digest == snapshot.digest, "a second run gives another digest")
    hold(not outcome.promoted, f"a second promotion promotes: {outcome.decision.reason}")


def the_snapshot_is_that_of_the_files(system: System) -> None:
    """The snapshot has the digest that a new database and a new store make of the same files."""
    with (
        TemporaryDirectory(prefix="drill-clean-") as name,
        closing(SourceStore.open(f"sqlite:///{name}/clean.db")) as source,
    ):
        seed(source, system.settings.data_dir)
        clean = materialize(source, OfflineStore(f"{name}/offline"), None, as_of=now())
    found = system.offline.current()
    hold(found.digest == clean.digest, f"snapshot {found.id} is not what a clean run makes of the files")


def one_whole_candidate(system: System, model_name: str) -> None:
    """A model has one complete version, which is the candidate, and its files are what the registry says."""
    with Registry(system.settings.mlflow, model_name) as registry, TemporaryDirectory() as name:
        versions = [version for version in registry.versions() if version.tags.get("complete")]
        candidate = registry.candidate()
        hold(len(versions) == 1, f"{model_name} has {len(versions)} complete versions")
        hold(candidate is not None and candidate.version == versions[0].version, "the candidate is another")
        registry.download(versions[0], Path(name))


def hold(is_so: bool, otherwise: str) -> None:
    """Raise unless it is so."""
    if not is_so:
        raise BrokenPromiseError(otherwise)
