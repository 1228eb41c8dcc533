"""What describes a snapshot: a JSON file beside its parts, light enough for a web worker to read."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from pydantic import AwareDatetime, ConfigDict, ValidationError, create_model

from vroom_features.errors import UnreadableSnapshotError

FORMAT = 1
"""Version of the manifest's shape."""


@dataclass(frozen=True)
class Part:
    """The fleet vehicles of one range of ids, ``low`` to ``high``, both included.

    ``sums`` add up over the parts of a snapshot to what its digest is made of; ``num_vehicles`` counts the
    range's new arrivals too.
    """

    low: int
    high: int
    num_vehicles: int
    num_rows: int
    sums: tuple[int, int]
    file: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """One state of the fleet.

    ``digest`` depends on the rows and the view alone: not on the partitions, the engine or the day.
    ``database_id`` and ``change_number`` say which state of which database it was made from.
    """

    id: str
    num_rows: int
    digest: str
    created_at: AwareDatetime
    source: str
    database_id: str
    change_number: int
    view_name: str
    view_version: int
    columns: tuple[str, ...]
    parts: tuple[Part, ...]

    def to_json(self) -> bytes:
        """Return it as it is kept."""
        values = {each.name: getattr(self, each.name) for each in fields(Manifest)}
        values |= {"created_at": self.created_at.isoformat(), "parts": [asdict(part) for part in self.parts]}
        return json.dumps({"format": FORMAT} | values, indent=1).encode()

    @classmethod
    def from_json(cls, snapshot_id: str, content: bytes, **more: Any) -> Self:  # fields of a subclass
        """Read it back; UnreadableSnapshotError if it is none of this release."""
        try:
            found = dict(_DOCUMENT.model_validate_json(content))
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "manifest"
            raise UnreadableSnapshotError(snapshot_id, f"{where}: {first['msg']}") from exc
        if found["id"] != snapshot_id:
            raise UnreadableSnapshotError(snapshot_id, f"its manifest is of {found['id']!r}")
        return cls(**{name: value for name, value in found.items() if name != "format"}, **more)


_FIELDS: dict[str, Any] = {each.name: each.type for each in fields(Manifest)} | {"format": Literal[FORMAT]}
_DOCUMENT = create_model("Manifest", __config__=ConfigDict(strict=True, extra="forbid"), **_FIELDS)
