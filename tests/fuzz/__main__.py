"""``python -m tests.fuzz csv`` or ``messages``, with libFuzzer's own options after it.

Atheris is no dependency: install it (``uv pip install --target FOLDER atheris``) and name the folder in
``PYTHONPATH``.  Every input must be accepted, or refused by an error of ours; any other error stops the run
and leaves the input in a file.
"""

import gzip
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris  # type: ignore[import-not-found]  # installed for the run

with atheris.instrument_imports(include=["vroom_features", "vroom_model", "webapp"]):
    from vroom_features.errors import DataContractError, OnlineStoreError
    from vroom_features.ingest.contract import VEHICLE_COLUMNS, reservation_columns
    from vroom_features.ingest.csv_files import check_file
    from vroom_features.messages import MessageError
    from vroom_features.online.rows import decode
    from webapp.events import EVENTS, encode

SEEDS = {
    "csv": (
        b"\x02" + b"1,1,45.5,50,3,0,120\n2,0,60,55.25,5,1,7\n",
        b"\x03" + b"1,2023-01-02 10:00:00\n2,2023-03-04T05:06:07Z\n",
        b"\x0e" + b'"1",1,45.5,50,3,0,120\r\n',
        b"\x0f" + b"1,2023-01-02\n",
    ),
    "messages": (
        b'{"vehicle_id": 7}',
        b'{"vehicle_ids": [7, 8], "materialized_at": "2026-01-02T03:04:05Z"}',
        b'{"model_name": "vroom-forecast", "version": 2, "epoch": 3, "worker": "a:1"}',
        b'{"flow": "vroom_forecast_pipeline", "state": "COMPLETED", "run_id": "r", "name": "n"}',
        b'3 {"view": "vehicle_forecast:1", "materialized_at": "2026-01-02T03:04:05+00:00", "features": '
        b'{"technology": 1, "num_images": 4, "street_parked": 0, "description": 120, "price_diff": -5.0}, '
        b'"actual_price": 45.0, "recommended_price": 50.0}',
    ),
}
FOLDER = Path(tempfile.mkdtemp(prefix="vroom-fuzz-"))


def csv(data: bytes) -> None:
    """Read a file of either kind, plain or zipped; half of them begin with the right header."""
    choice, body = (data[0], data[1:]) if data else (0, b"")
    columns = (VEHICLE_COLUMNS, reservation_columns())[choice & 1]
    if choice & 2:
        body = ",".join(column.name for column in columns).encode() + b"\n" + body
    path = FOLDER / ("fuzzed.csv.gz" if choice & 4 else "fuzzed.csv")
    path.write_bytes(gzip.compress(body, mtime=0) if choice & 8 else body)
    with suppress(DataContractError):
        check_file(path, columns)


def messages(data: bytes) -> None:
    """Read a message of each channel, and a row of the online store."""
    for channel in EVENTS:
        with suppress(MessageError):
            assert encode(channel, data).count(b"\n\n") == 1  # what came in starts no event of its own
    with suppress(OnlineStoreError):
        decode(7, data)


def main() -> None:
    """Fuzz until stopped, or as libFuzzer's options say."""
    target = {"csv": csv, "messages": messages}[sys.argv[1]]
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[sys.argv[1]]):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
