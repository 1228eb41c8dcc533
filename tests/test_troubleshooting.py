"""The page "when something is wrong" quotes messages that the program has, and all hints on services."""

import ast
import re
from pathlib import Path

from tests.test_docs import ROOT
from vroom_features.database import engine
from vroom_features.online import redis_client

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
PACKAGES = ("vroom_features", "vroom_model", "webapp", "flows")
SEEN = [cells[0] for line in PAGE.splitlines() if len(cells := line.strip("| ").split(" | ")) == 3]


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
