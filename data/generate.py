"""Generate a sample fleet: `python data/generate.py --out DIR [--vehicles N] [--seed S]`.

The recipe was fitted to a real fleet of a public car-sharing data set; data/README.md has its figures.  The
same seed gives the same fleet.  Rows are made and written a block at a time, so that a fleet of ten million
needs no more memory than one of a hundred thousand.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from cyclopts import App
from pyarrow import csv

BLOCK = 100_000
START = np.datetime64("2023-01-01T00:00:00", "s")
NUM_SECONDS = 364 * 24 * 3600

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """How a segment is booked: Binomial(trials, Beta(mean * weight, (1 - mean) * weight))."""

    trials: int
    mean: float
    weight: float


SEGMENTS = (
    Segment(25, 0.492, 2.85),  # priced at the market: ratio 1.00 to 1.03
    Segment(20, 0.498, 1.91),  # any other ratio up to 1.1
    Segment(15, 0.452, 2.42),  # 1.1 to 1.3
    Segment(10, 0.394, 1.86),  # 1.3 to 1.5, at most 2 photos
    Segment(5, 0.523, 1.91),  # above 1.5, at most 2 photos
    Segment(15, 0.459, 3.28),  # 1.3 to 1.5, 3 photos or more
    Segment(13, 0.495, 2.92),  # 1.5 to 1.7, 3 photos or more
    Segment(13, 0.418, 3.78),  # above 1.7, 3 photos or more
)
PHOTO_EFFECT = {3: 0.88, 4: 0.99, 5: 1.15}  # on the mean of the last three segments

app = App(help=__doc__)


@app.default
def generate(*, out: Path, vehicles: int = 1000, seed: int = 0) -> None:
    """Write vehicles.csv and reservations.csv, and their SHA256SUMS.

    Parameters
    ----------
    out : Path
        Folder to write to; made if it is missing.
    vehicles : int
        How many.
    seed : int
        Of the random numbers.
    """
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    options = csv.WriteOptions(quoting_style="none", quoting_header="none")
    with (
        csv.CSVWriter(out / "vehicles.csv", _SCHEMA, write_options=options) as vehicle_file,
        csv.CSVWriter(out / "reservations.csv", _BOOKING_SCHEMA, write_options=options) as booking_file,
    ):
        for first in range(1, vehicles + 1, BLOCK):
            block = make_vehicles(rng, np.arange(first, min(first + BLOCK, vehicles + 1)))
            vehicle_file.write(block.drop_columns("ratio"))
            booking_file.write(make_reservations(rng, block))
    names = ("vehicles.csv", "reservations.csv")
    (out / "SHA256SUMS").write_text("".join(f"{sha256(out / name)}  {name}\n" for name in names))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_vehicles(rng: np.random.Generator, vehicle_ids: Ints) -> pa.Table:
    """Return vehicles with these ids, and the ratio of their two prices."""
    n = len(vehicle_ids)
    recommended = rng.integers(35, 90, n, endpoint=True)
    part = rng.choice(3, n, p=[0.05, 0.57, 0.38])
    low, high = np.array([[0.795, 0.995, 1.495], [0.995, 1.505, 2.005]])[:, part]
    ratio = np.clip(np.round(rng.uniform(low, high), 2), 0.8, 2.0)
    actual = np.round(recommended * ratio, 2)
    is_short = rng.random(n) < 0.48
    return pa.table(
        {
            "vehicle_id": vehicle_ids,
            "technology": (rng.random(n) < 0.48) & (actual <= 73.5),
            "actual_price": actual,
            "recommended_price": recommended,
            "num_images": rng.choice(np.arange(1, 6), n, p=[0.171, 0.223, 0.202, 0.235, 0.169]),
            "street_parked": rng.random(n) < 0.5,
            "description": np.where(
                is_short, rng.integers(1, 50, n, endpoint=True), rng.integers(51, 250, n, endpoint=True)
            ),
            "ratio": ratio,
        }
    ).cast(pa.schema([*_SCHEMA, pa.field("ratio", pa.float64())]))


def make_reservations(rng: np.random.Generator, vehicles: pa.Table) -> pa.Table:
    """Return the bookings of these vehicles, in random order."""
    counts = rng.binomial(*draw_rates(rng, vehicles))
    vehicle_ids = rng.permutation(np.repeat(vehicles["vehicle_id"].to_numpy(), counts))
    created_at = START + rng.integers(0, NUM_SECONDS, len(vehicle_ids)).astype("timedelta64[s]")
    return pa.table({"vehicle_id": vehicle_ids, "created_at": created_at}).cast(_BOOKING_SCHEMA)


def draw_rates(rng: np.random.Generator, vehicles: pa.Table) -> tuple[Ints, Floats]:
    """Return each vehicle's trials in 364 days, and the probability that one of them is a booking."""
    ratio = vehicles["ratio"].to_numpy()
    photos = vehicles["num_images"].to_numpy()
    segment = segment_of(ratio, photos)
    trials, mean, weight = np.array([[s.trials, s.mean, s.weight] for s in SEGMENTS]).T[:, segment]
    for count, effect in PHOTO_EFFECT.items():
        mean = np.where((segment >= 5) & (photos == count), mean * effect, mean)
    return trials.astype(int), rng.beta(mean * weight, (1 - mean) * weight)


def segment_of(ratio: Floats, photos: Ints) -> Ints:
    """Return the index into ``SEGMENTS`` of each vehicle."""
    few = photos <= 2
    conditions = [
        (ratio >= 1.0) & (ratio <= 1.03),
        ratio <= 1.1,
        ratio <= 1.3,
        few & (ratio <= 1.5),
        few,
        ratio <= 1.5,
        ratio <= 1.7,
    ]
    return np.select(conditions, list(range(len(conditions))), default=7)


_SCHEMA = pa.schema(
    [
        ("vehicle_id", pa.int64()),
        ("technology", pa.int8()),
        ("actual_price", pa.float64()),
        ("recommended_price", pa.int64()),
        ("num_images", pa.int8()),
        ("street_parked", pa.int8()),
        ("description", pa.int16()),
    ]
)
_BOOKING_SCHEMA = pa.schema([("vehicle_id", pa.int64()), ("created_at", pa.timestamp("s"))])

if __name__ == "__main__":
    app()
