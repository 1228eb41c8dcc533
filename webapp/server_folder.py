"""The folder that the workers of one server share: their counters, and the word that the server will stop.

``prometheus_client`` reads where its counters are from an environment variable when it is first imported, so
this module imports nothing of ours and :mod:`webapp.wsgi` calls it first.
"""

import mmap
import os
import shutil
from pathlib import Path

COUNTERS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def server_folder(home: Path, *, server_pid: int) -> Path:
    """Return the folder of the server with this process id."""
    return home / "server" / str(server_pid)


def begin_server(home: Path) -> Path:
    """Make the folder of the server that this process is, before it starts a worker.

    What an earlier server of the same process id left is removed: in a container each has the same.

    Returns
    -------
    Path
        The server's folder, empty.
    """
    folder = server_folder(home, server_pid=os.getpid())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def join_server(home: Path) -> Path:
    """Join the server that started this worker; clear what servers that are gone left behind.

    Returns
    -------
    Path
        The server's folder.
    """
    folder = server_folder(home, server_pid=os.getppid())
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other.name.isdigit() and not is_alive(int(other.name)):
            shutil.rmtree(other, ignore_errors=True)
    os.environ.setdefault(COUNTERS_VARIABLE, str(folder))
    return folder


def is_alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, and belongs to somebody else
        return True
    return True


class Draining:
    """Whether the server is about to stop: one byte of memory, which its processes share.

    Parameters
    ----------
    folder : Path
        The server's.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "draining").open("a+b") as file:
            file.truncate(1)
            self._byte = mmap.mmap(file.fileno(), 1)

    def begin(self) -> None:
        """Tell every worker."""
        self._byte[0] = 1

    def __bool__(self) -> bool:
        """Return whether it has begun."""
        return self._byte[0] != 0
