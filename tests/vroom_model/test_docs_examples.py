"""The examples of docs/model.md run as they stand there."""

import doctest
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.snapshots import SAMPLE
from tests.vroom_model.champions import AS_OF
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "model.md"


def test_the_examples_give_what_the_document_says(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VROOM_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("VROOM_MLFLOW_URI", mlflow_server)
    monkeypatch.setenv("VROOM_MODEL_NAME", "vroom-docs")
    settings = Settings()
    with closing(SourceStore.open(settings.source_database)) as source:
        seed(source, SAMPLE)
        materialize(source, OfflineStore(settings.offline_store), None, as_of=AS_OF)
    names = {"folder": tmp_path, "as_of": AS_OF, "timedelta": timedelta}
    # A blank line ends an example's output in doctest; in Markdown it is the closing fence.
    text = DOCUMENT.read_text().replace("\n```", "\n")
    example = doctest.DocTestParser().get_doctest(text, names, DOCUMENT.name, str(DOCUMENT), 0)
    assert len(example.examples) > 20
    said: list[str] = []
    failed = doctest.DocTestRunner().run(example, out=said.append).failed
    assert not failed, "".join(said)
