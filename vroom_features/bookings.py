"""Bookings in order, and what two lots of them differ by, as NumPy columns.

A booking's key is its vehicle, its moment in microseconds since 1970, and its occurrence: 0, and counting on
where a vehicle has several bookings of one moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BOOKING_KEY = ("vehicle_id", "created_at", "occurrence")
_PART_ROWS = 1 << 20
_SECOND = 1_000_000
_PACKED_BITS = 63


@dataclass(frozen=True, slots=True)
class Packing:
    """Bookings as one integer each, in the order of vehicle and moment: cheap to sort and to compare.

    Parameters
    ----------
    first_id, first : int
        The smallest id and moment.
    unit : int
        Microseconds that every moment is a multiple of, counted from the first.
    num_bits : int
        Bits of a moment.
    num_free : int
        Bits that are left above.
    """

    first_id: int
    first: int
    unit: int
    num_bits: int
    num_free: int

    @classmethod
    def of(cls, *tables: dict[str, Array]) -> "Packing | None":
        """Return what packs the rows of these tables, none of them empty; None where they are too wide."""
        ids, moments = (
            [int(end) for rows in tables for end in (rows[name].min(), rows[name].max())]
            for name in ("vehicle_id", "created_at")
        )
        first = min(moments)
        is_fine = any((part % _SECOND).any() for rows in tables for part in _parts(rows["created_at"]))
        unit = 1 if is_fine else _SECOND
        num_bits = ((max(moments) - first) // unit).bit_length()
        num_free = _PACKED_BITS - num_bits - (max(ids) - min(ids)).bit_length()
        return cls(min(ids), first, unit, num_bits, num_free) if num_free >= 0 else None

    def pack(self, rows: dict[str, Array]) -> Array:
        """Pack a table's rows."""
        packed = np.empty(len(rows["vehicle_id"]), np.int64)
        for part, ids, moments in zip(
            _parts(packed), _parts(rows["vehicle_id"]), _parts(rows["created_at"]), strict=True
        ):
            part[:] = (ids - self.first_id) << self.num_bits | (moments - self.first) // self.unit
        return packed

    def unpack(self, packed: Array) -> dict[str, Array]:
        """Return vehicles and moments again."""
        moments = (packed & ((1 << self.num_bits) - 1)) * self.unit + self.first
        return {"vehicle_id": (packed >> self.num_bits) + self.first_id, "created_at": moments}


def _parts(values: Array) -> list[Array]:
    """Return a column in parts, so that what is computed from one at a time stays small."""
    return [values[start : start + _PART_ROWS] for start in range(0, len(values), _PART_ROWS)]


def difference(
    wanted: dict[str, Array], stored: dict[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the wanted bookings that are not stored, and the stored ones that are not wanted."""
    packing = Packing.of(wanted, stored) if len(wanted["vehicle_id"]) else None
    if packing is not None:
        packed = packing.pack(wanted)
        packed.sort()
        repeats, counts = _repeats(packed)
        num_bits = int(max(counts.max(initial=0), stored["occurrence"].max())).bit_length()
        if num_bits <= packing.num_free:
            packed <<= num_bits
            packed[repeats] |= counts
            kept = (packing.pack(stored) << num_bits) | stored["occurrence"]
            kept.sort()
            alone = packed[~_among(packed, kept)], kept[~_among(kept, packed)]
            added, removed = (packing.unpack(keys >> num_bits) for keys in alone)
            for rows, keys in zip((added, removed), alone, strict=True):
                rows["occurrence"] = keys & ((1 << num_bits) - 1)
            return added, removed
    return _difference_by_columns(wanted, stored)


def _among(keys: Array, others: Array) -> npt.NDArray[np.bool_]:
    """Tell which keys are among others, both sorted; there is at least one of those."""
    at = np.searchsorted(others, keys)
    at[at == len(others)] = 0
    found: npt.NDArray[np.bool_] = others[at] == keys
    return found


def _difference_by_columns(
    wanted: dict[str, Array], stored: dict[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the same for ids and moments that do not fit in one integer together."""
    size = len(wanted["vehicle_id"])
    wanted = {**wanted, "occurrence": _occurrences(wanted["vehicle_id"], wanted["created_at"])}
    keys = [np.concatenate([wanted[name], stored[name]]) for name in BOOKING_KEY]
    order = np.lexsort(keys[::-1])
    is_repeat = np.ones(len(order) - 1, bool)
    for key in keys:
        ordered = key[order]
        is_repeat &= ordered[1:] == ordered[:-1]
    is_alone = np.ones(len(order), bool)
    is_alone[1:] &= ~is_repeat
    is_alone[:-1] &= ~is_repeat
    alone = order[is_alone]
    added, removed = alone[alone < size], alone[alone >= size] - size
    return _at(wanted, added), _at(stored, removed)


def _occurrences(ids: Array, moments: Array) -> Array:
    """Count the bookings of one vehicle at one moment from 0."""
    order = np.lexsort((moments, ids))
    found = np.zeros(len(order), np.int64)
    repeats, counts = _repeats(ids[order], moments[order])
    found[order[repeats]] = counts
    return found


def _repeats(*columns: Array) -> tuple[Array, Array]:
    """Return where rows, which are in order, equal the one before, and the how-many-th repetition each is."""
    is_repeat = np.ones(max(len(columns[0]) - 1, 0), bool)
    for column in columns:
        is_repeat &= column[1:] == column[:-1]
    at = np.flatnonzero(is_repeat) + 1
    num = np.arange(len(at))
    is_first = np.r_[True, at[1:] != at[:-1] + 1][: len(at)]
    return at, num - np.maximum.accumulate(np.where(is_first, num, 0)) + 1


def in_order(rows: dict[str, Array]) -> Iterator[dict[str, Array]]:
    """Give bookings a part at a time: by vehicle and time, where the two fit in one integer.

    To sort such integers is cheap, and to store rows that are in order costs half.
    """
    size = len(rows["vehicle_id"])
    starts = range(0, size, _PART_ROWS)
    packing = Packing.of(rows) if size else None
    if packing is None:
        whole = {**rows, "occurrence": _occurrences(rows["vehicle_id"], rows["created_at"])}
        yield from (_at(whole, slice(start, start + _PART_ROWS)) for start in starts)
        return
    packed = packing.pack(rows)
    packed.sort()
    repeats, counts = _repeats(packed)
    for start, own in zip(starts, _parts(packed), strict=True):
        made = packing.unpack(own)
        inside = slice(*np.searchsorted(repeats, (start, start + len(own))))
        if len(repeats[inside]):
            made["occurrence"] = np.zeros(len(own), np.int64)
            made["occurrence"][repeats[inside] - start] = counts[inside]
        yield made


def _at(rows: dict[str, Array], at: Array | slice) -> dict[str, Array]:
    """Return some of the rows."""
    return {name: rows[name][at] for name in BOOKING_KEY}
