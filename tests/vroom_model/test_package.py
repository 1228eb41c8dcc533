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
