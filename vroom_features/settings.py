"""Every setting of the system, in one class: environment variables with the prefix ``VROOM_``, or a ``.env`` file."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings, read once at the edge: a command, the top of a flow, ``create_app``."""

    model_config = SettingsConfigDict(env_prefix="VROOM_", env_file=".env", frozen=True, extra="ignore")

    home: Path = Field(default=Path("var"), description="folder of everything the system writes")
    database_url: str = Field(
        default="", description="source database, SQLite or PostgreSQL; empty: a SQLite file in VROOM_HOME"
    )
    offline_url: str = Field(default="", description="offline store, a folder; empty: a folder in VROOM_HOME")
    redis_url: SecretStr = Field(
        default=SecretStr(""), description="online store and messages; empty: 127.0.0.1 at VROOM_REDIS_PORT"
    )
    mlflow_uri: str = Field(default="", description="MLflow server; empty: 127.0.0.1 at VROOM_MLFLOW_PORT")
    model_name: str = Field(default="vroom-forecast", description="registered model's name in MLflow")

    web_host: str = Field(default="127.0.0.1", description="address the web app listens on")
    web_port: int = Field(default=8000, ge=1, le=65535, description="port of the web app")
    web_workers: int = Field(default=2, ge=1, le=64, description="worker processes of the web app")
    prefect_port: int = Field(default=4200, ge=1, le=65535, description="port of the Prefect server")
    mlflow_port: int = Field(default=5000, ge=1, le=65535, description="port of the MLflow server")
    redis_port: int = Field(default=6379, ge=1, le=65535, description="port of the embedded Redis")

    @property
    def source_database(self) -> str:
        """URL of the source database."""
        return self.database_url or f"sqlite:///{self.home / 'vroom.db'}"

    @property
    def offline_store(self) -> str:
        """Location of the offline store."""
        return self.offline_url or str(self.home / "offline")

    @property
    def redis(self) -> str:
        """URL of Redis."""
        return self.redis_url.get_secret_value() or f"redis://127.0.0.1:{self.redis_port}/0"

    @property
    def mlflow(self) -> str:
        """URL of the MLflow server."""
        return self.mlflow_uri or f"http://127.0.0.1:{self.mlflow_port}"
