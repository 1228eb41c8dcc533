"""The bad rows of a CSV: bookings of unknown vehicles among them, where all are written, how many may be."""

import csv
from pathlib import Path

import numpy as np

from vroom_features.cells import Array, Mask
from vroom_features.contract import CheckedFile, locate
from vroom_features.errors import DataContractError

_CHECK_ROWS = 1 << 18


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
        first = _write_rows(path, file, target)
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


def _write_rows(path: Path, file: CheckedFile, target: Path) -> str:
    """Write them and return the first as a sentence; remove an old list when there are none."""
    if not file.num_bad:
        if target.is_file():
            target.unlink()
        return ""
    target.parent.mkdir(parents=True, exist_ok=True)
    first = ""
    with target.open("w", newline="", encoding="utf-8") as list_file:
        writer = csv.writer(list_file)
        writer.writerow(["line", "column", "value", "reason"])
        for line, problem in locate(path, file.problems):
            first = first or f"line {line}: {problem.column} {problem.value[:80]!r}: {problem.reason}"
            writer.writerow([line, problem.column, problem.value, problem.reason])
    return first


def sort_out_unknown(file: CheckedFile, known_ids: list[Array], vehicles: CheckedFile) -> int:
    """Set aside the bookings of unknown vehicles that a bad row may be about, and reject the others.

    A bad row whose id can be read is about that vehicle; one without an id may be about any, but only about
    one: bookings of more vehicles than there are such rows are not excused by them.

    Returns
    -------
    int
        How many are set aside.
    """
    unknown = np.flatnonzero(~_among(file.columns["vehicle_id"], np.concatenate(known_ids)))
    ids = file.columns["vehicle_id"][unknown]
    is_excused = np.isin(ids, vehicles.bad_ids)
    if len(np.unique(ids[~is_excused])) <= vehicles.num_without_id:
        is_excused[:] = True
    rejected, set_aside = unknown[~is_excused], unknown[is_excused]
    if len(rejected):
        file.reject(rejected, "there is no such vehicle")
    if len(set_aside):
        file.leave_out(set_aside - np.searchsorted(rejected, set_aside))  # the rejected ones are out already
    return len(set_aside)


def _among(ids: Array, known_ids: Array) -> Mask:
    """Say which ids are among the known ones, which are sorted here in place."""
    known_ids.sort()
    low, high = (int(known_ids[0]), int(known_ids[-1])) if len(known_ids) else (1, 0)
    is_dense = high - low < 4 * len(known_ids)  # then a table of flags is faster than a search
    flags = (
        np.isin(np.arange(low, high + 1), known_ids, assume_unique=True) if is_dense else np.empty(0, bool)
    )
    is_known = np.zeros(len(ids), bool)
    for start in range(0, len(ids), _CHECK_ROWS):
        chunk = ids[start : start + _CHECK_ROWS]
        inside = (chunk >= low) & (chunk <= high)
        if is_dense:
            found = flags[chunk[inside] - low]
        else:
            found = known_ids[np.searchsorted(known_ids, chunk[inside])] == chunk[inside]
        is_known[np.flatnonzero(inside)[found] + start] = True
    return is_known
