"""What must hold after every fault, read from the stores themselves and not asked of the web app."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from sqlalchemy import select

from tests.drill.system import System, now
from tests.drill.traffic import Traffic
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


def check_all(system: System) -> None:
    try:
        saves_are_there_once(system)
        history_and_alias_agree(system)
        online_store_equals_the_database(system)
        snapshots_are_whole(system)
        a_verified_model_serves(system)
    except (VroomFeaturesError, VroomModelError, httpx.HTTPError) as exc:
        raise AssertionError(f"{type(exc).__name__}: {exc}") from exc


def saves_are_there_once(system: System) -> None:
    kept = system.kept
    with system.source.engine.connect() as connection:
        made = {row.key: row.vehicle_id for row in connection.execute(select(keys))}
        saved = connection.execute(select(vehicles).where(vehicles.c.source == "ui"))
        rows = {row.vehicle_id: row for row in saved}
    for key, (vehicle_id, body) in kept.saved.items():
        assert made.get(key) == vehicle_id, f"{key} made {vehicle_id}, the database has {made.get(key)}"
        if vehicle_id in kept.deleted:
            assert vehicle_id not in rows, f"vehicle {vehicle_id} is back after its deletion"
            continue
        assert vehicle_id in rows, f"the acknowledged vehicle {vehicle_id} is not in the database"
        stored = {name: getattr(rows[vehicle_id], name) for name in body}
        assert stored == body, f"vehicle {vehicle_id} was saved as {body} and is {stored}"
    num_saves = Counter(made.values())
    assert {num_saves[vehicle_id] for vehicle_id in rows.keys() - kept.earlier} <= {1}
    unknown = {key for key, vehicle_id in made.items() if vehicle_id not in kept.earlier} - kept.attempted
    assert not unknown, "the database holds keys that nobody sent"


def history_and_alias_agree(system: System) -> None:
    (last, *_), champion = system.promotions().history(limit=1), system.registry.champion()
    assert champion is not None, "there is no champion"
    assert last.version == champion.version, f"history says {last.version}, the alias {champion.version}"
    assert last.is_closed, f"record {last.number} is open"


def online_store_equals_the_database(system: System) -> None:
    report = audit(system.source, system.online, as_of=now())
    assert report.is_clean, f"the audit finds {report}"


def snapshots_are_whole(system: System) -> None:
    for snapshot in [*system.offline.snapshots(), system.offline.current()]:
        num_rows = snapshot.table().num_rows
        assert num_rows == snapshot.num_rows, f"{snapshot.id} has {num_rows} rows, not {snapshot.num_rows}"


def a_verified_model_serves(system: System) -> None:
    web, champion = system.web, system.registry.champion()
    assert champion is not None
    assert web.serves(champion.version), f"{web.health()} and champion is {champion.version}"
    assert len(web.workers()) == system.settings.web_workers, f"there are only {web.workers()}"
    expected = system.predictor(champion.version).predict_one(VEHICLE).predicted_reservations
    predicted, version = web.forecast()
    assert abs(predicted - expected) < 1e-4, f"version {version} forecasts {predicted}, not {expected}"


def answers_were_true(system: System, traffic: Traffic) -> None:
    assert not traffic.wrong, "; ".join(traffic.wrong[:3])
    registered = {v.version for v in system.registry.versions() if v.tags.get("complete")}
    for vehicle, answer in traffic.forecasts:
        version, predicted = answer["model_version"], answer["predicted_reservations"]
        assert version in registered, f"an answer names version {version}, registered: {registered}"
        expected = system.predictor(version).predict_one(vehicle).predicted_reservations
        assert abs(predicted - expected) < 1e-4, f"version {version} forecast {predicted}, not {expected}"


def runs_converge(system: System) -> None:
    try:
        first = system.materialize()
        seeded = seed(system.source, system.settings.data_dir)
        second = system.materialize()
        snapshot = system.offline.current()
        system.promotions().finish()
        champion = system.registry.champion()
        version = champion.version if champion else None
        outcome = system.promotions().promote(snapshot, as_of=now(), version=version)
    except (VroomFeaturesError, VroomModelError) as exc:
        raise AssertionError(f"run again: {type(exc).__name__}: {exc}") from exc
    assert seeded.is_unchanged, f"a second seed changes the database: {seeded}"
    assert second.is_unchanged, f"a second materialization changes the stores: {second}"
    assert first.digest == second.digest == snapshot.digest, "a second run gives another digest"
    assert not outcome.promoted, f"a second promotion promotes: {outcome.decision.reason}"


def the_snapshot_is_that_of_the_files(system: System) -> None:
    with (
        TemporaryDirectory(prefix="drill-clean-") as name,
        closing(SourceStore.open(f"sqlite:///{name}/clean.db")) as source,
    ):
        seed(source, system.settings.data_dir)
        clean = materialize(source, OfflineStore(f"{name}/offline"), None, now=now())
    found = system.offline.current()
    assert found.digest == clean.digest, f"snapshot {found.id} is not what a clean run makes of the files"


def one_whole_candidate(system: System, model_name: str) -> None:
    with Registry(system.settings.mlflow, model_name) as registry, TemporaryDirectory() as name:
        versions = [version for version in registry.versions() if version.tags.get("complete")]
        assert len(versions) == 1, f"{model_name} has {len(versions)} complete versions"
        candidate = registry.candidate()
        assert candidate is not None
        assert candidate.version == versions[0].version, "the candidate is another"
        registry.download(versions[0], Path(name))
