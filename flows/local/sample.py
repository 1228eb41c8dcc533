"""The sample fleet in ``data/``: it gives way to any other fleet, and replaces none."""

from pathlib import Path

from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import FILES, digest_of, has_fleet, last_seed

SAMPLE_DIR = Path(__file__).parents[2] / "data"


def holds_sample(source: SourceStore) -> bool:
    """Return whether the last seed was that of the sample."""
    return last_seed(source) == _sample_digest()


def is_sample_over_fleet(source: SourceStore, data_dir: Path) -> bool:
    """Return whether seeding would put the sample in the place of a fleet that is not the sample."""
    if holds_sample(source) or not has_fleet(source):
        return False
    return digest_of(data_dir) == _sample_digest()


def _sample_digest() -> str:
    """Return the digest of the files that the generator wrote, whatever stands in their place by now."""
    lines = (SAMPLE_DIR / "SHA256SUMS").read_text().splitlines()
    sums = {name: sha256 for sha256, name in map(str.split, lines)}
    return "".join(sums[name][:32] for name in FILES)
