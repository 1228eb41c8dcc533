"""The bad rows of a CSV: bookings of unknown vehicles among them, where all are written, how many may be."""

import csv
from dataclasses import astuple
from pathlib import Path

import numpy as np

from vroom_features.errors import DataContractError
from vroom_features.ingest.cells import Array
from vroom_features.ingest.contract import CheckedFile


def write_quarantine(path: Path, file: CheckedFile, folder: Path, max_bad_share: float) -> list[Path]:
    """Write the bad rows of a file with line, column and reason; an old list goes when there are none.

    Parameters
    ----------
    path : Path
        The CSV.
    file : CheckedFile
        What was found in it.
    folder : Path
        Where to write.
    max_bad_share : float
        More bad rows than this share of the file's rows are refused.

    Returns
    -------
    list of Path
        Where they are, if there are any.

    Raises
    ------
    DataContractError
        If they are too many, or the folder cannot be written.
    """
    target = folder / f"{path.name.removesuffix('.gz').removesuffix('.csv')}.rejected.csv"
    try:
        first = _write_rows(file, target)
    except OSError as exc:
        raise DataContractError(
            f"{path}: the list of its {file.num_bad} bad rows cannot be written: {exc}."
            f" Nothing was taken; make {folder} a folder that can be written"
        ) from exc
    if not file.num_bad:
        return []
    if file.num_bad > max_bad_share * file.num_rows_in_file:
        raise DataContractError(
            f"{path}: {file.num_bad} of {file.num_rows_in_file} rows break the data contract, more than"
            f" {max_bad_share:.1%}; nothing was taken. {first}. All of them: {target}"
        )
    return [target]


def _write_rows(file: CheckedFile, target: Path) -> str:
    """Write them and return the first as a sentence; remove an old list when there are none."""
    if not file.num_bad:
        if target.is_file():
            target.unlink()
        return ""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as list_file:
        writer = csv.writer(list_file)
        writer.writerow(["line", "column", "value", "reason"])
        problems = sorted(file.problems, key=lambda problem: problem.line)
        writer.writerows(map(astuple, problems))
    first = problems[0]
    return f"line {first.line}: {first.column} {first.value[:80]!r}: {first.reason}"


def sort_out_unknown(file: CheckedFile, known_ids: list[Array], vehicles: CheckedFile) -> int:
    """Set aside the bookings of unknown vehicles that a bad row may be about, and reject the others.

    A bad row whose id can be read is about that vehicle; one without an id may be about any, but only about
    one: bookings of more vehicles than there are such rows are not excused by them.

    Returns
    -------
    int
        How many are set aside.
    """
    ids = file.columns["vehicle_id"]
    is_unknown = ~ids.isin(np.concatenate(known_ids))
    is_excused = is_unknown & ids.isin(vehicles.bad_ids)
    if ids[is_unknown & ~is_excused].nunique() <= vehicles.num_without_id:
        is_excused = is_unknown
    file.leave_out(is_excused)
    file.reject((is_unknown & ~is_excused)[~is_excused], "there is no such vehicle")
    return int(is_excused.sum())
