"""What serves in a marketplace, month by month: `python -m benchmarks.operation [--months N] [--seed N]`.

A first fleet with a year of bookings comes as CSV.  Cars arrive over the web form each week, are booked at
rates of their own (the recipe of data/generate.py), and some are withdrawn.  Each month the bookings are
exported and seeded, the champion is monitored, and a candidate is trained and judged.  In month 8 arrivals
become dearer, from month 15 on demand is half of what it was, and the export of month 26 lacks half of that
month's bookings, which the next one has.

What serves is scored each month on unseen cars like those that arrive, against their outcomes at the rates of
that month.  Beside ours there is an oracle, trained on the complete outcomes of the vehicles whose watch is
over, which serves at once, and the old way without the rule that a watch must be over: a count so far is a
label.  Its candidate is scored too, whether or not the gate lets it serve.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure

from data.generate import NUM_SECONDS, START, draw_rates, make_vehicles
from tests.snapshots import FrameSnapshot
from vroom_features.database.history import withdraw_vehicle
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore, Snapshot
from vroom_features.vehicle import COLUMNS, UI_VEHICLE_ID_START, VehicleCreate
from vroom_features.view import VEHICLE_VIEW
from vroom_features.watch import Watch, midnight
from vroom_model.errors import TrainingDataError
from vroom_model.evaluation.drift import monitor
from vroom_model.evaluation.gate import compare
from vroom_model.records import ModelVersion
from vroom_model.serving.predictor import Predictor
from vroom_model.training.train import train

Array = npt.NDArray[np.float64]
FIRST_MONTH = np.datetime64("2024-01", "M")
DAY, YEAR = np.timedelta64(1, "D"), np.timedelta64(NUM_SECONDS, "s")
SHIFT, HALVED, LOST = 8, 15, 26
"""Months: arrivals become dearer, demand is halved, bookings are lost from the export."""
EVENTS = {SHIFT: "arrivals dearer", HALVED: "demand halved", LOST: "bookings lost"}
DEARER, DEMAND = 1.25, 0.5
WITHDRAWN = {True: 0.01, False: 0.03}
"""Share of the booked arrivals, and of those never booked, that is withdrawn in a month."""
ERROR_MARGIN, BIAS_MARGIN = 0.03, 0.3
SIDES = ("ours", "oracle", "old", "old candidate")


def start_of(month: int) -> np.datetime64:
    """Return the first moment of a month; month 1 is the first after the first fleet's year."""
    return np.datetime64(FIRST_MONTH + (month - 1), "s")


def utc(moment: np.datetime64) -> datetime:
    return datetime.fromisoformat(str(moment)).replace(tzinfo=UTC)


@dataclass
class Market:
    """Cars' bookings until the end of the replay, also those to come."""

    rng: np.random.Generator
    end: np.datetime64
    bookings: pd.DataFrame = field(default_factory=pd.DataFrame)

    def draw_cars(self, ids: Sequence[int], month: int) -> pa.Table:
        """Return cars as they arrive in a month."""
        cars = make_vehicles(self.rng, np.asarray(ids))
        for name in ("actual_price", "ratio") if month >= SHIFT else ():
            dearer = pa.array((cars[name].to_numpy() * DEARER).round(2))
            cars = cars.set_column(cars.column_names.index(name), name, dearer)
        return cars

    def book(self, cars: pa.Table, ids: Sequence[int], since: np.datetime64) -> None:
        """Draw the bookings of cars, year by year, less those that low demand takes away."""
        trials, probability = draw_rates(self.rng, cars)
        while since < self.end:
            booked = np.repeat(ids, self.rng.binomial(trials, probability))
            created_at = since + self.rng.integers(0, NUM_SECONDS, len(booked)).astype("timedelta64[s]")
            kept = (created_at < start_of(HALVED)) | (self.rng.random(len(booked)) < DEMAND)
            drawn = pd.DataFrame({"vehicle_id": booked[kept], "created_at": created_at[kept]})
            self.bookings = pd.concat([self.bookings, drawn])
            since = since + YEAR

    def withdraw(self, vehicle_id: int, moment: np.datetime64) -> None:
        """End a car's bookings."""
        gone = (self.bookings["vehicle_id"] == vehicle_id) & (self.bookings["created_at"] >= moment)
        self.bookings = self.bookings[~gone]

    def exported(self, month: int) -> pd.DataFrame:
        """Return the bookings that the export at the end of a month has."""
        made = self.bookings[self.bookings["created_at"] < start_of(month + 1)]
        if month != LOST:
            return made
        return made[(made["created_at"] < start_of(month)) | (self.rng.random(len(made)) < 0.5)]

    def outcomes(self, cars: pa.Table, month: int, days: int) -> Array:
        """Return how often cars are booked in so many days at the rates of a month."""
        trials, probability = draw_rates(self.rng, cars)
        share = days * 24 * 3600 / NUM_SECONDS * (DEMAND if month >= HALVED else 1)
        return self.rng.binomial(trials, np.minimum(probability * share, 1)).astype(float)

    def labels(self, rows: pd.DataFrame, watch: Watch) -> "pd.Series[int]":
        """Return the complete label of each vehicle of a snapshot that has one."""
        since = rows["watch_start"].mask(
            rows["vehicle_id"] < UI_VEHICLE_ID_START, midnight(watch.first_day).replace(tzinfo=None)
        )
        booked = self.bookings.merge(rows[["vehicle_id"]].assign(since=since))
        age = booked["created_at"] - booked["since"]
        counts = booked.loc[(age >= timedelta(0)) & (age < watch.length), "vehicle_id"].value_counts()
        label = rows["vehicle_id"].map(counts).fillna(0).astype("Int64")
        return label.where(rows[VEHICLE_VIEW.label].notna())


