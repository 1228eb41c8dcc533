"""Lay out the pages of the site for `make docs`: the repository's Markdown and notebooks, each at its place.

Links between pages work as they are.  A link to another file of the repository leads to a page that shows the
file, so that the site needs nothing else; a link to a folder becomes plain text.
"""

import json
import re
import shutil
import sys
from base64 import b64decode
from pathlib import Path, PurePosixPath
from posixpath import normpath

ROOT = Path(__file__).parents[1]
PAGES = ("*.md", "docs/**/*.md", "data/README.md", "benchmarks/RESULTS.md")
NOTEBOOKS = "docs/notebooks/*.ipynb"
ASSETS = ("docs/**/*.png", "docs/**/*.svg", "benchmarks/*.svg", "webapp/static/favicon.svg")
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
LANGUAGES = {".py": "python", ".sh": "sh", ".toml": "toml", ".sql": "sql", ".env": "sh"}
LANGUAGES |= {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".conf": "nginx"}


def lay_out(target: Path) -> None:
    """Fill a folder, whose content is replaced."""
    shutil.rmtree(target, ignore_errors=True)
    pages = {path.relative_to(ROOT).as_posix() for pattern in PAGES for path in ROOT.glob(pattern)}
    notebooks = {path.with_suffix(".md").relative_to(ROOT).as_posix() for path in ROOT.glob(NOTEBOOKS)}
    pages |= notebooks
    shown: set[str] = set()
    for page in notebooks:
        text = notebook_page(ROOT / page, target / page)
        write(target / page, link_to_pages(page, text, pages, shown))
    for page in pages - notebooks:
        text = link_to_pages(page, (ROOT / page).read_text(), pages, shown)
        write(target / page, text)
    for file in shown:
        language = LANGUAGES.get(Path(file).suffix, "text")
        text = (ROOT / file).read_text()
        fence = "`" * (3 + text.count("```"))
        head = f"---\ntitle: {file}\nsearch:\n  exclude: true\n---\n"
        write(target / page_of(file), f"{head}# {file}\n\n{fence}{language}\n{text}{fence}\n")
    for path in (path for pattern in ASSETS for path in ROOT.glob(pattern)):
        copy = target / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)


def link_to_pages(page: str, text: str, pages: set[str], shown: set[str]) -> str:
    """Return the text with links to files replaced by links to the pages that show them."""
    folder = PurePosixPath(page).parent

    def replace(found: re.Match[str]) -> str:
        words, link, anchor = found[1], found[2], found[3] or ""
        path = normpath(f"{folder}/{link}")
        if path in pages:
            return found[0]
        if path.endswith(".ipynb") and path.replace(".ipynb", ".md") in pages:
            return found[0].replace(".ipynb", ".md")
        if not (ROOT / path).is_file():
            return words
        shown.add(path)
        up = "../" * len(folder.parts)
        return f"[{words}]({up}{page_of(path)}{anchor})"

    blocks = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(block if block.startswith("```") else LINK.sub(replace, block) for block in blocks)


def notebook_page(notebook: Path, page: Path) -> str:
    """Return a notebook with its outputs as Markdown; write its pictures beside the page."""
    parts: list[str] = []
    cells = json.loads(notebook.with_suffix(".ipynb").read_text())["cells"]
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                picture = page.with_name(f"{page.stem}-{number}.png")
                picture.parent.mkdir(parents=True, exist_ok=True)
                picture.write_bytes(b64decode("".join(data["image/png"])))
                parts.append(f"![Output]({picture.name})")
            elif text := "".join(data.get("text/plain", "")).rstrip():
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def page_of(file: str) -> str:
    """Return the page that shows a file."""
    return "source/" + file.lstrip(".") + ".md"  # a page whose name begins with a dot would be left out


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
