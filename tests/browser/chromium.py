"""The installed Chromium, started so that it calls nobody."""

import os
import shutil

from playwright.sync_api import Browser, BrowserType

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
OPTIONS = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class NoChromiumError(Exception):
    """None is installed where programs are looked for."""


def find() -> str:
    """Return the program's path.

    Raises
    ------
    NoChromiumError
        If there is none.
    """
    path = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if path is None:
        raise NoChromiumError(f"no Chromium found: looked for {', '.join(PROGRAMS)}")
    return path


def launch(kind: BrowserType) -> Browser:
    """Start it; as root, without its sandbox, which root cannot have."""
    options = [*OPTIONS, "--no-sandbox"] if os.geteuid() == 0 else OPTIONS
    return kind.launch(executable_path=find(), args=options)
