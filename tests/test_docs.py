"""The documents tell the truth about settings, files and commands."""

import re
from pathlib import Path

import pytest
import yaml

from vroom_features.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_example_environment_names_every_setting_and_no_other() -> None:
    named = re.findall(r"^# VROOM_(\w+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    assert sorted(named) == sorted(field.upper() for field in Settings.model_fields)


@pytest.mark.parametrize(
    "document", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")), ids=lambda p: p.name
)
def test_links_in_documents_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_readme_names_every_deployment() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    for deployment in deployments:
        assert deployment["name"].removeprefix("vroom_forecast") in README


def test_the_readme_names_every_command_of_the_feature_library() -> None:
    commands = (ROOT / "vroom_features" / "__main__.py").read_text()
    for name in re.findall(r"^@app\.command\ndef (\w+)", commands, flags=re.MULTILINE):
        assert f"`{name}`" in README


@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/*.md")), ids=lambda p: p.name)
def test_settings_in_documents_exist(document: Path) -> None:
    named = set(re.findall(r"\bVROOM_[A-Z_]*[A-Z]\b", document.read_text()))
    assert named - {f"VROOM_{field.upper()}" for field in Settings.model_fields} == set()


def test_the_figures_of_the_readme_stand_in_the_results() -> None:
    table = README.partition("## Results")[2].partition("## ")[0]
    seen = [row.split("|")[3] for row in table.splitlines() if row.startswith("| ") and "what" not in row]
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text() + (ROOT / "docs" / "drill.md").read_text()
    figures = [figure for cell in seen for figure in re.findall(r"\d[\d,.]*\d|\d", cell)]
    assert len(figures) > 10
    assert [figure for figure in figures if figure not in results] == []
