"""Every setting of the system, in one class: environment variables ``VROOM_*``, or a ``.env`` file."""

from io import StringIO
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from dotenv.parser import parse_stream
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from vroom_features import checks
from vroom_features.addresses import ServiceAddress
from vroom_features.checks import sqlite_address
from vroom_features.environment import prepare_environment
from vroom_features.errors import SettingsError

MAX_BAD_SHARE = 0.01
MAX_REMOVED_VEHICLE_SHARE = 0.05
MAX_REMOVED_RESERVATION_SHARE = 0.10
PARTITION_VEHICLES = 131_072
KEEP_SNAPSHOTS = 5
SAMPLE_DIR = Path(__file__).with_name("sample")
ENV_FILE = ".env"

Share = Annotated[float, Field(ge=0, le=1)]
DatabaseAddress = Annotated[ServiceAddress, checks.unless_empty(checks.check_database)]
OfflineAddress = Annotated[ServiceAddress, checks.unless_empty(checks.check_offline)]
RedisAddress = Annotated[ServiceAddress, checks.unless_empty(checks.check_redis)]
ServerAddress = Annotated[ServiceAddress, checks.unless_empty(checks.check_server)]
DaskAddress = Annotated[ServiceAddress, checks.unless_empty(checks.check_dask)]
WebhookAddress = Annotated[SecretStr, AfterValidator(checks.check_webhook)]
"""Secret as a whole, for its path is most often a password."""
BindAddress = Annotated[str, AfterValidator(checks.check_bind_address)]
HostNames = Annotated[str, AfterValidator(checks.check_host_names)]
EventsUrl = Annotated[str, AfterValidator(checks.check_events_url)]
RateLimit = Annotated[str, AfterValidator(checks.check_limit)]
ModelName = Annotated[str, AfterValidator(checks.check_name)]
Password = Annotated[SecretStr, AfterValidator(checks.check_password)]
Folder = Annotated[Path, BeforeValidator(checks.check_folder)]
Port = Annotated[int, Field(ge=1, le=65_535)]
AnyCase = BeforeValidator(lambda word: word.lower() if isinstance(word, str) else word)
UNSET = ServiceAddress("")


