"""The bad rows of a CSV: written where people can read them, or too many to go on."""

import csv
from pathlib import Path

from vroom_features.contract import CheckedFile, locate
from vroom_features.errors import DataContractError


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
