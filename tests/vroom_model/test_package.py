import subprocess
import sys

import pytest

import vroom_model


def test_every_name_of_the_package_is_there() -> None:
    for name in vroom_model.__all__:
        assert getattr(vroom_model, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'guess'"):
        _ = vroom_model.guess


def test_importing_the_package_brings_nothing_heavy() -> None:
    program = (
        "import sys, vroom_model;"
        "print(sorted({'xgboost', 'mlflow', 'pandas', 'pyarrow', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_training_and_registering_import_neither_mlflow_nor_pandas_nor_scikit_learn() -> None:
    program = (
        "import sys, vroom_model.registration;"
        "print(sorted({'mlflow', 'pandas', 'sklearn', 'sqlalchemy'} & set(sys.modules)));"
        "import sklearn.base"  # it is only left out, not lost
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
