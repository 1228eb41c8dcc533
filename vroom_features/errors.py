"""Errors of the feature library.

::

    VroomFeaturesError
    ├── SettingsError               an environment variable holds what cannot be used
    ├── MissingColumnsError         an input frame lacks columns that a feature needs
    ├── DataContractError           a CSV file breaks the contract so far that none of it was taken
    ├── SourceStoreError            the source database cannot be opened, read or written
    │   ├── VehicleNotFoundError    no such vehicle
    │   ├── NotDeletableError       the vehicle came from a CSV file, or was booked
    │   ├── StaleVehicleError       the vehicle was changed since it was read
    │   ├── NotChangeableError      the vehicle came from a CSV file, was withdrawn, or was changed later
    │   ├── IdempotencyConflictError  a key was used before with another vehicle
    │   ├── LockTimeoutError        another process holds the lock for promotions
    │   └── BackupError             a backup cannot be made, is not sound, or a restore would lose changes
    │       └── DamagedDatabaseError  a file is not a sound database
    ├── OfflineStoreError           a snapshot cannot be written or read
    │   ├── NoSnapshotError         nothing was materialized yet
    │   └── UnreadableSnapshotError  a snapshot is lost, damaged or of another release
    ├── OnlineStoreError            Redis cannot be used
    │   └── StoreInUseError         web workers of another database use it
    └── SkewError                   batch and request compute a feature differently
"""

import copyreg
from collections.abc import Iterable
from typing import Any


class VroomFeaturesError(Exception):
    """Base of every error this library raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default Python would call the subclass with the message alone, when Dask sends an error.
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]  # untyped


class SettingsError(VroomFeaturesError):
    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__("\n".join(problems))


class MissingColumnsError(VroomFeaturesError):
    def __init__(self, missing: Iterable[str], available: Iterable[str], hint: str = "") -> None:
        self.missing = sorted(missing)
        super().__init__(f"columns {self.missing} are missing; got {sorted(available)}{hint}")


class DataContractError(VroomFeaturesError): ...


class SourceStoreError(VroomFeaturesError): ...


class VehicleNotFoundError(SourceStoreError):
    def __init__(self, vehicle_id: int) -> None:
        self.vehicle_id = vehicle_id
        super().__init__(f"there is no vehicle {vehicle_id}")


class NotDeletableError(SourceStoreError):
    def __init__(self, vehicle_id: int, *, is_csv: bool) -> None:
        self.vehicle_id = vehicle_id
        self.is_csv = is_csv
        reason = "came from a CSV file; remove it there and seed again" if is_csv else "was booked"
        super().__init__(f"vehicle {vehicle_id} cannot be deleted: it {reason}")


class NotChangeableError(SourceStoreError):
    def __init__(self, vehicle_id: int, reason: str) -> None:
        self.vehicle_id = vehicle_id
        super().__init__(f"vehicle {vehicle_id} cannot be changed: {reason}")


class StaleVehicleError(SourceStoreError):
    def __init__(self, vehicle_id: int) -> None:
        self.vehicle_id = vehicle_id
        super().__init__(f"vehicle {vehicle_id} was changed meanwhile; read it again")


class IdempotencyConflictError(SourceStoreError):
    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"idempotency key {key!r} was used for a different vehicle; use a new key")


class LockTimeoutError(SourceStoreError): ...


class BackupError(SourceStoreError): ...


class DamagedDatabaseError(BackupError):
    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path} is not a sound database: {problem}")


class OfflineStoreError(VroomFeaturesError): ...


class NoSnapshotError(OfflineStoreError):
    def __init__(self, root: object) -> None:
        super().__init__(f"the offline store {root} holds no snapshot; run materialize first")


class UnreadableSnapshotError(OfflineStoreError):
    def __init__(self, snapshot_id: str, problem: str) -> None:
        super().__init__(f"snapshot {snapshot_id} cannot be read ({problem}); materialize again")


class OnlineStoreError(VroomFeaturesError): ...


class StoreInUseError(OnlineStoreError): ...


class SkewError(VroomFeaturesError):
    def __init__(self, vehicle_id: int, feature: str, request: float, batch: float) -> None:
        super().__init__(
            f"vehicle {vehicle_id}: {feature} is {batch!r} in the batch and {request!r} for a request;"
            " nothing was published"
        )
