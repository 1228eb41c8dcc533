"""The site that `make docs` builds: strict, whole, searchable, and without anything from elsewhere."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from tests.promises.system import ROOT

pytestmark = pytest.mark.packaging

HTML = ROOT / "site" / "html"
LINKS = re.compile(r'<(?:a|link|script|img|source)\b[^>]*?\b(?:href|src)="([^"]*)"')
LOADS = re.compile(
    r'<(?:script|img|source|iframe)\b[^>]*?\bsrc="(?:https?:)?//|<link\b[^>]*?\bhref="(?:https?:)?//'
)


@pytest.fixture(scope="module")
def pages() -> dict[Path, str]:
    done = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: path.read_text() for path in HTML.rglob("*.html")}


def test_each_document_is_a_page_and_every_link_leads_to_one(pages: dict[Path, str]) -> None:
    files = [path for kind in ("*.md", "*.ipynb") for path in (ROOT / "docs").rglob(kind)]
    documents = {path.relative_to(ROOT).with_suffix(".html") for path in files}
    assert documents <= {path.relative_to(HTML) for path in pages}

    def broken() -> Iterator[tuple[str, str]]:
        for page, text in pages.items():
            for link in filter(None, (urldefrag(found).url for found in LINKS.findall(text))):
                is_elsewhere = re.match(r"\w+:", link) or link.startswith("/")
                if not is_elsewhere and not (page.parent / unquote(link).split("?")[0]).exists():
                    yield page.name, link

    assert [*broken()] == []


def test_no_page_loads_anything_from_elsewhere(pages: dict[Path, str]) -> None:
    assert [page.name for page, text in pages.items() if LOADS.search(text)] == []
    styles = "".join(path.read_text() for path in HTML.rglob("*.css"))
    assert re.findall(r"url\(['\"]?(?:https?:)?//|@import", styles) == []


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("how far the owner's price is above the market price", "docs/reference/features.html"),
        ("Of every random choice", "docs/reference/flows.html"),
        ("folder of everything the system writes", "docs/reference/settings.html"),
        ("A conformal step", "docs/ranges.html"),
        ("Bring your cars", "docs/tutorial.html"),
    ],
)
def test_what_a_reader_looks_for_is_found_by_the_search(
    pages: dict[Path, str], words: str, page: str
) -> None:
    assert words in re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", pages[HTML / page].replace("&#39;", "'")))
    items = json.loads((HTML / "search.json").read_text())["items"]
    found = [item["location"] for item in items if words in json.dumps(item).replace("\\n", " ")]
    assert [location for location in found if location.startswith(page)]


def test_a_link_to_a_page_that_is_not_there_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "site" / "pages" / "docs").mkdir(parents=True)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / "site" / "pages" / "README.md").write_text("# Front\n\n[nowhere](docs/nowhere.md)\n")
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "page does not exist" in done.stdout + done.stderr


def test_a_notebook_becomes_a_page_with_its_outputs_and_pictures(tmp_path: Path) -> None:
    outputs = [
        {"output_type": "stream", "text": ["1,000 cars\n"]},
        {"output_type": "execute_result", "data": {"text/plain": ["9.1"], "text/html": ["<b>9.1</b>"]}},
        {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo=", "text/plain": ["<Figure>"]}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Features\n", "\n", "[more](../model.md)"]},
        {"cell_type": "code", "source": ["predict(car)"], "outputs": outputs},
    ]
    (tmp_path / "one.ipynb").write_text(json.dumps({"cells": cells}))
    page = tmp_path / "pages" / "one.md"
    text = runpy.run_path(str(ROOT / "docs" / "lay_out.py"))["notebook_page"](tmp_path / "one.md", page)
    assert text == (
        "# Features\n\n[more](../model.md)\n\n```python\npredict(car)\n```\n\n```text\n1,000 cars\n```\n\n"
        "```text\n9.1\n```\n\n![Output](one-1.png)\n"
    )
    assert (page.parent / "one-1.png").read_bytes().startswith(b"\x89PNG")
