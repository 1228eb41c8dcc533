"""`import vroom_features` is light: functions and the view, and no service."""

import subprocess
import sys

from tests.imported import imported_by

HEAVY = {"alembic", "cyclopts", "fastapi", "flask", "mlflow", "numpy", "pandas"}
HEAVY |= {"prefect", "pyarrow", "pydantic", "redis", "sqlalchemy", "sqlmodel", "starlette", "xgboost"}
LIMIT_S = 0.5


def test_importing_the_library_brings_no_web_orchestration_registry_database_or_redis_package() -> None:
    loaded = imported_by("import vroom_features; vroom_features.price_diff(1.0, 2.0)")
    assert "vroom_features" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_importing_the_library_takes_no_time_to_speak_of() -> None:
    code = (
        "import time; start = time.process_time(); import vroom_features; print(time.process_time() - start)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < LIMIT_S  # of the processor; 0.02 to 0.05 on a quiet machine


def test_a_web_worker_syncs_the_online_store_without_columns() -> None:
    loaded = imported_by("import vroom_features.online.sync")
    assert loaded.isdisjoint({"numpy", "pandas", "pyarrow"})
