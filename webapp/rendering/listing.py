"""A page of a list of vehicles."""

from dataclasses import dataclass
from math import ceil
from typing import Any

from flask import request

from vroom_features.database.queries import StoredVehicle
from webapp.services import services

PAGE_SIZE = 25
PAGE_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of a list, by its number from 1, and how many vehicles all pages have."""

    vehicles: tuple[StoredVehicle, ...]
    number: int
    num_pages: int
    total: int


def read_page(**listed: Any) -> ListPage:
    """Read the page that the query string asks for; beyond the end of the list, its last one.

    ``listed`` are arguments of ``SourceStore.list_vehicles``.
    """
    source = services().source
    number = min(max(request.args.get("page", 1, type=int), 1), PAGE_MAX)
    found = source.list_vehicles(page=number, page_size=PAGE_SIZE, **listed)
    num_pages = max(1, ceil(found.total / PAGE_SIZE))
    if number > num_pages:
        number = num_pages
        found = source.list_vehicles(page=number, page_size=PAGE_SIZE, **listed)
    return ListPage(found.items, number, num_pages, found.total)
