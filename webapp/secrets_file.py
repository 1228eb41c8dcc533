"""Secrets made at first start: files in VROOM_HOME that only their owner can read."""

import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret, and whether this call made it."""

    value: str
    is_new: bool


def secret_in(path: Path) -> Secret:
    """Return the secret kept in a file, made now if there is none.

    Of several processes that start at once, one makes it and all return the same.
    """
    try:
        return Secret(path.read_text().strip(), is_new=False)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
        try:
            path.hardlink_to(name)  # fails where a link with replace would overwrite the other's secret
        except FileExistsError:
            return Secret(path.read_text().strip(), is_new=False)
    finally:
        Path(name).unlink()
    return Secret(path.read_text().strip(), is_new=True)
