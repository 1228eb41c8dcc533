import pytest

import vroom_model
from tests.imported import imported_by


def test_every_name_of_the_package_is_there() -> None:
    for name in vroom_model.__all__:
        assert getattr(vroom_model, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'guess'"):
        _ = vroom_model.guess


def test_importing_the_package_brings_nothing_heavy() -> None:
    heavy = {"xgboost", "mlflow", "pandas", "pyarrow", "onnxruntime", "numpy"}
    assert imported_by("import vroom_model") & heavy == set()


def test_training_and_registering_import_neither_mlflow_nor_pandas_nor_scikit_learn() -> None:
    loaded = imported_by("import vroom_model.registration")
    assert loaded & {"mlflow", "pandas", "sklearn", "sqlalchemy"} == set()


def test_scikit_learn_is_only_left_out_and_not_lost() -> None:
    assert "sklearn" in imported_by("import vroom_model.registration, sklearn.base")
