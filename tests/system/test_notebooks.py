"""The notebooks of ``docs/notebooks`` run, give what they are stored with, and name no place of one machine.

``python -m tests.system.test_notebooks`` runs them and stores what they give.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.processes import serve_mlflow
from tests.promises.system import ROOT
from tests.vroom_features.stores import store_fleet
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings
from vroom_model.registry.registry import Registry
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.register import train_candidate

pytestmark = [pytest.mark.packaging, pytest.mark.filterwarnings("default")]  # of Jupyter's own libraries

FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
TIMEOUT_S = 240


def prepare(home: Path, mlflow: str) -> dict[str, str]:
    """Materialize the sample, register a weak champion and a candidate; return the settings."""
    store_fleet(home)
    variables = {"VROOM_HOME": str(home), "VROOM_MLFLOW_URI": mlflow, "VROOM_MODEL_NAME": "vroom-notebooks"}
    settings = Settings(home=home, mlflow_uri=mlflow, model_name=variables["VROOM_MODEL_NAME"])
    fleet = OfflineStore(settings.offline_store).current()
    with Registry(settings.mlflow, settings.model_name) as registry:
        for params in (TrainingParams(num_rounds=8), TrainingParams()):
            version = train_candidate(registry, fleet, as_of=fleet.created_at, params=params).version
            if registry.champion() is None:
                registry.set_alias("champion", version.version)
    return variables


def execute(name: str) -> nbformat.NotebookNode:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    NotebookClient(notebook, timeout=TIMEOUT_S, resources={"metadata": {"path": str(FOLDER)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
    return notebook


def texts(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Yield what each cell gave, but for pictures."""
    for cell in notebook.cells:
        given = (output.get("data", {"text/plain": output.get("text")}) for output in cell.get("outputs", []))
        yield "".join(data["text/plain"] for data in given if "image/png" not in data)


@contextmanager
def environment(variables: dict[str, str], home: Path) -> Iterator[None]:
    quiet = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "IPYTHONDIR": str(home / "ipython")}
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in (variables | quiet).items():
            patch.setenv(variable, value)
        yield


@pytest.fixture(scope="module")
def _system(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("notebooks")
    with environment(prepare(home, mlflow_server), home):
        yield


@pytest.mark.usefixtures("_system")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_gives_what_it_is_stored_with(name: str) -> None:
    stored = nbformat.read(FOLDER / name, as_version=4)
    assert list(texts(execute(name))) == list(texts(stored))
    assert not re.search(rf"/tmp|/home/|/root|{ROOT}|127\.0\.0\.1", (FOLDER / name).read_text())
    assert any(texts(stored))


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        serve_mlflow(Path(name)) as mlflow,
        environment(prepare(Path(name), mlflow), Path(name)),
    ):
        for notebook in sys.argv[1:] or NOTEBOOKS:
            nbformat.write(execute(notebook), FOLDER / notebook)


if __name__ == "__main__":
    main()
