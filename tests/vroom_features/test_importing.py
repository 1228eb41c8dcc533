"""`import vroom_features` is light: functions and the view, and no service."""

from tests.imported import imported_by

HEAVY = {"alembic", "cyclopts", "fastapi", "flask", "mlflow", "numpy", "pandas", "prefect", "pyarrow"}
HEAVY |= {"pydantic", "redis", "sqlalchemy", "sqlmodel", "starlette", "xgboost"}


def test_importing_the_library_brings_no_web_orchestration_registry_database_or_redis_package() -> None:
    loaded = imported_by("import vroom_features; vroom_features.price_diff(1.0, 2.0)")
    assert "vroom_features" in loaded
    assert loaded.isdisjoint(HEAVY)
