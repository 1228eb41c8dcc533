"""How much of the database one seed may remove: a file that was cut short must not empty it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from vroom_features.errors import DataContractError

NUM_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Removal:
    """Rows of one kind that a seed is about to remove.

    Parameters
    ----------
    noun : str
        ``vehicle`` or ``reservation``.
    num_removed, num_stored : int
        Rows to remove, and rows that the database has.
    max_share : float
        Share of the stored rows that may go.
    examples : sequence of str
        A few of the rows to remove, in words.
    """

    noun: str
    num_removed: int
    num_stored: int
    max_share: float
    examples: Sequence[str]

    @classmethod
    def of_vehicles(cls, ids: pd.Index, num_stored: int, max_share: float) -> Self:
        """Return the removal of vehicles."""
        examples = [f"vehicle {vehicle_id}" for vehicle_id in ids[:NUM_EXAMPLES]]
        return cls("vehicle", len(ids), num_stored, max_share, examples)

    @classmethod
    def of_bookings(cls, rows: pd.DataFrame, num_stored: int, max_share: float) -> Self:
        """Return the removal of bookings."""
        moments = pd.to_datetime(rows["created_at"][:NUM_EXAMPLES], unit="us")
        examples = [
            f"vehicle {vehicle_id} at {moment.isoformat()}"
            for vehicle_id, moment in zip(rows["vehicle_id"], moments, strict=False)
        ]
        return cls("reservation", len(rows), num_stored, max_share, examples)

    @property
    def is_too_large(self) -> bool:
        """Whether more would go than may."""
        return self.num_removed > self.max_share * self.num_stored

    def __str__(self) -> str:
        return (
            f"{self.num_removed:,} of the {self.num_stored:,} {self.noun}s in the database"
            f" ({self.num_removed / self.num_stored:.1%}, VROOM_MAX_REMOVED_{self.noun.upper()}_SHARE allows"
            f" {self.max_share:.1%}), such as {', '.join(self.examples)}"
        )


def refuse_mass_removal(data_dir: Path, *removals: Removal) -> None:
    """Raise when more of one kind would be removed than may.

    Raises
    ------
    DataContractError
        With the counts, the limit, a few rows and what to do.
    """
    too_large = [str(removal) for removal in removals if removal.is_too_large]
    if too_large:
        raise DataContractError(
            f"the files in {data_dir} lack {'; and '.join(too_large)}. Nothing was changed. Give the whole"
            " files; if these rows are to go, run python -m vroom_features seed --allow-removals, or the flow"
            " vroom_forecast_materialize with allow_removals=true"
        )
