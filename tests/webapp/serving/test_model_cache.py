"""Models on disk, which the workers of one machine share: fetched whole, kept while they may be needed."""

import dataclasses
import os
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults import FaultyProxy
from tests.webapp.conftest import Models
from vroom_model.errors import BrokenModelError, RegistryError
from vroom_model.manifest import MANIFEST_NAME, SERVING_NAME
from vroom_model.registry import mlflow_api
from vroom_model.registry.model_cache import LAST_GOOD, LEFT_BEHIND_S, NUM_CACHED_MAX, ChampionRef, ModelCache
from vroom_model.registry.registry import Registry
from vroom_model.serving.predictor import Predictor

Crown = Callable[..., ChampionRef]


@pytest.fixture
def registry(models: Models) -> Iterator[Registry]:
    with Registry(models.url, models.name) as registry:
        yield registry


@pytest.fixture
def cache(registry: Registry, tmp_path: Path) -> ModelCache:
    return ModelCache(registry.api, tmp_path / "cache")


@pytest.fixture
def crown(registry: Registry, models: Models) -> Crown:
    """Return a function that makes a new model champion and returns its reference in the registry."""

    def crown(forecast: float, **changes: object) -> ChampionRef:
        models.crown(models.register(forecast, **changes))
        return registry.champion().ref

    return crown


def test_workers_fetch_the_whole_model_at_once(registry: Registry, cache: ModelCache, crown: Crown) -> None:
    ref = crown(4.0)
    with ThreadPoolExecutor(8) as pool:
        (folder,) = set(pool.map(lambda _: ModelCache(registry.api, cache.cache_dir).fetch(ref), range(8)))
    predictor = Predictor.load(folder, version=ref.version, manifest_sha256=ref.manifest_sha256)
    assert predictor.manifest.probes[0].forecast == 4.0
    assert [path for path in cache.cache_dir.iterdir() if path.name.startswith(".")] == []


def test_old_models_are_cleared_but_not_the_last_good_or_new_one(cache: ModelCache, crown: Crown) -> None:
    last_good = crown(1.0)
    cache.fetch(last_good)
    cache.remember(last_good)
    refs = [crown(2.0) for _ in range(NUM_CACHED_MAX + 3)]
    for age, ref in enumerate(reversed(refs)):
        used_at = time.time() - 60 * age
        os.utime(cache.fetch(ref), (used_at, used_at))
    newest = crown(3.0)
    cache.fetch(newest)
    assert cache.is_kept(last_good)
    assert cache.is_kept(newest)
    assert cache.last_good() == last_good
    assert [cache.is_kept(ref) for ref in refs] == [False] * 3 + [True] * NUM_CACHED_MAX


def test_what_a_killed_worker_left_half_fetched_is_cleared_later(cache: ModelCache, crown: Crown) -> None:
    stale, recent = cache.cache_dir / ".fetch-stale", cache.cache_dir / ".fetch-recent"
    for folder in (stale, recent):
        (folder / "bundle").mkdir(parents=True)
    long_ago = time.time() - LEFT_BEHIND_S - 1
    os.utime(stale, (long_ago, long_ago))
    cache.fetch(crown(4.0))
    assert not stale.exists()
    assert recent.exists()  # it may still be downloaded


def test_a_full_disk_keeps_nothing_until_there_is_room(cache: ModelCache, crown: Crown) -> None:
    ref = crown(4.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # every write beyond fails, as on a full disk
    try:
        with pytest.raises(RegistryError, match=f"cannot keep model version {ref.version}"):
            cache.fetch(ref)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(cache.cache_dir.iterdir()) == []
    assert cache.fetch(ref).is_dir()


def test_a_spoiled_note_of_the_last_good_model_counts_as_none(cache: ModelCache, crown: Crown) -> None:
    ref = crown(4.0)
    cache.fetch(ref)
    cache.remember(ref)
    assert cache.last_good() == ref
    for content in (b"", b"{", b"[]", b'{"version": 1}', b"\x80\x04."):
        (cache.cache_dir / LAST_GOOD).write_bytes(content)
        assert cache.last_good() is None


def test_a_model_outside_its_run_is_never_asked_for_and_a_foreign_manifest_is_not_kept(
    cache: ModelCache, crown: Crown
) -> None:
    ref = crown(4.0)
    with Registry("http://127.0.0.1:9", "unasked") as unasked:
        for path in ("..", "../other/bundle", "/etc", "bundle/../..", "%2e%2e", "C:\\x", "a//b", ""):
            with pytest.raises(BrokenModelError, match="is outside the model's run"):
                ModelCache(unasked.api, cache.cache_dir).fetch(dataclasses.replace(ref, bundle_path=path))
    with pytest.raises(BrokenModelError, match="differs from the checksum in the registry"):
        cache.fetch(dataclasses.replace(ref, manifest_sha256="0" * 64))
    assert list(cache.cache_dir.iterdir()) == []


@pytest.mark.parametrize("name", [MANIFEST_NAME, SERVING_NAME])
def test_a_link_out_of_the_artifact_store_brings_nothing_in(
    cache: ModelCache, crown: Crown, mlflow_folder: Path, tmp_path: Path, name: str
) -> None:
    ref = crown(4.0, seed=1)  # with files of its own
    secret = tmp_path / "secret"
    secret.write_text("of somebody else")
    (inside,) = mlflow_folder.glob(f"artifacts/*/{ref.run_id}/artifacts/bundle/{name}")
    inside.unlink()
    inside.symlink_to(secret)
    with pytest.raises((BrokenModelError, RegistryError)):
        cache.fetch(ref)
    assert list(cache.cache_dir.iterdir()) == []


def test_a_trickle_is_given_up(
    models: Models, crown: Crown, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = crown(4.0)
    monkeypatch.setattr(mlflow_api, "ANSWER_TIMEOUT_S", 0.5)
    with Registry(proxy.url, models.name) as slow:
        proxy.fault = "trickle"
        for call in (slow.champion, lambda: ModelCache(slow.api, tmp_path / "slow").fetch(ref)):
            with pytest.raises(RegistryError, match=r"more than 0\.5 s"):
                call()
        proxy.heal()
        monkeypatch.undo()
        assert slow.champion().ref == ref
