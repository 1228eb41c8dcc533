"""A page of a list of vehicles: which one, in which order, and how to link to the next."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal, Self

from flask import url_for

from vroom_features.database.queries import StoredVehicle, VehicleFilter, VehiclePage
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import OnlineStoreError
from vroom_features.online.rows import freshness
from vroom_features.vehicle import COLUMNS
from vroom_model.serving.predictor import Forecast
from webapp.services import Services
from webapp.serving.current_model import LoadedModel
from webapp.serving.forecasts import predict_vehicles

PAGE_SIZE = 25
LAST_PAGE = 1_000_000
Freshness = Literal["fresh", "stale", "missing", "unknown"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column that can be sorted by."""

    name: str
    label: str
    numeric: bool = True


FLEET_COLUMNS = (
    Column("vehicle_id", "Car", numeric=False),
    Column("num_reservations", "Booked"),
    Column("actual_price", "Price"),
    Column("recommended_price", "Market"),
    Column("num_images", COLUMNS["num_images"].label),
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Something a list can be narrowed by: its name in the address, and what may be chosen.

    Parameters
    ----------
    name, label : str
        In the address, and for people.
    field : str
        Of ``VehicleFilter``.
    choices : tuple of (value in the address, value of the field, text)
        Without the choice of everything.
    """

    name: str
    label: str
    field: str
    choices: tuple[tuple[str, int | bool, str], ...]


def _choices(column: str, **values: int) -> tuple[tuple[str, int, str], ...]:
    """Return the choices of a raw column by their names in the address, in its own words."""
    return tuple((name, value, COLUMNS[column].choices[value]) for name, value in values.items())


FILTERS = (
    Filter(
        "booking",
        COLUMNS["technology"].label,
        "technology",
        _choices("technology", instant=1, arranged=0),
    ),
    Filter(
        "parking", COLUMNS["street_parked"].label, "street_parked", _choices("street_parked", own=0, street=1)
    ),
    Filter(
        "price",
        "Price",
        "is_overpriced",
        (("above", True, "Above market"), ("market", False, "At market or below")),
    ),
)
_SORTABLE = {column.name for column in FLEET_COLUMNS}


@dataclass(frozen=True, slots=True)
class Listing:
    """What part of the vehicles is asked for; whatever is not understood is left at its default."""

    kind: Literal["fleet", "new"]
    search: str
    chosen: Mapping[str, str]
    """By the name of a filter, what was chosen."""
    sort: str
    descending: bool
    page: int

    @classmethod
    def of(
        cls, args: Mapping[str, str], *, kind: Literal["fleet", "new"], sort: str, descending: bool
    ) -> Self:
        """Read a query string."""
        asked = args.get("page", "1")
        return cls(
            kind=kind,
            search=args.get("q", "").strip()[:19],
            chosen={
                each.name: args[each.name]
                for each in FILTERS
                if args.get(each.name) in {value for value, _, _ in each.choices}
            },
            sort=args["sort"] if args.get("sort") in _SORTABLE else sort,
            descending=args["order"] == "desc" if "order" in args else descending,
            page=min(max(int(asked), 1), LAST_PAGE) if asked.isdecimal() and len(asked) < 9 else 1,
        )

    @property
    def where(self) -> VehicleFilter:
        """What the filters leave."""
        fields: dict[str, Any] = {
            each.field: wanted
            for each in FILTERS
            for value, wanted, _ in each.choices
            if self.chosen.get(each.name) == value
        }
        return VehicleFilter(**fields)

    @property
    def is_narrowed(self) -> bool:
        """True when not everything is shown."""
        return bool(self.search or self.chosen)

    def page_of(self, source: SourceStore, *, page_size: int = PAGE_SIZE) -> VehiclePage:
        """Read the vehicles."""
        return source.list_vehicles(
            kind=self.kind,
            search=self.search,
            where=self.where,
            sort=self.sort,
            descending=self.descending,
            page=self.page,
            page_size=page_size,
        )

    def ids(self, source: SourceStore, *, limit: int) -> tuple[int, ...]:
        """Read which vehicles all pages hold."""
        return source.list_vehicle_ids(
            kind=self.kind,
            search=self.search,
            where=self.where,
            sort=self.sort,
            descending=self.descending,
            limit=limit,
        )

    def shown(self, source: SourceStore) -> tuple[Self, VehiclePage]:
        """Read the vehicles of a page for people: of the last one when the list ends before."""
        found = self.page_of(source)
        last = self.position(found.total)["pages"]
        if self.page <= last:
            return self, found
        at_end = replace(self, page=last)
        return at_end, at_end.page_of(source)

    def position(self, total: int) -> dict[str, int]:
        """Return where in the list this page is."""
        return {"page": self.page, "pages": max(1, ceil(total / PAGE_SIZE)), "total": total}

    def link(self, endpoint: str, **changes: Any) -> str:
        """Return the address of this list with something changed."""
        here = {
            "q": self.search or None,
            **self.chosen,
            "sort": self.sort,
            "order": "desc" if self.descending else "asc",
            "page": self.page,
        }
        return url_for(endpoint, **(here | changes))


def forecasts_of(vehicles: Sequence[StoredVehicle], served: LoadedModel | None) -> dict[int, Forecast]:
    """Forecast stored vehicles by id; none without a model."""
    made = predict_vehicles(served, vehicles) if served else []
    return {
        vehicle.vehicle_id: forecast for vehicle, forecast in zip(vehicles, made, strict=served is not None)
    }


def freshness_of(vehicles: Iterable[StoredVehicle], app: Services) -> dict[int, Freshness]:
    """Tell by vehicle id whether the online store holds today's row; unknown while it is away."""
    by_id = {vehicle.vehicle_id: vehicle for vehicle in vehicles}
    if app.heartbeat.is_redis_up:
        try:
            rows = app.online.get_many(by_id)
        except OnlineStoreError:
            app.heartbeat.mark_stale()
        else:
            return {number: freshness(rows.get(number), vehicle) for number, vehicle in by_id.items()}
    return dict.fromkeys(by_id, "unknown")
