"""The documents name settings, files, commands, tests and figures that are there."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from vroom_features.commands.vroom import COMMANDS
from vroom_features.database import engine
from vroom_features.online import redis_client
from vroom_features.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
FOLDERS = "benchmarks|data|deploy|docs|flows|tests|vroom_features|vroom_model|webapp"
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "data/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
TROUBLE = (ROOT / "docs" / "troubleshooting.md").read_text()
PACKAGES = ("vroom_features", "vroom_model", "webapp", "flows")
SEEN = [cells[0] for line in TROUBLE.splitlines() if len(cells := line.strip("| ").split(" | ")) == 3]
TESTS = set(
    re.findall(r"def (test_\w+)", "".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py")))
)
NO_HISTORY = [path for path in DOCUMENTS if path.name not in {"CHANGELOG.md", "RESULTS.md"}]


def table(document: str, heading: str) -> list[list[str]]:
    """Return the cells of a table's rows, found by its first column's heading."""
    _, _, after = document.partition(f"\n| {heading} |")
    lines = after.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_example_environment_names_every_setting_and_no_other() -> None:
    named = re.findall(r"^# VROOM_(\w+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    assert sorted(named) == sorted(field.upper() for field in Settings.model_fields)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", NO_HISTORY, ids=lambda path: path.name)
def test_settings_files_and_commands_exist(document: Path) -> None:
    text = document.read_text()
    settings = {f"VROOM_{field.upper()}" for field in Settings.model_fields} | {"VROOM_REAL_DATA"}
    assert set(re.findall(r"\bVROOM_[A-Z_]*[A-Z]\b", text)) - settings == set()
    present = re.sub(r"In the new file `[^`]*`", "", text)
    files = re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", present)
    assert [name for name in files if not (ROOT / name).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
    assert set(re.findall(r"(?<=[`\n])make ([a-z][a-z-]*)", text)) - targets == set()
    modules = re.findall(rf"python -m ((?:{FOLDERS})[\w.]*)", text)
    paths = [ROOT / module.replace(".", "/") for module in modules]
    assert [path for path in paths if not (path.with_suffix(".py").exists() or path.is_dir())] == []
    assert set(re.findall(r"python -m vroom_features ([a-z-]+)", text)) - feature_commands() == set()
    assert set(re.findall(r"prefect deployment run \w+/(\w+)", text)) - deployments() == set()
    assert set(re.findall(r"`(test_\w+)[`[]", text)) - TESTS == set()


def feature_commands() -> set[str]:
    program = (ROOT / "vroom_features" / "commands" / "__main__.py").read_text()
    names = re.findall(r"^@app\.command.*\ndef (\w+)", program, flags=re.MULTILINE)
    return {name.strip("_").replace("_", "-") for name in names}


def deployments() -> set[str]:
    return {made["name"] for made in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}


def test_the_readme_names_every_deployment_and_every_command_of_the_feature_library() -> None:
    names = {name.removeprefix("vroom_forecast") for name in deployments()}
    assert [name for name in sorted(names) if name not in README] == []
    assert [name for name in sorted(feature_commands()) if f"`{name}`" not in README] == []


def test_the_page_on_installing_names_every_extra_and_every_command() -> None:
    install = (ROOT / "docs" / "install.md").read_text()
    extras = {name for row in table(install, "extra") for name in re.findall(r"`(\w+)`", row[0])}
    assert extras == set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )
    words = {word for row in table(install, "command") for word in re.findall(r"`(?:vroom )?(\w+)`", row[0])}
    assert words == set(COMMANDS)


def test_every_promise_names_tests_that_exist() -> None:
    rows = table(CONTRIBUTING, "promise")
    files = {path.name: path.read_text() for path in (ROOT / "tests" / "promises").glob("test_*.py")}
    for promise, tests, how_broken in rows:
        named = re.findall(r"`(\w+\.py)`(?: \(([^)]*)\))?", tests)
        assert named, promise
        assert how_broken, promise
        for file, words in named:
            for word in re.findall(r"`(\w+)`", words):
                there = rf"^(def test_|@pytest.mark.parametrize\().*{word}"
                assert re.search(there, files[file], flags=re.MULTILINE), (promise, word)
    numbers = [int(found[1]) for promise, *_ in rows if (found := re.match(r"(\d+)\.", promise))]
    assert numbers == list(range(1, 12))


def test_each_figure_of_the_readme_stands_in_the_results_of_its_command() -> None:
    results = re.split(r"^##+ ", (ROOT / "benchmarks" / "RESULTS.md").read_text(), flags=re.MULTILINE)
    number = r"\d[\d,.]*\d|\d"
    command, num_compared = "", 0
    for what, named, seen in table(README, "what"):
        command = named.strip("`") or command
        if command.startswith("python"):
            recorded = [set(re.findall(number, section)) for section in results if command in section]
            assert any(set(re.findall(number, seen)) <= numbers for numbers in recorded), (what, command)
            num_compared += 1
    assert num_compared > 0


def literals(path: Path) -> list[str]:
    """Return the texts of a module, with an ellipsis for each value that is filled in."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            found.append(
                "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(re.sub("%[sd]", "…", node.value))
    return found


def test_each_quoted_message_is_one_of_the_program() -> None:
    quoted = [quote for cell in SEEN for quote in re.findall("`([^`]+)`", cell)]
    assert len(quoted) >= len(SEEN) - 8  # two lines of each table have none
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    texts = "\0".join(text for path in paths for text in literals(path))
    assert [quote for quote in quoted if quote not in texts] == []
    assert [quote for quote in quoted if len(quote) < len("free some space")] == []


def test_each_hint_on_redis_and_the_database_is_on_the_page() -> None:
    hints = [*redis_client.HINTS.values(), *engine.HINTS.values()]
    seen = "\n".join(SEEN)
    starts = [re.split(", and|[0-9]", hint)[0] for hint in hints]
    assert [start for start in starts if start not in seen] == []
