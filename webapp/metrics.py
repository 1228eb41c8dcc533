"""What Prometheus can ask: requests, swaps, the listener, the online store.  Right over all worker processes.

Workers of one server share a folder of memory-mapped counters, ``PROMETHEUS_MULTIPROC_DIR``.
"""

import os
from pathlib import Path

import psutil
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

LATENCY_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
SWAP_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

REQUESTS = Histogram(
    "vroom_request_seconds",
    "Time to answer, by route and status",
    ["method", "route", "status"],
    buckets=LATENCY_BUCKETS_S,
)
MODEL_VERSION = Gauge("vroom_model_version", "Version of the model that serves", multiprocess_mode="liveall")
MODEL_SINCE = Gauge(
    "vroom_model_since_timestamp_seconds", "When that model began to serve", multiprocess_mode="liveall"
)
SWAPS = Counter("vroom_swaps_total", "Attempts to follow the champion to another version", ["outcome"])
SWAP_TIME = Histogram("vroom_swap_seconds", "Time to fetch, verify and swap a model", buckets=SWAP_BUCKETS_S)
REGISTRY_READS = Counter("vroom_registry_reads_total", "Looks at the registry", ["outcome"])
SUBSCRIBED = Gauge(
    "vroom_listener_subscribed",
    "1 while messages are heard, 0 while only polling",
    multiprocess_mode="liveall",
)
LAST_MESSAGE = Gauge(
    "vroom_listener_last_message_timestamp_seconds",
    "When the last message was heard; its age is time() minus this",
    multiprocess_mode="liveall",
)
MESSAGES = Counter("vroom_listener_messages_total", "Messages heard", ["kind"])
ONLINE_READS = Counter("vroom_online_reads_total", "Reads of the online store", ["outcome"])
ONLINE_UP = Gauge("vroom_online_store_up", "1 while Redis answers", multiprocess_mode="liveall")
CAUGHT_UP = Counter("vroom_online_caught_up_rows_total", "Rows written or removed to catch up")
SAVES = Counter("vroom_vehicles_saved_total", "Vehicles saved")


def exposition() -> tuple[bytes, str]:
    """Return every metric over all workers, and the content type."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not psutil.pid_exists(pid):
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST
