"""Models on disk, which the workers of one machine share: fetched whole, kept while they may be needed."""

import dataclasses
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.webapp.faults import FaultyProxy
from tests.webapp.registry import Models
from vroom_model.errors import BrokenModelError, RegistryError
from vroom_model.manifest import MANIFEST_NAME, SERVING_NAME
from vroom_model.registry.model_cache import LAST_GOOD, LEFT_BEHIND_S, NUM_CACHED_MAX, ChampionRef, ModelCache
from vroom_model.registry.registry import Registry
from vroom_model.serving.predictor import Predictor


@pytest.fixture
def registry(models: Models) -> Iterator[Registry]:
    with Registry(models.url, models.name) as registry:
        yield registry


@pytest.fixture
def cache(registry: Registry, tmp_path: Path) -> ModelCache:
    return ModelCache(registry.api, tmp_path / "cache")


def crowned(registry: Registry, models: Models, forecast: float) -> ChampionRef:
    models.crown(models.register(forecast))
    champion = registry.champion()
    assert champion is not None
    return champion.ref


def test_workers_that_fetch_at_once_all_get_the_whole_model(
    registry: Registry, cache: ModelCache, models: Models, tmp_path: Path
) -> None:
    ref = crowned(registry, models, 4.0)
    caches = [ModelCache(registry.api, cache.cache_dir) for _ in range(8)]
    with ThreadPoolExecutor(len(caches)) as pool:
        folders = list(pool.map(lambda each: each.fetch(ref), caches))
    assert len(set(folders)) == 1
    predictor = Predictor.load(folders[0], version=ref.version, manifest_sha256=ref.manifest_sha256)
    assert predictor.manifest.probes[0].forecast == 4.0
    assert [path for path in cache.cache_dir.iterdir() if path.name.startswith(".")] == []


def test_old_models_are_cleared_but_never_the_last_good_or_the_new_one(
    registry: Registry, cache: ModelCache, models: Models
) -> None:
    last_good = crowned(registry, models, 1.0)
    cache.fetch(last_good)
    cache.remember(last_good)
    refs = [crowned(registry, models, 2.0 + number) for number in range(NUM_CACHED_MAX + 3)]
    for age, ref in enumerate(reversed(refs)):
        folder = cache.fetch(ref)
        os.utime(folder, (time.time() - age, time.time() - age))
    newest = crowned(registry, models, 50.0)
    cache.fetch(newest)
    assert cache.is_kept(last_good)
    assert cache.is_kept(newest)
    assert cache.last_good() == last_good
    assert [cache.is_kept(ref) for ref in refs] == [False] * 3 + [True] * NUM_CACHED_MAX


def test_what_a_killed_worker_left_half_fetched_is_cleared_later(
    registry: Registry, cache: ModelCache, models: Models
) -> None:
    stale, recent = cache.cache_dir / ".fetch-stale", cache.cache_dir / ".fetch-recent"
    for folder in (stale, recent):
        (folder / "bundle").mkdir(parents=True)
    long_ago = time.time() - LEFT_BEHIND_S - 1
    os.utime(stale, (long_ago, long_ago))
    cache.fetch(crowned(registry, models, 4.0))
    assert not stale.exists()
    assert recent.exists()  # it may still be downloaded


def test_a_spoiled_note_of_the_last_good_model_counts_as_none(
    registry: Registry, cache: ModelCache, models: Models
) -> None:
    ref = crowned(registry, models, 4.0)
    cache.fetch(ref)
    cache.remember(ref)
    assert cache.last_good() == ref
    for content in (b"", b"{", b"[]", b'{"version": 1}', b"\x80\x04."):
        (cache.cache_dir / LAST_GOOD).write_bytes(content)
        assert cache.last_good() is None


@pytest.mark.parametrize(
    "path", ["..", "../other/bundle", "/etc", "bundle/../..", "%2e%2e", "C:\\x", "a//b", ""]
)
def test_a_model_outside_its_run_is_never_asked_for(
    registry: Registry, cache: ModelCache, models: Models, path: str
) -> None:
    ref = dataclasses.replace(crowned(registry, models, 4.0), bundle_path=path)
    with (
        Registry("http://127.0.0.1:9", models.name) as unasked,
        pytest.raises(BrokenModelError, match="is outside the model's run"),
    ):
        ModelCache(unasked.api, cache.cache_dir).fetch(ref)
    assert list(cache.cache_dir.iterdir()) == []


@pytest.mark.parametrize("name", [MANIFEST_NAME, SERVING_NAME])
def test_a_link_out_of_the_artifact_store_brings_nothing_in(
    registry: Registry,
    cache: ModelCache,
    models: Models,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    name: str,
) -> None:
    ref = crowned(registry, models, 4.0)
    secret = tmp_path / "secret"
    secret.write_text("of somebody else")
    stored = f"mlflow-server[0-9]*/artifacts/*/{ref.run_id}/artifacts/bundle/{name}"
    (inside,) = tmp_path_factory.getbasetemp().glob(stored)
    inside.unlink()
    inside.symlink_to(secret)
    with pytest.raises((BrokenModelError, RegistryError)):
        cache.fetch(ref)
    assert list(cache.cache_dir.iterdir()) == []


def test_an_answer_that_only_trickles_in_is_given_up(
    registry: Registry, cache: ModelCache, models: Models, proxy: FaultyProxy, tmp_path: Path
) -> None:
    ref = crowned(registry, models, 4.0)
    with Registry(proxy.url, models.name, answer_timeout_s=0.5) as slow:
        proxy.is_trickling = True
        with pytest.raises(RegistryError, match=r"more than 0\.5 s"):
            slow.champion()
        with pytest.raises(RegistryError, match=r"more than 0\.5 s"):
            ModelCache(slow.api, tmp_path / "slow").fetch(ref)
        proxy.heal()
        found = slow.champion()
    assert found is not None
    assert found.ref == ref
