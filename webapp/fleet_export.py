"""The fleet as a file: forecast beside what happened, for a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import repeat

from vroom_features.stores.source import SourceStore
from webapp.forecasts import predict_vehicles
from webapp.listing import Listing
from webapp.model_slot import Served

EXPORT_MAX = 50_000
BATCH_SIZE = 1_000
COLUMNS = (
    "vehicle_id",
    "technology",
    "actual_price",
    "recommended_price",
    "num_images",
    "street_parked",
    "description",
    "num_reservations",
)


def csv_lines(source: SourceStore, listing: Listing, served: Served | None) -> Iterator[str]:
    """Yield the file a batch at a time: the vehicles of a list, in its order, all forecast by one model.

    Parameters
    ----------
    source : SourceStore
        Where vehicles are.
    listing : Listing
        Which vehicles, in which order; from its first page, up to ``EXPORT_MAX``.
    served : Served or None
        The model; without one the forecasts are left empty.
    """
    version = served.version if served else ""
    yield _lines([[*COLUMNS, "predicted_reservations", "low", "high", "model_version"]])
    for page in range(1, EXPORT_MAX // BATCH_SIZE + 1):
        found = replace(listing, page=page).page_of(source, page_size=BATCH_SIZE)
        figures: Iterable[list[object]] = repeat(["", "", ""], len(found.items))
        if served is not None:
            made = predict_vehicles(served, found.items)
            figures = ([round(each, 3) for each in (f.predicted_reservations, f.low, f.high)] for f in made)
        yield _lines(
            [
                [*(getattr(vehicle, name) for name in COLUMNS), *forecast, version]
                for vehicle, forecast in zip(found.items, figures, strict=True)
            ]
        )
        if page * BATCH_SIZE >= found.total:
            return


def _lines(rows: list[list[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()