@dataclass
class Serving:
    """The versions that were trained; the last one is the candidate."""

    versions: list[Predictor] = field(default_factory=list)
    champion: Predictor | None = None

    def retrain(self, snapshot: Snapshot, as_of: datetime) -> str:
        """Train a candidate and let the gate decide; return its reason, or why there is no candidate."""
        try:
            candidate = trained(snapshot, len(self.versions), as_of)
        except TrainingDataError as exc:
            return str(exc)
        self.versions.append(candidate)
        metrics = candidate.manifest.metrics
        if metrics["rmse"] >= metrics["baseline_rmse"]:
            return "it does not beat the mean, and would not be registered"
        chosen = ModelVersion(candidate.version, "", as_of, {})
        champion = ModelVersion(self.champion.version, "", as_of, {}) if self.champion else None
        decision = compare(chosen, champion, snapshot, load=lambda each: self.versions[each.version])
        if decision.promote:
            self.champion = candidate
        return decision.reason


def trained(snapshot: Snapshot, version: int, as_of: datetime) -> Predictor:
    """Train a model and load it as it would be served."""
    with tempfile.TemporaryDirectory() as name:
        model = train(snapshot, directory=Path(name), as_of=as_of)
        return Predictor.load(model.directory, version=version, manifest_sha256=model.manifest_sha256)


