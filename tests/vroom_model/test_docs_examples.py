"""The examples of docs/model.md run as they stand there."""

import doctest
from datetime import timedelta
from pathlib import Path

import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import AS_OF, Champions

DOCUMENT = Path(__file__).parents[2] / "docs" / "model.md"


def test_the_examples_give_what_the_document_says(
    champions: Champions, fleet: FrameSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # its ports differ each time
    names = {
        "fleet": fleet,
        "registry": champions.registry,
        "ledger": champions.ledger,
        "folder": champions.folder,
        "as_of": AS_OF,
        "timedelta": timedelta,
    }
    # A blank line ends an example's output in doctest; in Markdown it is the closing fence.
    text = DOCUMENT.read_text().replace("\n```", "\n")
    example = doctest.DocTestParser().get_doctest(text, names, DOCUMENT.name, str(DOCUMENT), 0)
    assert len(example.examples) > 20
    said: list[str] = []
    failed = doctest.DocTestRunner().run(example, out=said.append).failed
    assert not failed, "".join(said)
