"""How long training and promotion take in a fresh process: `python -m benchmarks.training [--repeats N]`.

On the generated sample of 1,000 vehicles, beside what a process costs that imports the libraries and fits
one plain XGBoost model of as many trees.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.processes import cost
from tests.processes import serve_mlflow
from tests.snapshots import SAMPLE
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
TRAIN_TARGET_S, PROMOTE_TARGET_S = 8.0, 1.8
TRAIN = """
import sys
from datetime import UTC, datetime
from vroom_features.offline.snapshots import OfflineStore
from vroom_model.training.register import train_candidate
from vroom_model.registry.registry import Registry
mlflow, database, offline, name, seed = sys.argv[1:]
with Registry(mlflow, name) as registry:
    registered = train_candidate(
        registry, OfflineStore(offline).current(), as_of=datetime.now(UTC), seed=int(seed)
    )
print(registered.is_new)
"""
PROMOTE = """
import sys
from datetime import UTC, datetime
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.database.vehicles import SourceStore
from vroom_model.registry.registry import Registry
from vroom_model.registry.promotion import PromotionService
mlflow, database, offline, name, seed = sys.argv[1:]
source = SourceStore.open(database)
with Registry(mlflow, name) as registry:
    promotions = PromotionService(registry, source, publish=print)
    outcome = promotions.promote(OfflineStore(offline).current(), as_of=datetime.now(UTC))
print(outcome.decision.champion_version is None or not outcome.promoted)
"""
REFERENCE = """
import mlflow, numpy as np, xgboost as xgb
rng = np.random.default_rng(0)
data = xgb.DMatrix(rng.normal(size=(1000, 5)), rng.normal(size=1000))
xgb.train({"max_depth": 4, "nthread": 1}, data, 60)
print(True)
"""


def main() -> int:
    """Print the times, and fail if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database, offline = f"sqlite:///{folder / 'vroom.db'}", str(folder / "offline")
        with closing(SourceStore.open(database)) as source:
            seed(source, SAMPLE)
            materialize(source, OfflineStore(offline), None, now=AS_OF)
        times: dict[str, list[float]] = {}
        with serve_mlflow(folder) as mlflow:
            for repeat in range(repeats):
                place = (mlflow, database, offline, "benchmark", str(repeat))
                for what, program in (
                    ("import mlflow and xgboost, fit one plain model", REFERENCE),
                    ("train and register", TRAIN),
                    ("the same again: unchanged inputs", TRAIN),
                    ("promote", PROMOTE),
                ):
                    times.setdefault(what, []).append(timed(program, place, expect_new=what))
    print(json.dumps({"repeats": repeats, "vehicles": 1000}))
    print(f"{'a fresh process, seconds':50}{'median':>8}{'least':>8}{'most':>8}{'target':>8}")
    targets = {"train and register": TRAIN_TARGET_S, "promote": PROMOTE_TARGET_S}
    missed = 0
    for what, taken in times.items():
        target = targets.get(what)
        median = statistics.median(taken)
        missed += target is not None and median > target
        goal = f"{target:8.1f}" if target else ""
        print(f"{what:50}{median:8.2f}{min(taken):8.2f}{max(taken):8.2f}{goal}")
    return int(missed > 0)


def timed(program: str, place: Sequence[str], *, expect_new: str) -> float:
    """Return how long a process takes, from its start to its end."""
    done = cost([sys.executable, "-c", program, *place])
    said = done.output.split()[-1]
    if said != str(expect_new != "the same again: unchanged inputs"):
        raise RuntimeError(f"{expect_new}: the process said {done.output}")
    return done.wall_s


if __name__ == "__main__":
    sys.exit(main())
