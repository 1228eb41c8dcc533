"""Every setting of the system, in one class: environment variables ``VROOM_*``, or a ``.env`` file."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from vroom_features.addresses import (
    DaskAddress,
    DatabaseAddress,
    ModelName,
    NotEmpty,
    RedisAddress,
    ServerAddress,
    ServiceAddress,
)
from vroom_features.errors import SettingsError

MAX_BAD_SHARE = 0.01
"""A file with a larger share of bad rows is refused."""
MAX_REMOVED_VEHICLE_SHARE = 0.05
"""A seed that would remove a larger share of the CSV vehicles in the database is refused."""
MAX_REMOVED_RESERVATION_SHARE = 0.10
"""A seed that would remove a larger share of the reservations in the database is refused."""
HEADER_TEXT = re.compile(r"([!-~]([ -~]*[!-~])?)?")
"""Empty, or text that an HTTP header carries unchanged."""


class Settings(BaseSettings):
    """Settings, read once: by a command, at the top of a flow, by ``create_app``."""

    model_config = SettingsConfigDict(
        env_prefix="VROOM_", env_file=".env", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    home: Annotated[Path, NotEmpty] = Field(
        default=Path("var"), description="folder of everything the system writes"
    )
    database_url: DatabaseAddress = Field(
        default=ServiceAddress(""),
        description="source database, SQLite or PostgreSQL; empty: a SQLite file in VROOM_HOME",
    )
    offline_url: ServiceAddress = Field(
        default=ServiceAddress(""),
        description="offline store, a folder or any fsspec URL as s3://bucket/vroom;"
        " empty: a folder in VROOM_HOME",
    )
    redis_url: RedisAddress = Field(
        default=ServiceAddress(""),
        description="online store and messages, redis+cluster://host:port for Redis Cluster;"
        " empty: 127.0.0.1 at VROOM_REDIS_PORT",
    )
    mlflow_uri: ServerAddress = Field(
        default=ServiceAddress(""), description="MLflow server; empty: 127.0.0.1 at VROOM_MLFLOW_PORT"
    )
    data_dir: Path = Field(
        default=Path("data"),
        description="folder with vehicles.csv and reservations.csv to seed from; unless it is set,"
        " the sample in data replaces no other fleet",
    )
    partition_vehicles: int = Field(
        default=131_072, ge=1, description="vehicles computed at a time: fewer take less memory"
    )
    dask_address: DaskAddress = Field(
        default=ServiceAddress(""),
        description="where large fleets are computed and trained on: a Dask scheduler as tcp://host:8786,"
        " local:4 for four processes of this machine; empty: threads of the flow",
    )
    dask_above_vehicles: int = Field(
        default=200_000,
        ge=0,
        description="larger fleets are trained on with Dask, if VROOM_DASK_ADDRESS is set",
    )
    max_bad_share: float = Field(
        default=MAX_BAD_SHARE,
        ge=0,
        le=1,
        description="refuse a CSV with more bad rows than this share of its rows",
    )
    max_removed_vehicle_share: float = Field(
        default=MAX_REMOVED_VEHICLE_SHARE,
        ge=0,
        le=1,
        description="refuse a seed that would remove more than this share of the database's CSV vehicles",
    )
    max_removed_reservation_share: float = Field(
        default=MAX_REMOVED_RESERVATION_SHARE,
        ge=0,
        le=1,
        description="refuse a seed that would remove more than this share of the database's reservations",
    )
    keep_snapshots: int = Field(default=5, ge=1, description="snapshots the offline store keeps")
    keep_model_versions: int = Field(
        default=50,
        ge=2,
        description="newest model versions MLflow keeps; champions of the history and the candidate stay too",
    )
    model_name: ModelName = Field(default="vroom-forecast", description="registered model's name in MLflow")
    promotion_min_gain: float = Field(
        default=0.01, ge=0, lt=1, description="share by which a candidate's error must be smaller"
    )
    promotion_confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="how sure a gain must be, by a one-sided paired bootstrap"
    )
    promotion_segment_margin: float = Field(
        default=0.10,
        ge=0,
        allow_inf_nan=False,
        description="share by which the error of a price segment may rise",
    )
    promotion_max_label_drop: float = Field(
        default=0.25,
        gt=0,
        lt=1,
        description="share of the reservations that may be missing before nobody is promoted",
    )

    web_host: str = Field(default="127.0.0.1", description="address the web app listens on")
    web_port: int = Field(default=8000, ge=1, le=65535, description="port of the web app")
    web_workers: int = Field(default=2, ge=1, le=64, description="worker processes of the web app")
    web_events_port: int = Field(
        default=8001, ge=1, le=65535, description="port of the server of event streams"
    )
    web_events_url: str = Field(
        default="",
        description="URL of the event streams for browsers; empty: the web host at VROOM_WEB_EVENTS_PORT",
    )
    web_trusted_hosts: str = Field(
        default="",
        description="host names to answer to besides those of loopback, comma-separated; empty: any,"
        " or on loopback only its own",
    )
    web_tls: bool = Field(
        default=False, description="the web app is served over HTTPS: cookies are Secure, HSTS is sent"
    )
    web_proxies: int = Field(
        default=0, ge=0, le=8, description="reverse proxies in front whose X-Forwarded headers count"
    )
    web_open_saving: Literal["auto", "yes", "no"] = Field(
        default="auto", description="whether anyone may save a vehicle; auto: only while bound to loopback"
    )
    web_predict_limit: str = Field(
        default="",
        description="forecasts per client, as '600 per minute', where a batch counts each;"
        " empty: no limit on loopback",
    )
    web_session_hours: float = Field(
        default=12.0, gt=0, le=720, description="how long after signing in the operator must sign in again"
    )
    web_poll_seconds: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="how often a worker reads the registry without a message",
    )
    web_log_forecasts: bool = Field(
        default=False, description="log each forecast too, with its request id and model version"
    )
    web_benchmark: bool = Field(default=False, description="add the echo route that benchmarks compare with")
    operator_password: SecretStr = Field(
        default=SecretStr(""),
        description="operator's password and API token, printable ASCII;"
        " empty: made at first start in VROOM_HOME",
    )
    secret_key: SecretStr = Field(
        default=SecretStr(""), description="key that signs cookies; empty: made at first start in VROOM_HOME"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="how the web app logs; auto: console in a terminal, JSON lines elsewhere"
    )
    keep_runs_days: int = Field(
        default=30, ge=1, le=3650, description="days that Prefect keeps a flow run with its logs"
    )
    keep_audit_days: int = Field(
        default=365,
        ge=31,  # longer than any session, which a line of it ends
        le=36_500,
        description="days that a line of the audit log is kept",
    )
    prefect_url: ServerAddress = Field(
        default=ServiceAddress(""), description="Prefect server; empty: 127.0.0.1 at VROOM_PREFECT_PORT"
    )
    prefect_port: int = Field(default=4200, ge=1, le=65535, description="port of the Prefect server")
    mlflow_port: int = Field(default=5000, ge=1, le=65535, description="port of the MLflow server")
    redis_port: int = Field(default=6379, ge=1, le=65535, description="port of the embedded Redis")

    @field_validator("operator_password")
    @classmethod
    def _fits_into_a_header(cls, password: SecretStr) -> SecretStr:
        if not HEADER_TEXT.fullmatch(password.get_secret_value()):
            raise ValueError(
                "a program sends the password in a header: use printable ASCII, no space at either end"
            )
        return password

    @property
    def is_data_dir_set(self) -> bool:
        """Whether the folder to seed from is set, even to its default."""
        return "data_dir" in self.model_fields_set

    @property
    def source_database(self) -> ServiceAddress:
        return self.database_url or ServiceAddress(f"sqlite:///{self.home / 'vroom.db'}")

    @property
    def offline_store(self) -> ServiceAddress:
        return self.offline_url or ServiceAddress(str(self.home / "offline"))

    @property
    def redis(self) -> ServiceAddress:
        return self.redis_url or ServiceAddress(f"redis://127.0.0.1:{self.redis_port}/0")

    @property
    def mlflow(self) -> ServiceAddress:
        return self.mlflow_uri or ServiceAddress(f"http://127.0.0.1:{self.mlflow_port}")

    @property
    def prefect(self) -> ServiceAddress:
        """Address of the Prefect server, without ``/api``."""
        return self.prefect_url or ServiceAddress(f"http://127.0.0.1:{self.prefect_port}")

    @property
    def sign_in_token(self) -> Path:
        """File of the token in the printed sign-in link; it is deleted when the link is used."""
        return self.home / "sign-in-token"

    @property
    def is_loopback(self) -> bool:
        """Whether the web app listens on this machine only."""
        return self.web_host in {"127.0.0.1", "::1", "localhost"}


def read_settings() -> Settings:
    """Return the settings; SettingsError has a line for each variable that is refused."""
    try:
        return Settings()
    except ValidationError as exc:
        lines = []
        for error in exc.errors(include_url=False, include_context=False):
            field = str(error["loc"][0])
            is_number = Settings.model_fields[field].annotation in {int, float, bool}  # no secret, no address
            came = f", got {str(error['input'])[:40]!r}" if is_number else ""
            lines.append(f"VROOM_{field.upper()}: {error['msg'].removeprefix('Value error, ')}{came}")
        raise SettingsError(lines) from exc
