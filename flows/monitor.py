"""Monitor the champion: drift of new arrivals, and forecasts against outcomes where a watch is over."""

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
from prefect import State, flow, get_run_logger
from prefect.states import Completed

from flows.tasks.endings import ENDS, fails_in_a_sentence
from flows.tasks.promotions import library_task, open_promotions
from flows.tasks.reports import LEFT_OUT, NEXT_MATURES, announce, keep_table, left_out
from vroom_features.database.queries import StoredVehicle
from vroom_features.database.vehicles import SourceStore
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings, read_settings
from vroom_features.view import VEHICLE_VIEW
from vroom_model.evaluation.drift import monitor
from vroom_model.records import MIN_ARRIVALS, MonitorReport

NUM_ARRIVALS_MAX = 10_000
"""The latest so many are compared."""
ARRIVAL_DAYS = 30


@library_task(timeout_s=600)
def check_drift(settings: Settings, as_of: datetime) -> MonitorReport | None:
    """Compare; a repeated task finds the same."""
    snapshot = OfflineStore(settings.offline_store).current()
    with closing(SourceStore.open(settings.source_database)) as source:
        latest = source.list_vehicles(sort="vehicle_id", descending=True, page_size=NUM_ARRIVALS_MAX).items
    rows = [vehicle.model_dump() for vehicle in saved_lately(latest, as_of)]
    columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in VEHICLE_VIEW.sources}
    with open_promotions(settings) as promotions:
        champion = promotions.registry.champion()
        if champion is None:
            return None
        arrivals = VEHICLE_VIEW.compute(columns)
        report = monitor(
            promotions.load(champion),
            snapshot,
            arrivals,
            as_of=as_of,
            max_drop=settings.promotion_max_label_drop,
        )
        promotions.registry.set_tags(champion.version, {"monitor": report.model_dump_json()})
        if report.matured:
            promotions.registry.keep_matured(champion, report.matured, at=as_of)
    get_run_logger().info(
        "read snapshot %s and %d arrivals; wrote the tag monitor of version %d",
        snapshot.id,
        report.num_arrivals,
        report.version,
    )
    return report


def saved_lately(latest: Sequence[StoredVehicle], as_of: datetime) -> Sequence[StoredVehicle]:
    """Return the vehicles of the form saved in the last 30 days, or the latest few where these are fewer.

    All that were never booked would be those of a year, in which a change of this month is hard to see.
    """
    saved = [vehicle for vehicle in latest if vehicle.saved_at]
    since = as_of - timedelta(days=ARRIVAL_DAYS)
    lately = [vehicle for vehicle in saved if vehicle.saved_at and vehicle.saved_at >= since]
    return lately if len(lately) >= MIN_ARRIVALS else saved[:MIN_ARRIVALS]


@flow(name="vroom_forecast_monitor", timeout_seconds=1800, **ENDS)
@fails_in_a_sentence
async def vroom_forecast_monitor() -> State[MonitorReport | None]:
    """Compare the champion's inputs and outcomes with its training, and keep the report on its version."""
    settings = read_settings()
    report = await check_drift(settings, datetime.now(UTC))
    rows: dict[str, object] = {}
    summary = "there is no champion to monitor yet; run the pipeline first"
    if report:
        found = report.outcomes
        error = f"; MAE {found.mae:.3f} on {found.num_vehicles:,} vehicles" if found else ""
        summary = f"{report.summary}{error}{left_out(report.num_left_out, report.next_matures)}"
        rows = _rows(report)
        if report.has_drifted:
            await announce(settings, "drifted", summary, report.version, features=report.drifted)
    about = "Drift of saved cars, and the champion's forecasts against outcomes"
    await keep_table("Monitor", rows, key="monitor", about=about, sentence=summary)
    return Completed(message=summary, data=report)


def _rows(report: MonitorReport) -> dict[str, object]:
    rows: dict[str, object] = {"version": report.version, "saved cars": report.num_arrivals}
    for drift in report.features:
        psi = "" if drift.psi is None else f" (PSI {drift.psi:.3f})"
        rows[f"drift of {drift.feature}"] = f"{drift.verdict}{psi}"
    for name, value in (report.outcomes.model_dump() if report.outcomes else {}).items():
        rows[f"outcomes: {'share in range' if name == 'held' else name}"] = value
    for name, value in (report.matured.model_dump() if report.matured else {}).items():
        rows[f"matured since the training: {name}"] = value
    return rows | {LEFT_OUT: report.num_left_out, NEXT_MATURES: report.next_matures}