class Settings(BaseSettings):
    """Settings, read once: by a command, at the top of a flow, by ``create_app``."""

    model_config = SettingsConfigDict(
        env_prefix="VROOM_",
        env_file=ENV_FILE,
        env_file_encoding="utf-8-sig",
        frozen=True,
        validate_default=True,
        extra="ignore",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    home: Folder = Path("var")
    """folder of everything the system writes"""
    database_url: DatabaseAddress = UNSET
    """source database, SQLite or PostgreSQL; empty: a SQLite file in VROOM_HOME"""
    offline_url: OfflineAddress = UNSET
    """offline store, a folder or any fsspec URL as s3://bucket/vroom; empty: a folder in VROOM_HOME"""
    redis_url: RedisAddress = UNSET
    """online store and messages; empty: 127.0.0.1 at VROOM_REDIS_PORT; a cluster: redis+cluster://host:port"""
    redis_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")] = "vroom-forecast"
    """begins each key and channel in Redis; give each of several deployments on one Redis its own"""
    mlflow_uri: ServerAddress = UNSET
    """MLflow server; empty: 127.0.0.1 at VROOM_MLFLOW_PORT"""
    data_dir: Folder = Field(default_factory=lambda: here if (here := Path("data")).is_dir() else SAMPLE_DIR)
    """folder of the CSV files to seed from; by default data in this folder or the sample, which replaces no
    other fleet"""
    partition_vehicles: int = Field(PARTITION_VEHICLES, ge=1)
    """vehicles computed at a time: fewer take less memory"""
    dask_address: DaskAddress = UNSET
    """Dask for large fleets: a scheduler as tcp://host:8786, or local:4 for four processes; empty: none"""
    dask_above_vehicles: int = Field(200_000, ge=0)
    """larger fleets are trained on with Dask, if VROOM_DASK_ADDRESS is set"""
    max_bad_share: Share = MAX_BAD_SHARE
    """refuse a CSV with more bad rows than this share of its rows"""
    max_removed_vehicle_share: Share = MAX_REMOVED_VEHICLE_SHARE
    """refuse a seed that would remove more than this share of the database's CSV vehicles"""
    max_removed_reservation_share: Share = MAX_REMOVED_RESERVATION_SHARE
    """refuse a seed that would remove more than this share of the database's reservations"""
    watch_days: int = Field(0, ge=0, le=3650)
    """days that bookings are counted before the count is learned from; 0: those that the first seed's span"""
    keep_snapshots: int = Field(KEEP_SNAPSHOTS, ge=1)
    """snapshots the offline store keeps"""
    keep_model_versions: int = Field(50, ge=2)
    """newest model versions MLflow keeps; champions of the history and the candidate stay too"""
    model_name: ModelName = "vroom-forecast"
    """registered model's name in MLflow"""
    training_system_metrics: bool = False
    """record the load of the machine in MLflow while a model is trained"""
    promotion_min_gain: float = Field(0.01, ge=0, lt=1)
    """share by which a candidate's error must be smaller"""
    promotion_confidence: float = Field(0.95, gt=0.5, lt=1)
    """how sure a gain must be, by a one-sided paired bootstrap"""
    promotion_segment_margin: float = Field(0.10, ge=0, allow_inf_nan=False)
    """share by which the error of a price segment may rise"""
    promotion_max_label_drop: float = Field(0.25, gt=0, lt=1)
    """share of the reservations that may be missing before nobody is promoted"""

    web_host: BindAddress = "127.0.0.1"
    """IP address that the web app listens on"""
    web_port: Port = 8000
    """port of the web app"""
    web_workers: int = Field(2, ge=1, le=64)
    """worker processes of the web app"""
    web_events_port: Port = 8001
    """port of the server of event streams"""
    web_events_url: EventsUrl = ""
    """URL of the event streams for browsers; empty: the web host at VROOM_WEB_EVENTS_PORT"""
    web_trusted_hosts: HostNames = ""
    """host names to answer to, comma-separated, besides those of loopback; empty: any, or on loopback none"""
    web_tls: bool = False
    """the web app is served over HTTPS: cookies are Secure, HSTS is sent"""
    web_proxies: int = Field(0, ge=0, le=8)
    """reverse proxies in front whose X-Forwarded headers count"""
    web_open_saving: Annotated[Literal["auto", "yes", "no"], AnyCase] = "auto"
    """whether anyone may save a vehicle; auto: only while bound to loopback"""
    web_predict_limit: RateLimit = ""
    """forecasts per client, as '600 per minute', where a batch counts each; empty: no limit on loopback"""
    web_session_hours: float = Field(12.0, gt=0, le=720)
    """how long after signing in the operator must sign in again"""
    web_poll_seconds: float = Field(5.0, gt=0, le=60)
    """how often a worker reads the registry without a message"""
    web_log_forecasts: bool = False
    """log each forecast too, with its request id and model version"""
    web_benchmark: bool = False
    """add the echo route that benchmarks compare with"""
    operator_password: Password = SecretStr("")
    """operator's password and API token, printable ASCII; empty: made at first start in VROOM_HOME"""
    secret_key: SecretStr = SecretStr("")
    """key that signs cookies; empty: made at first start in VROOM_HOME"""
    log_format: Annotated[Literal["auto", "json", "console"], AnyCase] = "auto"
    """how the web app logs; auto: console in a terminal, JSON lines elsewhere"""
    webhook_url: WebhookAddress = SecretStr("")
    """URL that flows post decisions, drift and failed runs to, and the web app its alerts; empty: none"""
    webhook_allow_private: bool = False
    """post to a webhook on this machine or in a private network, too"""
    keep_runs_days: int = Field(30, ge=1, le=3650)
    """days that Prefect keeps a flow run with its logs"""
    keep_audit_days: int = Field(365, ge=31, le=36_500)  # longer than any session, which a line of it ends
    """days that a line of the audit log is kept"""
    prefect_url: ServerAddress = UNSET
    """Prefect server; empty: 127.0.0.1 at VROOM_PREFECT_PORT"""
    prefect_port: Port = 4200
    """port of the Prefect server"""
    mlflow_port: Port = 5000
    """port of the MLflow server"""
    redis_port: Port = 6379
    """port of the embedded Redis"""

    @field_validator("*", mode="before")
    @classmethod
    def _has_plain_text(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str) or info.field_name in {"operator_password", "secret_key"}:
            return value
        text = value.strip()
        if not text.isprintable():
            raise ValueError("it has a control character, a line break, or bytes that are no UTF-8")
        if text[:1] in {"'", '"'} and text[:1] == text[-1:]:
            raise ValueError("it is in quotes, which belong in no value; write it without them")
        return text

    @model_validator(mode="after")
    def _has_a_port_for_each(self) -> Self:
        checks.check_ports(self.own_ports)
        return self

    @property
    def own_ports(self) -> dict[str, int]:
        """Ports of the servers that are not elsewhere, by setting."""
        urls = {
            "redis_port": self.redis_url,
            "mlflow_port": self.mlflow_uri,
            "prefect_port": self.prefect_url,
        }
        own = ("web_port", "web_events_port", *(name for name, url in urls.items() if not url))
        return {name: getattr(self, name) for name in own}

    @property
    def is_data_dir_set(self) -> bool:
        """Whether the folder to seed from is set, even to its default."""
        return "data_dir" in self.model_fields_set

    @property
    def source_database(self) -> ServiceAddress:
        return self.database_url or sqlite_address(self.home / "vroom.db")

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
    def starting(self) -> Path:
        """File of what `make run` waits for; the pages show it as long as there is no model."""
        return self.home / "starting"

    @property
    def is_loopback(self) -> bool:
        """Whether the web app listens on this machine only."""
        return ip_address(self.web_host).is_loopback

    @property
    def web_url(self) -> str:
        """Where a browser on this machine finds the web app."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.web_host, self.web_host)  # noqa: S104 - no bind
        return f"http://[{host}]:{self.web_port}" if ":" in host else f"http://{host}:{self.web_port}"


def read_settings() -> Settings:
    """Return the settings; SettingsError has a line for each variable that is refused.

    The rest of the environment is prepared for the clients that will use the settings.
    """
    prepare_environment()
    _check_file(Path(ENV_FILE).absolute())
    try:
        return Settings()
    except ValidationError as exc:
        lines = []
        for error in exc.errors(include_url=False, include_context=False):
            if not error["loc"]:  # several settings together
                lines.append(error["msg"].removeprefix("Value error, "))
                continue
            field = str(error["loc"][0])
            is_number = Settings.model_fields[field].annotation in {int, float, bool}  # no secret, no address
            came = f", got {str(error['input'])[:40]!r}" if is_number else ""
            lines.append(f"VROOM_{field.upper()}: {error['msg'].removeprefix('Value error, ')}{came}")
        raise SettingsError(lines) from exc


def _check_file(path: Path) -> None:
    """Refuse a file of settings that would be read in part, or with wrong characters."""
    if not path.is_file():
        return
    try:
        text = path.read_text("utf-8-sig")
    except OSError as exc:
        raise SettingsError([f"{path}: it cannot be read: {exc.strerror}"]) from exc
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise SettingsError([f"{path}: it is not in UTF-8; save it as UTF-8"])
    lines = [line.original.line for line in parse_stream(StringIO(text)) if line.error]
    if lines:
        raise SettingsError([f"{path}: line {lines[0]} is no NAME=value"])
