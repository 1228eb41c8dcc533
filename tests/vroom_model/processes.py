"""Processes that promote, released at once, and a proxy of MLflow that refuses or delays a step.

A process is started by `python -m tests.vroom_model.processes '{...}'`. It prints `ready`, waits for a line,
promotes or rolls back once, and prints the outcome.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import redis
from pydantic import BaseModel

from tests.snapshots import read_fleet
from vroom_features.database.vehicles import SourceStore
from vroom_model.messages import ModelPromoted
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
ALIAS, TAG = "registered-models/alias", "model-versions/set-tag"
Process = subprocess.Popen[str]


class Task(BaseModel):
    mlflow: str
    model_name: str
    database: str
    redis: str
    as_of: datetime
    version: int | None = None
    rollback: bool = False


def main(task: Task) -> None:
    def publish(message: ModelPromoted) -> None:
        with redis.Redis.from_url(task.redis) as client:
            client.publish(message.channel, message.encode())

    snapshot = read_fleet()
    with Registry(task.mlflow, task.model_name) as registry:
        promotions = PromotionService(registry, SourceStore.open(task.database), publish=publish)
        print("ready", flush=True)
        sys.stdin.readline()
        if task.rollback:
            outcome = promotions.rollback(as_of=task.as_of)
        else:
            outcome = promotions.promote(snapshot, as_of=task.as_of, version=task.version)
    print(outcome.model_dump_json(), flush=True)


def start(task: Task) -> Process:
    command = [sys.executable, "-m", "tests.vroom_model.processes", task.model_dump_json()]
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


@contextmanager
def proxy_that_refuses(
    target: str, step: str = ALIAS, *, is_done: bool = False, meanwhile: Callable[[], None] | None = None
) -> Iterator[str]:
    """Stand before MLflow and refuse a step, the end of a path; return the address.

    If ``is_done``, MLflow does the step before. If ``meanwhile`` is given, that is run before each step, and
    none is refused.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {"Content-Type": self.headers["Content-Type"]} if body else None
            is_step = self.command == "POST" and self.path.endswith(step)
            if is_step and meanwhile:
                meanwhile()
            is_refused = is_step and not meanwhile
            if is_refused and not is_done:
                self.send_error(503)
                return
            answer = client.request(self.command, self.path, content=body, headers=headers)
            if is_refused:
                self.send_error(503)
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST  # noqa: N815 - as http.server calls it

        def log_message(self, *_: Any) -> None: ...

    with (
        httpx.Client(base_url=target, timeout=30) as client,
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
    ):
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


if __name__ == "__main__":
    main(Task.model_validate_json(sys.argv[1]))
