"""Processes that promote, started, let go at once, and stopped at a step: killed, refused or held up."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.vroom_model.promoter import Task

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
ALIAS, TAG = "registered-models/alias", "model-versions/set-tag"
Process = subprocess.Popen[str]


def start(task: Task) -> Process:
    """Start a process that will say when it is ready, and then wait for the word to go."""
    command = [sys.executable, "-m", "tests.vroom_model.promoter", task.model_dump_json()]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def go(*processes: Process) -> list[str]:
    """Give the word once all are ready, and return what each printed; one that failed fails the test."""
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise AssertionError(process.communicate(timeout=TIMEOUT_S)[1])
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    printed = []
    for process in processes:
        out, err = process.communicate(timeout=TIMEOUT_S)
        if process.returncode not in (0, -signal.SIGKILL):
            raise AssertionError(err)
        printed.append(out)
    return printed


class SteppingProxy:
    """An HTTP proxy that stops who asks MLflow for a step: it kills, holds up, or else refuses.

    Parameters
    ----------
    target : str
        Address of MLflow.
    step : str
        How the path of the step ends.
    is_done : bool
        Whether MLflow does the step before.
    """

    def __init__(self, target: str, *, step: str = ALIAS, is_done: bool = False) -> None:
        self.victim: Process | None = None
        self.meanwhile: Callable[[], None] | None = None
        client = httpx.Client(base_url=target, timeout=30)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {"Content-Type": self.headers["Content-Type"]} if body else None
                is_step = self.command == "POST" and self.path.endswith(step)
                if is_step and proxy.meanwhile:
                    proxy.meanwhile()
                elif is_step and not is_done:
                    proxy.stop(self)
                    return
                answer = client.request(self.command, self.path, content=body, headers=headers)
                if is_step and is_done:
                    proxy.stop(self)
                    return
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST  # noqa: N815 - as http.server calls it

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self._client = client
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self, request: BaseHTTPRequestHandler) -> None:
        """End the process as the kernel would; without one, refuse."""
        if self.victim is None:
            request.send_error(503)
            return
        self.victim.kill()
        self.victim.wait(TIMEOUT_S)

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._client.close()
