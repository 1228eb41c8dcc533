"""NumPy columns as Arrow and back, by their buffers.

pyarrow's own conversions import pandas, which takes longer than a small fleet's work.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]


def to_arrow(values: Array, kind: pa.DataType | None = None, *, missing: Array | None = None) -> pa.Array:
    """Return numbers as an Arrow array that shares their memory.

    Parameters
    ----------
    values : array of shape (n,)
        Integers or floats.
    kind : pyarrow.DataType, optional
        What the numbers mean, as wide as they are: a timestamp of microseconds, say.
    missing : array of bool, optional
        True where a number counts as null.

    Examples
    --------
    >>> to_arrow(np.array([1, 2]), missing=np.array([False, True])).to_pylist()
    [1, None]
    """
    values = np.ascontiguousarray(values)
    valid = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))
    kind = kind or pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(values)])


def to_numpy(values: pa.Array | pa.ChunkedArray, *, missing: int | float = 0) -> Array:
    """Return numbers of 64 bits as a NumPy array, with a value in the place of nulls.

    Examples
    --------
    >>> to_numpy(pa.chunked_array([[1, None], [3]], type=pa.int64()), missing=-1).tolist()
    [1, -1, 3]
    """
    kind = np.float64 if pa.types.is_floating(values.type) else np.int64
    if not len(values):
        return np.empty(0, kind)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    found = np.frombuffer(values.buffers()[1], kind)[values.offset : values.offset + len(values)]
    if not values.null_count:
        return found
    return np.where(is_null(values), kind(missing), found)


def is_null(values: pa.Array) -> Array:
    """Return True where there is no value.

    Examples
    --------
    >>> is_null(pa.array([1, None, 3])).tolist(), is_null(pa.array([1, None, 3])[2:]).tolist()
    ([False, True, False], [False])
    """
    if not values.null_count:
        return np.zeros(len(values), bool)
    bits = np.unpackbits(np.frombuffer(values.buffers()[0], np.uint8), bitorder="little")
    unset: Array = bits[values.offset : values.offset + len(values)] == 0
    return unset


def repeat(text: str, count: int) -> pa.Array:
    """Return a column that holds the same text in every row.

    Examples
    --------
    >>> repeat("csv", 2).to_pylist()
    ['csv', 'csv']
    """
    content = text.encode()
    ends = np.arange(count + 1, dtype=np.int32) * np.int32(len(content))
    return pa.Array.from_buffers(
        pa.string(), count, [None, pa.py_buffer(ends), pa.py_buffer(content * count)]
    )
