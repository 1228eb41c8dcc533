"""The running system, and handles on everything in it that can be broken."""

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch
from xmlrpc.client import ServerProxy

import pandas as pd
import psutil
from supervisor.xmlrpc import SupervisorTransport

from tests.drill import victim
from tests.drill.traffic import Kept
from tests.operations import Ended
from tests.processes import settings_in
from tests.promises.system import ROOT, running, wait_until
from tests.promises.system import System as StartedSystem
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import MaterializeReport, materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore
from vroom_features.settings import Settings
from vroom_model.messages import ModelPromoted
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry
from vroom_model.serving.predictor import Predictor

NUM_CHANGED = 12
DISKS_MB = {"db": 96, "offline": 32, "models": 32}
CLONE_NEWNS = 0x00020000


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class System:
    """The whole system, as the drill sees it: as its clients do, and from inside."""

    web: StartedSystem
    settings: Settings
    source: SourceStore
    online: OnlineStore
    offline: OfflineStore
    registry: Registry
    pool: ProcessPoolExecutor
    kept: Kept
    predictors: dict[int, Predictor] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return Path(self.settings.source_database.url.removeprefix("sqlite:///"))

    def supervise(self, method: str, name: str) -> Any:  # whatever the supervisor's XML-RPC answers
        """Call the supervisor for a program of supervisord.conf."""
        socket = f"unix://{self.settings.home / 'supervisor.sock'}"
        with ServerProxy("http://127.0.0.1", transport=SupervisorTransport(serverurl=socket)) as proxy:
            return getattr(proxy.supervisor, method)(name)

    def program(self, name: str) -> psutil.Process:
        return psutil.Process(self.supervise("getProcessInfo", name)["pid"])

    def web_workers(self) -> list[psutil.Process]:
        return list(self.program("web").children())

    def redis_server(self) -> psutil.Process:
        """Return the server itself, which the supervised command started."""
        return psutil.Process(int(self.web.redis.info("server")["process_id"]))

    def run_processes(self) -> list[psutil.Process]:
        running = []
        for process in self.program("worker").children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "-m prefect." in " ".join(process.cmdline()):
                    running.append(process)
        return running

    def run_step(self, name: str, **options: Any) -> Ended:  # as `victim.run_step` takes them
        return self.pool.submit(victim.run_step, name, now(), **options).result()

    def materialize(self, *, as_of: datetime | None = None) -> MaterializeReport:
        seed(self.source, self.settings.data_dir)
        return materialize(self.source, self.offline, self.online, now=as_of or now())

    def promotions(self, publish: Callable[[ModelPromoted], None] | None = None) -> PromotionService:
        cache = self.settings.home / "drill-models"
        return PromotionService(self.registry, self.source, publish=publish or self.publish, cache_dir=cache)

    def publish(self, message: ModelPromoted) -> None:
        self.web.redis.publish(message.channel, message.encode())

    def change_champion(self, publish: Callable[[ModelPromoted], None] | None = None) -> None:
        """Make the other of two versions champion, by force."""
        champion = self.registry.champion()
        version = next(v.version for v in self.registry.versions() if v != champion)
        self.promotions(publish).promote(
            self.offline.current(), as_of=now(), version=version, force_reason="the drill changes it"
        )

    def predictor(self, version: int) -> Predictor:
        if version not in self.predictors:
            self.predictors[version] = self.promotions().load(self.registry.version(version))
        return self.predictors[version]


def write_fleet(folder: Path, number: int) -> None:
    """Write the sample with some changed prices, and by the number with fewer bookings.

    All have the same vehicles: one that comes back begins a new watch, as in no database that is seeded anew.
    """
    vehicles = pd.read_csv(ROOT / "data" / "vehicles.csv")
    bookings = pd.read_csv(ROOT / "data" / "reservations.csv")
    changed = [(number * 7 + place * 31) % len(vehicles) for place in range(NUM_CHANGED)]
    vehicles.loc[changed, "actual_price"] += number % 5 + 0.25
    bookings = bookings.iloc[: len(bookings) - number % 3]
    vehicles.round({"actual_price": 2}).to_csv(folder / "vehicles.csv", index=False)
    bookings.to_csv(folder / "reservations.csv", index=False)


@contextmanager
def running_system() -> Iterator[System]:
    """Start a system in a folder of its own, with two models, on small disks where we may mount."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="drill-", ignore_cleanup_errors=True)))
        for name in ("csv", "tmp", *DISKS_MB):
            (home / name).mkdir()
        stack.enter_context(small_disks(home))
        write_fleet(home / "csv", 0)
        more = {"VROOM_DATABASE_URL": f"sqlite:///{home / 'db' / 'vroom.db'}", "TMPDIR": str(home / "tmp")}
        web = stack.enter_context(running(home, home / "csv", more))
        system = stack.enter_context(attached(web))
        system.run_step("training", seed=1)  # a second version, to change champions with
        yield system


@contextmanager
def attached(web: StartedSystem) -> Iterator[System]:
    settings = settings_in(web.environment)
    with (
        patch.dict(os.environ, web.environment),  # which the processes below inherit
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        closing(SourceStore.open(settings.source_database)) as source,
        closing(OnlineStore.connect(settings.redis)) as online,
        Registry(settings.mlflow, settings.model_name) as registry,
    ):
        earlier = source.list_vehicles(kind="new", page_size=10_000)
        yield System(
            web=web,
            settings=settings,
            source=source,
            online=online,
            offline=OfflineStore(settings.offline_store),
            registry=registry,
            pool=pool,
            kept=Kept(earlier={vehicle.vehicle_id for vehicle in earlier.items}),
        )


@contextmanager
def small_disks(home: Path) -> Iterator[None]:
    """Mount folders of their own size, for this process and its children, where we may: as root."""
    if os.geteuid() != 0 or ctypes.CDLL(None).unshare(CLONE_NEWNS) != 0:
        yield
        return
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for name, size in DISKS_MB.items():
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=700", "drill", str(home / name)]
        subprocess.run(command, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", *(str(home / name) for name in DISKS_MB)], check=True)


def kill(process: psutil.Process) -> None:
    """Kill without warning, and wait until it is gone."""
    with suppress(psutil.NoSuchProcess):
        process.kill()
    wait_until(lambda: is_gone(process))


def is_gone(process: psutil.Process) -> bool:
    """Report whether a process has ended, though its parent may not have waited for it yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