def replay(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Replay a marketplace in a folder, and yield what was seen each month; 0 is the first fleet's year."""
    market = Market(np.random.default_rng(options.seed), start_of(options.months + 1))
    cars = market.draw_cars(range(1, options.fleet + 1), 0)
    market.book(cars, range(1, options.fleet + 1), START)
    cars.to_pandas()[["vehicle_id", *COLUMNS]].to_csv(folder / "vehicles.csv", index=False)
    offline, ours, naive = OfflineStore(str(folder / "offline")), Serving(), Serving()
    with closing(SourceStore.open(f"sqlite:///{folder / 'source.db'}")) as source:
        for month in range(options.months + 1):
            now, before, report = utc(start_of(month + 1)), ours.champion, None
            if month:
                cars = arrive(market, source, month, options.arrivals)
            market.exported(month).to_csv(folder / "reservations.csv", index=False)
            seed(source, folder)
            materialize(source, offline, None, now=now)
            snapshot = offline.current()
            if before:
                report = monitor(before, snapshot, VEHICLE_VIEW.compute(columns(cars)), as_of=now)
            reason = ours.retrain(snapshot, now)
            rows = snapshot.read()
            rows["watch_start"] = rows["watch_start"].dt.tz_localize(None)
            labels = market.labels(rows, snapshot.watch)
            num_wrong = int((labels != rows[VEHICLE_VIEW.label]).sum())
            naive.retrain(relabelled(snapshot, rows, rows[VEHICLE_VIEW.count]), now)
            oracle = trained(relabelled(snapshot, rows, labels), 0, now) if num_wrong else ours.versions[-1]
            scored = market.draw_cars(range(1, options.unseen + 1), month)
            outcomes = market.outcomes(scored, month, snapshot.watch.days)
            served = zip(SIDES, (ours.champion, oracle, naive.champion, naive.versions[-1]), strict=True)
            gaps = {
                name: model.predict_many(columns(scored)).predicted_reservations - outcomes
                for name, model in served
            }
            yield {
                "month": month,
                "labels": snapshot.num_labels,
                "incomplete": num_wrong,
                **{f"error {name}": np.abs(gap).mean() for name, gap in gaps.items()},
                **{f"bias {name}": gap.mean() for name, gap in gaps.items()},
                "promoted": ours.champion is not before,
                "drift": ", ".join(report.drifted) if report else "",
                "fall": bool(report and report.lost_bookings),
                "gate": reason,
            }


def arrive(market: Market, source: SourceStore, month: int, arrivals: int) -> pa.Table:
    """Withdraw some of the cars that came before, and save those of a month, week by week."""
    middle, is_made = start_of(month) + 14 * DAY, market.bookings["created_at"] < start_of(month)
    booked = set(market.bookings.loc[is_made, "vehicle_id"])
    for car in source.list_vehicles(sort="vehicle_id", page_size=1_000_000).items:
        is_listed = car.source == "ui" and car.withdrawn_at is None
        if is_listed and market.rng.random() < WITHDRAWN[car.vehicle_id in booked]:
            withdraw_vehicle(source, car.vehicle_id, withdrawn_at=utc(middle))
            market.withdraw(car.vehicle_id, middle)
    weeks = [
        day for day in np.arange(start_of(month), start_of(month + 1), DAY) if not (day - START) // DAY % 7
    ]
    arrived = [market.draw_cars(range(arrivals), month) for _ in weeks]
    for day, cars in zip(weeks, arrived, strict=True):
        rows = cars.to_pandas()[list(COLUMNS)].to_dict("records")
        saved = [source.save_vehicle(VehicleCreate(**row), saved_at=utc(day)) for row in rows]
        market.book(cars, [each.vehicle.vehicle_id for each in saved], day)
    return pa.concat_tables(arrived)


def columns(cars: pa.Table) -> Mapping[str, Array]:
    return {name: cars[name].to_numpy().astype(float) for name in COLUMNS}


def relabelled(snapshot: Snapshot, rows: pd.DataFrame, labels: "pd.Series[int]") -> FrameSnapshot:
    """Return a snapshot with other labels."""
    rows = rows.assign(**{VEHICLE_VIEW.label: labels})
    held = ("created_at", "watch_days", "complete_through", "num_booked_last", "num_booked_before")
    return FrameSnapshot.of(rows, **{name: getattr(snapshot, name) for name in held})


def missed(seen: pd.DataFrame) -> dict[str, list[str]]:
    """Return each target with the months that missed it."""
    error = seen["error ours"] / seen["error oracle"] - 1
    bias = seen["bias ours"] - seen["bias oracle"]
    is_shift, is_lost = seen["month"] == SHIFT, seen["month"] == LOST
    has_drift = seen["drift"].str.contains("price_diff")
    found = {
        "error within 3 % of the oracle's": (error > ERROR_MARGIN, error.map("{:+.1%}".format)),
        "bias within 0.3 of the oracle's": (bias.abs() > BIAS_MARGIN, bias.map("{:+.2f}".format)),
        "dearer arrivals are reported in their month": (is_shift & ~has_drift, seen["drift"]),
        "lost bookings are reported in their month": (is_lost & ~seen["fall"], seen["drift"]),
        "nobody is promoted on lost bookings": (is_lost & seen["promoted"], seen["gate"]),
    }
    return {
        target: [f"{month} ({value})" for month, value in zip(seen["month"][rows], values[rows], strict=True)]
        for target, (rows, values) in found.items()
    }


def draw(seen: pd.DataFrame, path: Path) -> None:
    """Draw error and bias of each side."""
    mpl.rcParams["svg.hashsalt"] = "operation"
    figure = Figure(figsize=(9, 6), layout="constrained")
    for axes, what in zip(figure.subplots(2, 1, sharex=True), ("error", "bias"), strict=True):
        for side, style in zip(SIDES, ("-", "--", "-", ":"), strict=True):
            axes.plot(seen["month"], seen[f"{what} {side}"], style, label=side)
        for month, event in EVENTS.items():
            axes.axvline(month, color="grey", linewidth=0.5)
            axes.annotate(event, (month, 0.98), xycoords=("data", "axes fraction"), va="top", fontsize=8)
        axes.set(ylabel=f"{what}, reservations", xlabel="month")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Print each month, then each target with the months that missed it; fail if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--months", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--fleet", type=int, default=1_000, help="vehicles at the start")
    parser.add_argument("--arrivals", type=int, default=25, help="vehicles a week")
    parser.add_argument("--unseen", type=int, default=5_000, help="vehicles to score on each month")
    parser.add_argument("--picture", type=Path, help="where to draw error and bias (.svg)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        seen = pd.DataFrame(replay(Path(name), options))
    seen.insert(1, "event", seen["month"].map(EVENTS).fillna(""))
    print(seen.drop(columns="gate").to_string(index=False, float_format="%.2f"))
    for month, event, reason in seen.loc[seen["event"] != "", ["month", "event", "gate"]].to_numpy():
        print(f"month {month}, {event}: {reason}")
    targets = missed(seen)
    for target, months in targets.items():
        print(f"{target}: {'missed in ' + ', '.join(months) if months else 'reached'}")
    if options.picture:
        draw(seen, options.picture)
    return int(any(targets.values()))


if __name__ == "__main__":
    sys.exit(main())
