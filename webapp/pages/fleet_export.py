"""The fleet as a file: forecast beside what happened, for a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import repeat

from vroom_features.database.vehicles import SourceStore
from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW
from webapp.rendering.listing import Listing
from webapp.serving.forecasts import predict_vehicles
from webapp.serving.model_slot import LoadedModel

EXPORT_MAX = 50_000
BATCH_SIZE = 1_000
FIELDS = ("vehicle_id", *COLUMNS, VEHICLE_VIEW.label)


def csv_lines(source: SourceStore, listing: Listing, served: LoadedModel | None) -> Iterator[str]:
    """Yield the file a batch at a time: the vehicles of a list, in its order, all forecast by one model.

    The order is that of the moment it begins; a vehicle that is gone when its batch is read is left out.

    Parameters
    ----------
    source : SourceStore
        Where vehicles are.
    listing : Listing
        Which vehicles, in which order; up to ``EXPORT_MAX``, whatever its page.
    served : LoadedModel or None
        The model; without one the forecasts are left empty.
    """
    version = served.version if served else ""
    yield _lines([[*FIELDS, "predicted_reservations", "low", "high", "model_version"]])
    # A list that is read page by page shifts when a vehicle goes or comes; one that is read whole does not.
    ids = listing.ids(source, limit=EXPORT_MAX)
    for start in range(0, len(ids), BATCH_SIZE):
        vehicles = source.get_vehicles(ids[start : start + BATCH_SIZE])
        figures: Iterable[list[object]] = repeat(["", "", ""], len(vehicles))
        if served is not None:
            made = predict_vehicles(served, vehicles)
            figures = ([round(each, 3) for each in (f.predicted_reservations, f.low, f.high)] for f in made)
        yield _lines(
            [
                [*(getattr(vehicle, name) for name in FIELDS), *forecast, version]
                for vehicle, forecast in zip(vehicles, figures, strict=True)
            ]
        )


def _lines(rows: list[list[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()
