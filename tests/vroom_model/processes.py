"""Processes that promote, released at once, and a proxy of MLflow that refuses or delays a step."""

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
    """Start a process that says when it is ready, and then waits for a line."""
    command = [sys.executable, "-m", "tests.vroom_model.promoter", task.model_dump_json()]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def go(*processes: Process) -> list[str]:
    """Release all once they are ready, and return what each printed; an error of one fails the test."""
    for process in processes:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise AssertionError(process.communicate(timeout=TIMEOUT_S)[1])
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    printed = []
    for process in processes:
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode in (0, -signal.SIGKILL), err
        printed.append(out)
    return printed


class SteppingProxy:
    """A proxy of MLflow that refuses a step, or runs ``meanwhile`` before it.

    ``step`` is the end of the path; if ``is_done``, MLflow does the step before.
    """

    def __init__(self, target: str, *, step: str = ALIAS, is_done: bool = False) -> None:
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
                    is_step = False
                if is_step and not is_done:
                    self.send_error(503)
                    return
                answer = client.request(self.command, self.path, content=body, headers=headers)
                if is_step:
                    self.send_error(503)
                    return
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST  # noqa: N815 - as http.server calls it

            def log_message(self, *_: Any) -> None: ...

        self._client = client
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> "SteppingProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._client.close()
