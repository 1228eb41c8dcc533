"""Each extra declares what its modules import and the programs that it starts, and nothing else."""

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.promises.system import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = ("vroom_features", "vroom_model", "webapp", "flows")
OF_DASK = ("flows.tasks.dask_cluster", "vroom_model.training.dask_training")
MODULES = {
    "stores": ("vroom_features.",),
    "model": ("vroom_model.",),
    "web": ("webapp.",),
    "flows": ("flows.materialize", "flows.monitor", "flows.pipeline", "flows.rollback", "flows.tasks."),
    "orchestrator": ("flows.local.prefect_server",),
    "dask": OF_DASK,
    "local": ("flows.",),
    "s3": (),
}
"""A name that ends with a dot stands for all modules that begin with it."""
NOT_IMPORTED = {
    "model": {"psutil"},  # MLflow's client reads the load of the machine with it
    "web": {"psycopg"},  # by the URL of a PostgreSQL database
    "orchestrator": {"uvicorn", "whenever"},  # starts the server; keeps Prefect's schedules working
    "s3": {"s3fs"},  # by the URL of a bucket
}
BASES = {"dask": "flows"}
NOT_IN_THE_WEB_APP = ("vroom_model.registry.promotion", "vroom_model.evaluation.gate")  # flows compare models
DISTRIBUTIONS = packages_distributions()


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    graph = grimp.build_graph(*OURS, include_external_packages=True, exclude_type_checking_imports=True)
    graph.remove_import(importer=NOT_IN_THE_WEB_APP[0], imported=NOT_IN_THE_WEB_APP[1])
    for module in OF_DASK:
        for importer in graph.find_modules_that_directly_import(module) - set(OF_DASK):
            graph.remove_import(importer=importer, imported=module)
    return graph


def imported(graph: grimp.ImportGraph, modules: set[str]) -> set[str]:
    """Return the libraries that modules import, and the modules that they import, and so on."""
    found = set[str]().union(*map(graph.find_upstream_modules, modules))
    return {name for name in found if name.split(".")[0] not in OURS} - sys.stdlib_module_names


def declared(extra: str, *, of_others: bool) -> Iterator[str]:
    """Yield what an extra asks for, with or without the extras in it."""
    for line in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if requirement.name != PROJECT["name"]:
            if requirement.marker is None or requirement.marker.evaluate():
                yield canonicalize_name(requirement.name)
        elif of_others:
            for other in requirement.extras:
                yield from declared(other, of_others=True)


def test_the_feature_functions_and_the_command_need_nothing(imports: grimp.ImportGraph) -> None:
    assert PROJECT["dependencies"] == []
    modules = {"vroom_features", "vroom_features.__main__", "vroom_features.commands.vroom"}
    assert imported(imports, modules) == set()


@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_declares_what_it_imports_and_nothing_else(imports: grimp.ImportGraph, extra: str) -> None:
    modules = {module for module in imports.modules if is_of(extra, module)}
    assert modules or extra == "s3"
    libraries = {
        library: set(map(canonicalize_name, DISTRIBUTIONS[library])) for library in imported(imports, modules)
    }
    asked = {name for each in {extra, BASES.get(extra, extra)} for name in declared(each, of_others=True)}
    assert [library for library, names in libraries.items() if not names & asked] == []
    unused = set(declared(extra, of_others=False)) - set().union(*libraries.values())
    assert unused == NOT_IMPORTED.get(extra, set())


def is_of(extra: str, module: str) -> bool:
    """Return whether a module belongs to an extra."""
    if module in OF_DASK:
        return extra == "dask"
    return any(module == name or (name.endswith(".") and module.startswith(name)) for name in MODULES[extra])
