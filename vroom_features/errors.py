"""Errors of the feature library.

::

    VroomFeaturesError
    ├── SettingsError               an environment variable holds what cannot be used
    ├── MissingColumnsError         an input frame lacks columns
    ├── DataContractError           a CSV file cannot be taken
    ├── SourceStoreError            the source database cannot be used
    │   ├── VehicleNotFoundError    no such vehicle
    │   ├── NotDeletableError       the vehicle belongs to the CSV fleet
    │   ├── IdempotencyConflictError  a key was used before with another body
    │   ├── LockTimeoutError        another process holds the database's lock for promotions
    │   └── BackupError             a backup cannot be made or put back
    │       └── DamagedDatabaseError  a file is not a sound database
    ├── OfflineStoreError           a snapshot cannot be written or read
    │   ├── NoSnapshotError         nothing was materialized yet
    │   └── UnreadableSnapshotError  a snapshot is lost, damaged or of another release
    ├── OnlineStoreError            Redis cannot be used
    └── SkewError                   batch and request disagree about a feature
"""

from collections.abc import Iterable
from typing import Any


class VroomFeaturesError(Exception):
    """Base of every error this library raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes as it is: Python would call the class with the message alone."""
        return _rebuild, (type(self), self.args, vars(self))


def _rebuild(kind: type[VroomFeaturesError], args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    """Make an error again in another process."""
    error = kind.__new__(kind, *args)
    vars(error).update(fields)
    return error


class SettingsError(VroomFeaturesError):
    """Settings cannot be used; the message has a line for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__("\n".join(problems))


class MissingColumnsError(VroomFeaturesError):
    """An input frame lacks columns that a feature needs."""

    def __init__(self, missing: Iterable[str], available: Iterable[str]) -> None:
        self.missing = sorted(missing)
        super().__init__(f"columns {self.missing} are missing; got {sorted(available)}")


class DataContractError(VroomFeaturesError):
    """A CSV file breaks the data contract so far that none of it was taken."""


class SourceStoreError(VroomFeaturesError):
    """The source database cannot be opened, read or written."""


class VehicleNotFoundError(SourceStoreError):
    """No vehicle has this id."""

    def __init__(self, vehicle_id: int) -> None:
        self.vehicle_id = vehicle_id
        super().__init__(f"there is no vehicle {vehicle_id}")


class NotDeletableError(SourceStoreError):
    """Only vehicles added in the web app can be deleted there."""

    def __init__(self, vehicle_id: int) -> None:
        self.vehicle_id = vehicle_id
        super().__init__(f"vehicle {vehicle_id} came from a CSV file; remove it there and seed again")


class IdempotencyConflictError(SourceStoreError):
    """An idempotency key came again with a different vehicle."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"idempotency key {key!r} was used for a different vehicle; use a new key")


class LockTimeoutError(SourceStoreError):
    """Another process holds a lock and did not give it up in time."""


class BackupError(SourceStoreError):
    """A backup cannot be made, is not sound, or would overwrite what it must not."""


class DamagedDatabaseError(BackupError):
    """A file is not a sound source database."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path} is not a sound database: {problem}")


class OfflineStoreError(VroomFeaturesError):
    """A snapshot of the offline store cannot be written or read."""


class NoSnapshotError(OfflineStoreError):
    """The offline store has no snapshot yet."""

    def __init__(self, root: object) -> None:
        super().__init__(f"the offline store {root} holds no snapshot; run materialize first")


class UnreadableSnapshotError(OfflineStoreError):
    """A snapshot's description is lost, or is not one of this release."""

    def __init__(self, snapshot_id: str, problem: str) -> None:
        super().__init__(f"snapshot {snapshot_id} cannot be read ({problem}); materialize again")


class OnlineStoreError(VroomFeaturesError):
    """The online store cannot be reached or answers with an error."""


class SkewError(VroomFeaturesError):
    """The batch and the request path compute a vehicle's feature differently."""

    def __init__(self, vehicle_id: int, feature: str, request: float, batch: float) -> None:
        super().__init__(
            f"vehicle {vehicle_id}: {feature} is {batch!r} in the batch and {request!r} for a request;"
            " nothing was published"
        )
