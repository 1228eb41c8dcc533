"""Models on disk, which the workers of one machine share: fetched whole, kept while they may be needed."""

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.webapp.faults import FaultyProxy
from tests.webapp.registry import Models
from vroom_model.champion import LAST_GOOD, LEFT_BEHIND_S, NUM_CACHED_MAX, ChampionRef, ChampionSource
from vroom_model.errors import BrokenModelError, RegistryError
from vroom_model.manifest import MANIFEST_NAME, SERVING_NAME
from vroom_model.predictor import Predictor


@pytest.fixture
def champions(models: Models, tmp_path: Path) -> Iterator[ChampionSource]:
    """Return a reader of the registry with a cache of its own."""
    source = ChampionSource(models.url, models.name, cache_dir=tmp_path / "cache")
    yield source
    source.close()


def crowned(champions: ChampionSource, models: Models, forecast: float) -> ChampionRef:
    """Crown a new model and return what the registry says of it."""
    models.crown(models.register(forecast))
    ref = champions.current()
    assert ref is not None
    return ref


def test_workers_that_fetch_at_once_all_get_the_whole_model(
    champions: ChampionSource, models: Models, tmp_path: Path
) -> None:
    ref = crowned(champions, models, 4.0)
    sources = [ChampionSource(models.url, models.name, cache_dir=champions.cache_dir) for _ in range(8)]
    with ThreadPoolExecutor(len(sources)) as pool:
        folders = list(pool.map(lambda source: source.fetch(ref), sources))
    assert len(set(folders)) == 1
    predictor = Predictor.load(folders[0], version=ref.version, manifest_sha256=ref.manifest_sha256)
    assert predictor.manifest.probes[0].forecast == 4.0
    assert [path for path in champions.cache_dir.iterdir() if path.name.startswith(".")] == []
    for source in sources:
        source.close()


def test_old_models_are_cleared_but_never_the_last_good_or_the_new_one(
    champions: ChampionSource, models: Models
) -> None:
    last_good = crowned(champions, models, 1.0)
    champions.fetch(last_good)
    champions.remember(last_good)
    refs = [crowned(champions, models, 2.0 + number) for number in range(NUM_CACHED_MAX + 3)]
    for age, ref in enumerate(reversed(refs)):
        folder = champions.fetch(ref)
        os.utime(folder, (time.time() - age, time.time() - age))
    newest = crowned(champions, models, 50.0)
    champions.fetch(newest)
    assert champions.is_kept(last_good)
    assert champions.is_kept(newest)
    assert champions.last_good() == last_good
    assert [champions.is_kept(ref) for ref in refs] == [False] * 3 + [True] * NUM_CACHED_MAX


def test_what_a_killed_worker_left_half_fetched_is_cleared_later(
    champions: ChampionSource, models: Models
) -> None:
    stale, recent = champions.cache_dir / ".fetch-stale", champions.cache_dir / ".fetch-recent"
    for folder in (stale, recent):
        (folder / "bundle").mkdir(parents=True)
    long_ago = time.time() - LEFT_BEHIND_S - 1
    os.utime(stale, (long_ago, long_ago))
    champions.fetch(crowned(champions, models, 4.0))
    assert not stale.exists()
    assert recent.exists()  # somebody may be at it


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b"\x80\x04."])
def test_a_spoiled_note_of_the_last_good_model_counts_as_none(
    champions: ChampionSource, models: Models, content: bytes
) -> None:
    ref = crowned(champions, models, 4.0)
    champions.fetch(ref)
    champions.remember(ref)
    assert champions.last_good() == ref
    assert json.loads((champions.cache_dir / LAST_GOOD).read_bytes())["version"] == ref.version
    (champions.cache_dir / LAST_GOOD).write_bytes(content)
    assert champions.last_good() is None


@pytest.mark.parametrize(
    "path", ["..", "../other/bundle", "/etc", "bundle/../..", "%2e%2e", "C:\\x", "a//b", ""]
)
def test_a_model_outside_its_run_is_never_asked_for(
    champions: ChampionSource, models: Models, path: str
) -> None:
    ref = dataclasses.replace(crowned(champions, models, 4.0), bundle_path=path)
    unasked = ChampionSource("http://127.0.0.1:9", models.name, cache_dir=champions.cache_dir)
    with pytest.raises(BrokenModelError, match="leaves the model's run"):
        unasked.fetch(ref)
    assert list(champions.cache_dir.iterdir()) == []
    unasked.close()


@pytest.mark.parametrize("name", [MANIFEST_NAME, SERVING_NAME])
def test_a_link_out_of_the_artifact_store_brings_nothing_in(
    champions: ChampionSource,
    models: Models,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    name: str,
) -> None:
    ref = crowned(champions, models, 4.0)
    secret = tmp_path / "secret"
    secret.write_text("of somebody else")
    stored = f"mlflow-server[0-9]*/artifacts/*/{ref.run_id}/artifacts/bundle/{name}"
    (inside,) = tmp_path_factory.getbasetemp().glob(stored)
    inside.unlink()
    inside.symlink_to(secret)
    with pytest.raises((BrokenModelError, RegistryError)):
        champions.fetch(ref)
    assert list(champions.cache_dir.iterdir()) == []


def test_an_answer_that_only_trickles_in_is_given_up(
    champions: ChampionSource, models: Models, proxy: FaultyProxy, tmp_path: Path
) -> None:
    ref = crowned(champions, models, 4.0)
    slow = ChampionSource(proxy.url, models.name, cache_dir=tmp_path / "slow", answer_timeout_s=0.5)
    proxy.is_trickling = True
    with pytest.raises(RegistryError, match=r"more than 0\.5 s"):
        slow.current()
    with pytest.raises(RegistryError, match=r"more than 0\.5 s"):
        slow.fetch(ref)
    proxy.heal()
    assert slow.current() == ref
    slow.close()
