"""How well the promotion gate tells a better model from luck: `python -m benchmarks.gate`.

On generated fleets of 1,000 vehicles.  Retrains that differ from the champion by their seed alone must not
pass; candidates that are better by about 2.5 % should.  The true gain is measured on 20,000 vehicles of the
same kind that no model saw.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from tests.snapshots import FrameSnapshot, read_fleet
from vroom_model.evaluation.gate import decide
from vroom_model.evaluation.metrics import score
from vroom_model.serving.predictor import Predictor
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.train import train

GENERATOR = Path(__file__).parents[1] / "data" / "generate.py"
AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
BEHIND = TrainingParams(num_rounds=17)
"""A champion about 2.5 % behind the model of today."""


def main() -> int:
    """Run both experiments, print what was decided, and fail if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fleets", type=int, default=8, help="generated fleets")
    parser.add_argument("--seeds", type=int, default=10, help="retrains per fleet that differ by their seed")
    parser.add_argument("--gains", type=int, default=40, help="fleets with a candidate that is really better")
    options = parser.parse_args()
    with generated(seed=10_000, vehicles=20_000) as unseen:
        lucky = sum(seed_only(fleet, options.seeds) for fleet in range(options.fleets))
        found, gains = 0, []
        for fleet in range(options.gains):
            promoted, gain = real_gain(fleet, unseen)
            found += promoted
            gains.append(gain)
    retrains = options.fleets * options.seeds
    print(f"seed-only retrains promoted: {lucky} of {retrains}")
    print(
        f"candidates truly better by {np.mean(gains):.1%} (from {min(gains):.1%} to {max(gains):.1%}) "
        f"promoted: {found} of {options.gains} ({found / options.gains:.0%})"
    )
    return int(lucky > 0 or found < 0.8 * options.gains)


def seed_only(fleet: int, num_seeds: int) -> int:
    """Return how many retrains with another seed the gate lets pass."""
    with generated(seed=fleet) as snapshot:
        champion = score(trained(snapshot, version=1, seed=0), snapshot)
        candidates = [trained(snapshot, version=1 + seed, seed=seed) for seed in range(1, num_seeds + 1)]
        return sum(decide(score(candidate, snapshot), champion).promote for candidate in candidates)


def real_gain(fleet: int, unseen: FrameSnapshot) -> tuple[bool, float]:
    """Return whether a better candidate is promoted, and how much better it is on vehicles nobody saw."""
    with generated(seed=1_000 + fleet) as snapshot:
        behind = trained(snapshot, version=1, seed=0, params=BEHIND)
        today = trained(snapshot, version=2, seed=1)
        promoted = decide(score(today, snapshot), score(behind, snapshot)).promote
    return promoted, 1 - unseen_error(today, unseen) / unseen_error(behind, unseen)


def unseen_error(predictor: Predictor, unseen: FrameSnapshot) -> float:
    """Return the mean absolute error of the served forecast."""
    frame = unseen.read()
    columns = {name: frame[name].to_numpy(dtype=float) for name in frame.columns}
    forecast = predictor.predict_many(columns).predicted_reservations
    return float(np.abs(forecast - columns["num_reservations"]).mean())


def trained(
    snapshot: FrameSnapshot, *, version: int, seed: int, params: TrainingParams | None = None
) -> Predictor:
    """Train a model and load it as it would be served."""
    with tempfile.TemporaryDirectory() as name:
        model = train(snapshot, directory=Path(name), as_of=AS_OF, params=params, seed=seed)
        return Predictor.load(model.directory, version=version, manifest_sha256=model.manifest_sha256)


@contextmanager
def generated(*, seed: int, vehicles: int = 1_000) -> Iterator[FrameSnapshot]:
    """Give a generated fleet."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, str(GENERATOR), "--out", name]
        command += ["--vehicles", str(vehicles), "--seed", str(seed)]
        subprocess.run(command, check=True)
        yield read_fleet(Path(name))


if __name__ == "__main__":
    sys.exit(main())
