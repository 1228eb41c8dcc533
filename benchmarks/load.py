"""Load on a web app: wrk (Debian's package `wrk`), its scripts, and what it saw."""

import json
import re
import statistics
import subprocess
import tempfile
from dataclasses import dataclass

from tests.promises.system import VEHICLE

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    p50_ms: float
    p99_ms: float
    per_s: float
    num_requests: int
    num_failed: int


def wrk(url: str, script: str, *, connections: int, seconds: int) -> Load:
    """Drive an address with wrk."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "--latency"]
        done = subprocess.run([*command, "-s", file.name, url], capture_output=True, text=True, check=True)
    return read_wrk(done.stdout)


def read_wrk(output: str) -> Load:
    """Read wrk's report."""

    def percentile(name: str) -> float:
        found = re.search(rf"{name}%\s+([\d.]+)(us|ms|s)\b", output)
        assert found is not None, output
        return float(found[1]) * UNITS[found[2]]

    def count(pattern: str) -> float:
        found = re.search(pattern, output)
        return sum(map(float, found.groups())) if found else 0.0

    failed = count(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
    failed += count(r"Non-2xx or 3xx responses: (\d+)") + count(r"mislabelled: (\d+)")
    return Load(
        p50_ms=percentile("50"),
        p99_ms=percentile("99"),
        per_s=count(r"Requests/sec:\s+([\d.]+)"),
        num_requests=int(count(r"(\d+) requests in")),
        num_failed=int(failed),
    )


def median(loads: list[Load]) -> Load:
    """Return the medians of several rounds, and all that failed."""
    return Load(
        p50_ms=statistics.median(load.p50_ms for load in loads),
        p99_ms=statistics.median(load.p99_ms for load in loads),
        per_s=statistics.median(load.per_s for load in loads),
        num_requests=sum(load.num_requests for load in loads),
        num_failed=sum(load.num_failed for load in loads),
    )


def post(body: str) -> str:
    """Return a wrk script that posts the same body for ever."""
    return f"""
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{body}'
"""


def post_ids(ids: list[int]) -> str:
    """Return a wrk script that asks for stored vehicles in turn."""
    return f"""
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local ids, i = {{{",".join(map(str, ids))}}}, 0
request = function()
  i = i % #ids + 1
  return wrk.format(nil, nil, nil, '{{"vehicle_id":' .. ids[i] .. '}}')
end
"""


def post_and_check(answers: dict[int, float]) -> str:
    """Return a wrk script that counts answers whose forecast and version do not belong together."""
    expected = ",".join(f"[{version}] = {answer!r}" for version, answer in answers.items())
    return f"""{post(json.dumps(VEHICLE))}
local expected = {{{expected}}}
mislabelled = 0
response = function(status, headers, body)
  local forecast = tonumber(body:match('"predicted_reservations":([%d%.]+)'))
  local version = tonumber(body:match('"model_version":(%d+)'))
  if not version or not expected[version] or math.abs(expected[version] - forecast) > 1e-9 then
    mislabelled = mislabelled + 1
  end
end
local threads = {{}}
setup = function(thread) table.insert(threads, thread) end
done = function()
  local n = 0
  for _, thread in ipairs(threads) do n = n + thread:get("mislabelled") end
  io.write("mislabelled: " .. n .. "\\n")
end
"""
