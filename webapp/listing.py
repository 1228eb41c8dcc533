"""A page of a list of vehicles: which one, in which order, and how to link to the next."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal, Self

from flask import url_for

from vroom_features.errors import OnlineStoreError
from vroom_features.stores.online import OnlineStore, freshness
from vroom_features.stores.source import SourceStore, StoredVehicle, VehiclePage

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
    Column("num_images", "Photos"),
)
_SORTABLE = {column.name for column in FLEET_COLUMNS}


@dataclass(frozen=True, slots=True)
class Listing:
    """What part of the vehicles is asked for; whatever is not understood is left at its default."""

    kind: Literal["fleet", "new"]
    search: str
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
            sort=args["sort"] if args.get("sort") in _SORTABLE else sort,
            descending=args["order"] == "desc" if "order" in args else descending,
            page=min(max(int(asked), 1), LAST_PAGE) if asked.isdecimal() and len(asked) < 9 else 1,
        )

    def page_of(self, source: SourceStore, *, page_size: int = PAGE_SIZE) -> VehiclePage:
        """Read the vehicles."""
        return source.list_vehicles(
            kind=self.kind,
            search=self.search,
            sort=self.sort,
            descending=self.descending,
            page=self.page,
            page_size=page_size,
        )

    def position(self, total: int) -> dict[str, int]:
        """Return where in the list this page is."""
        return {"page": self.page, "pages": max(1, ceil(total / PAGE_SIZE)), "total": total}

    def link(self, endpoint: str, **changes: Any) -> str:
        """Return the address of this list with something changed."""
        here = {
            "q": self.search or None,
            "sort": self.sort,
            "order": "desc" if self.descending else "asc",
            "page": self.page,
        }
        return url_for(endpoint, **(here | changes))


def freshness_of(vehicles: Iterable[StoredVehicle], online: OnlineStore) -> dict[int, Freshness]:
    """Tell by vehicle id whether the online store holds today's row; unknown while it is away."""
    found: dict[int, Freshness] = {vehicle.vehicle_id: "unknown" for vehicle in vehicles}
    try:
        for vehicle in vehicles:
            found[vehicle.vehicle_id] = freshness(online.get(vehicle.vehicle_id), vehicle)
    except OnlineStoreError:
        return dict.fromkeys(found, "unknown")
    return found
