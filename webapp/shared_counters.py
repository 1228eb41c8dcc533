"""The folder of memory-mapped counters that the workers of one server share.

``prometheus_client`` reads where it is from an environment variable when it is first imported, so this module
imports nothing and :mod:`webapp.wsgi` calls it first.
"""

import os
import shutil
from pathlib import Path

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def share_counters(home: Path) -> None:
    """Count in one folder with this worker's siblings; clear the folders of servers that are gone."""
    root = home / "metrics"
    folder = root / str(os.getppid())
    folder.mkdir(parents=True, exist_ok=True)
    for other in root.iterdir():
        if other.name.isdigit() and not is_alive(int(other.name)):
            shutil.rmtree(other, ignore_errors=True)
    os.environ.setdefault(FOLDER_VARIABLE, str(folder))


def is_alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, and belongs to somebody else
        return True
    return True
