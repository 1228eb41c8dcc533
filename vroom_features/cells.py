"""Cells of a CSV, text, turned into numbers and moments: a column at a time."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vroom_features.arrow import is_null, to_numpy

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

MOMENT = pa.timestamp("us", "UTC")
_DAY = r"^\d{4}-\d\d-\d\d"
_TIME = r"[ T]\d\d(:\d\d(:\d\d(\.\d{1,6})?)?)?"
_FORMS: dict[pa.DataType, list[tuple[pa.DataType, str]]] = {
    pa.int64(): [(pa.int64(), r"^-?\d{1,19}$")],
    pa.float64(): [(pa.float64(), r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")],
    MOMENT: [(pa.timestamp("us"), rf"{_DAY}({_TIME})?$"), (MOMENT, rf"{_DAY}{_TIME}(Z|[+-]\d\d(:?\d\d)?)$")],
}
"""How a type may be written: what Arrow reads each form as, and what the form looks like."""


def convert(text: pa.Array, kind: pa.DataType) -> tuple[Array, Mask]:
    """Turn text into values; one that does not fit becomes any value and False.

    Parameters
    ----------
    text : pyarrow.Array of string, of shape (n,)
        Need not be UTF-8.
    kind : pyarrow.DataType
        ``int64``, ``float64`` or ``MOMENT``, which becomes microseconds since 1970.

    Examples
    --------
    >>> values, fits = convert(pa.array(["12", " 7 ", "0x1F", "seven"]), pa.int64())
    >>> values.tolist(), fits.tolist()
    ([12, 7, 0, 0], [True, True, False, False])
    """
    converted = _cast_whole(text, kind)
    if converted is None:
        converted = _cast_forms(pc.ascii_trim_whitespace(text), kind)
    fits = ~is_null(converted)
    if kind == MOMENT:
        converted = converted.cast(pa.int64())
    return to_numpy(converted), fits


def _cast_whole(text: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Cast text of which every cell has the same form; None for other text."""
    if pa.types.is_integer(kind) and any(pc.any(pc.starts_with(text, x)).as_py() for x in ("0x", "0X")):
        return None  # Arrow reads hexadecimal numbers too
    for form, _ in _FORMS[kind]:
        try:
            return text.cast(form).cast(kind)
        except pa.ArrowInvalid:
            continue
    return None


def _cast_forms(text: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast the cells of each form together; null for a cell that has none."""
    converted = pa.nulls(len(text), kind)
    for form, pattern in _FORMS[kind]:
        fits = pc.match_substring_regex(text, pattern)
        cast = pa.concat_arrays(_cast_parts(text.filter(fits), form))
        converted = pc.replace_with_mask(converted, fits, cast.cast(kind))
    return converted


def _cast_parts(text: pa.Array, form: pa.DataType) -> list[pa.Array]:
    """Cast cells of one form: halve what does not fit until what is bad (30 February) is alone; null that."""
    try:
        return [text.cast(form)]
    except pa.ArrowInvalid:
        middle = len(text) // 2
        if not middle:
            return [pa.nulls(1, form)]
    return _cast_parts(text[:middle], form) + _cast_parts(text[middle:], form)
