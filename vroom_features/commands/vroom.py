"""The command ``vroom``: a word starts a module, by its name alone, so that no part imports another here."""

import runpy
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version

from vroom_features.environment import prepare_environment

DISTRIBUTION = "vroom-forecast"


@dataclass(frozen=True)
class Command:
    """A module that is run as ``python -m``, with its first arguments, and the extra that it needs."""

    help: str
    extra: str
    module: str
    arguments: tuple[str, ...] = ()


def _of_stores(name: str, text: str) -> dict[str, Command]:
    return {name: Command(text, "stores", "vroom_features", (name,))}


WORKER = ("worker", "start", "--pool", "vroom", "--type", "process", "--install-policy", "never")
COMMANDS = {
    **_of_stores("seed", "write vehicles.csv and reservations.csv to the source database"),
    **_of_stores("materialize", "compute the features and write both stores"),
    **_of_stores("audit", "compare the online store with the database"),
    **_of_stores("backup", "copy the source database and the embedded MLflow"),
    **_of_stores("restore", "replace them by a backup"),
    **_of_stores("upgrade", "upgrade the database's schema"),
    "up": Command(
        "start everything on this machine, do the main job, serve the page", "local", "flows", ("up",)
    ),
    "web": Command("serve the web app; `vroom web events` serves its event streams", "web", "webapp"),
    "worker": Command(
        "start Prefect's worker, which starts the flow runs", "orchestrator", "prefect", WORKER
    ),
}
HELP = "\n".join(
    [
        "Usage: vroom COMMAND [OPTIONS]",
        "",
        *(f"  {name:12} {command.help}" for name, command in COMMANDS.items()),
        "",
        "`vroom COMMAND --help` shows the options of a command, `vroom --version` the version.",
    ]
)


def main() -> None:
    """Run the command that the first word names."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in {"--help", "-h"}:
        sys.stdout.write(f"{HELP}\n")
    elif name == "--version":
        run("vroom_features", extra="")
    elif name in COMMANDS:
        command = COMMANDS[name]
        sys.argv[1:] = [*command.arguments, *arguments]
        run(command.module, extra=command.extra)
    else:
        known = ", ".join(COMMANDS)
        sys.stderr.write(f"vroom: expected one of {known}, got {name!r}; `vroom --help` describes them\n")
        sys.exit(2)


def run(module: str, *, extra: str) -> None:
    """Run a module as ``python -m`` does, or say which extra it needs."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"{version(DISTRIBUTION)}\n")
        return
    prepare_environment()  # for Prefect's worker, which reads no settings of ours
    try:
        import_module(module.partition(".")[0])  # runpy does not say which one is missing
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as exc:
        sys.stderr.write(f"{exc.name} is not installed; run: pip install '{DISTRIBUTION}[{extra}]'\n")
        sys.exit(1)
