"""The running system, and handles on everything in it that can be broken."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xmlrpc.client import ServerProxy

import httpx
import psutil
import redis
from supervisor.xmlrpc import SupervisorTransport

from flows.local.up import child_environment
from tests.drill.fleet import change_fleet
from tests.drill.mounts import Disk, small_disks
from tests.drill.orders import Victim, victim
from tests.drill.traffic import Kept
from tests.whole_system import whole_system
from vroom_features.addresses import ServiceAddress
from vroom_features.database.vehicles import SourceStore
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore
from vroom_features.settings import Settings
from vroom_model.messages import ModelPromoted
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry
from vroom_model.serving.predictor import Predictor

PASSWORD = "the operator of the drill"  # noqa: S105 - of a system that lives for ten minutes
START_TIMEOUT_S = 60.0
POLL_S = 0.05


class NotInTimeError(AssertionError):
    """Something did not happen within its limit."""


def wait_until(is_so: Callable[[], object], what: str, *, timeout_s: float = START_TIMEOUT_S) -> None:
    """Return as soon as the condition holds."""
    until = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > until:
            raise NotInTimeError(f"{what}: not so after {timeout_s:.0f} s")
        time.sleep(POLL_S)


@dataclass
class System:
    """The whole system, as the drill sees it.

    Parameters
    ----------
    settings : Settings
        What it runs with.
    main : psutil.Process
        ``python -m flows up``.
    disks : dict of str to Disk
        Its folders ``db``, ``offline`` and ``models``.
    environment : dict of str to str
        Of its processes.
    """

    settings: Settings
    main: psutil.Process
    disks: dict[str, Disk]
    environment: dict[str, str]
    source: SourceStore
    online: OnlineStore
    offline: OfflineStore
    redis: redis.Redis
    registry: Registry
    victim: Victim
    kept: Kept = field(default_factory=Kept)
    predictors: dict[int, Predictor] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.settings.web_port}"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return Path(self.settings.source_database.url.removeprefix("sqlite:///"))

    def supervise(self, order: str, name: str) -> Any:  # whatever the supervisor's XML-RPC answers
        """Have the supervisor do something with a program."""
        socket = f"unix://{self.settings.home / 'supervisor.sock'}"
        with ServerProxy("http://127.0.0.1", transport=SupervisorTransport(serverurl=socket)) as proxy:
            return getattr(proxy.supervisor, order)(name)

    def program(self, name: str) -> psutil.Process:
        """Return the process of a program of supervisord.conf."""
        return psutil.Process(self.program_pid(name))

    def program_pid(self, name: str) -> int:
        """Return its process id, or 0 while it does not run."""
        return int(self.supervise("getProcessInfo", name)["pid"])

    def web_workers(self) -> list[psutil.Process]:
        """Return the web app's worker processes."""
        return list(self.program("web").children())

    def redis_server(self) -> psutil.Process:
        """Return the server itself, which the supervised command started."""
        return psutil.Process(int(self.redis.info("server")["process_id"]))

    def processes(self) -> list[psutil.Process]:
        """Return every process of the system."""
        supervisors = [self.main, *self.main.children(recursive=True)]
        return [process for process in supervisors if process.is_running()]

    def promotions(self, publish: Callable[[ModelPromoted], None] | None = None) -> PromotionService:
        """Return the promotion service as the flows open it."""
        return PromotionService(
            self.registry,
            self.source,
            publish=publish or self.tell,
            cache_dir=self.settings.home / "drill-models",
        )

    def tell(self, message: ModelPromoted) -> None:
        """Tell the web workers."""
        self.redis.publish(message.channel, message.encode())

    def predictor(self, version: int) -> Predictor:
        """Return the verified model of a version, straight from the registry."""
        if version not in self.predictors:
            self.predictors[version] = self.promotions().load(self.registry.version(version))
        return self.predictors[version]

    def health(self) -> dict[str, Any]:
        """Ask one worker how all are."""
        answer: dict[str, Any] = httpx.get(f"{self.url}/health?all=1", timeout=10).raise_for_status().json()
        return answer

    def start_run(self, action: str) -> str:
        """Press a button of the operations page, again while it says to try later; return the run's id."""
        until = time.monotonic() + START_TIMEOUT_S
        headers = {"Authorization": f"Bearer {PASSWORD}"}
        while True:
            answer = httpx.post(f"{self.url}/{action}", headers=headers, timeout=15)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > until:
                return str(answer.raise_for_status().json()["id"])
            time.sleep(POLL_S)

    def run_state(self, run_id: str) -> str:
        """Return a flow run's state type, or an empty string while Prefect does not say."""
        try:
            answer = httpx.get(f"{self.settings.prefect}/api/flow_runs/{run_id}", timeout=5)
            return str(answer.raise_for_status().json()["state_type"])
        except httpx.HTTPError:
            return ""

    def run_processes(self) -> list[psutil.Process]:
        """Return the processes that run flows now."""
        worker = self.program("worker")
        return [p for p in worker.children(recursive=True) if "-m prefect." in " ".join(_command(p))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


@contextmanager
def running_system() -> Iterator[System]:
    """Start a system in a folder of its own, with two models, on small disks where we may mount."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="drill-", ignore_cleanup_errors=True)))
        disks = stack.enter_context(small_disks(home))
        data = home / "csv"
        for folder in (data, home / "tmp"):
            folder.mkdir()
        change_fleet(data, 0)
        more = {
            "VROOM_OPERATOR_PASSWORD": PASSWORD,
            "VROOM_DATABASE_URL": f"sqlite:///{home / 'db' / 'vroom.db'}",
            "TMPDIR": str(home / "tmp"),
        }
        running = stack.enter_context(whole_system(home, data, more))
        database = ServiceAddress(more["VROOM_DATABASE_URL"])
        settings = running.settings.model_copy(update={"database_url": database})
        system = stack.enter_context(attached(settings, running.process.pid, disks, more))
        system.victim.order("training", seed=1)  # a second version, to change champions with
        yield system


@contextmanager
def attached(
    settings: Settings,
    pid: int,
    disks: dict[str, Disk] | None = None,
    more: Mapping[str, str] | None = None,
) -> Iterator[System]:
    """Take hold of a system that runs: `python -m flows up` with this id, and more variables set."""
    environment = {**child_environment(settings), **(more or {})}
    with (
        closing(SourceStore.open(settings.source_database)) as source,
        closing(redis.Redis.from_url(settings.redis.url, socket_timeout=5)) as client,
        Registry(settings.mlflow, settings.model_name) as registry,
        victim(environment, settings.home / "log" / "victim.log") as forked,
    ):
        earlier = source.list_vehicles(kind="new", page_size=10_000)
        yield System(
            settings=settings,
            main=psutil.Process(pid),
            disks=disks or {},
            environment=environment,
            source=source,
            online=OnlineStore(client),
            offline=OfflineStore(settings.offline_store),
            redis=client,
            registry=registry,
            victim=forked,
            kept=Kept(earlier={vehicle.vehicle_id for vehicle in earlier.items}),
        )


def kill(process: psutil.Process) -> None:
    """Kill without warning, and wait until it is gone."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)
        wait_until(lambda: is_gone(process), f"death of {process.pid}")


def is_gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended, though nobody may have asked how yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
