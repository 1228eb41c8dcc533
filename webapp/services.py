"""What a request can use: the one object that holds every service of the app, and the time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flask import current_app

from vroom_features.database.audit_log import AuditLog
from vroom_features.database.queries import StoredVehicle
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import VehicleNotFoundError
from vroom_features.online.redis_client import RedisClient
from vroom_features.online.store import OnlineStore
from vroom_features.settings import Settings

if TYPE_CHECKING:
    from vroom_model.records import ChampionRef
    from vroom_model.registry.promotion import PromotionService
    from vroom_model.registry.registry import Registry
    from vroom_model.serving.explain import Explainer
    from webapp.prefect_client import PrefectClient
    from webapp.security.rate_limits import ClientLimit, Counter
    from webapp.security.sign_in import Operator
    from webapp.serving.alerts import AlertWatch
    from webapp.serving.current_model import ModelSlot
    from webapp.serving.fleet_overview import FleetOverview
    from webapp.serving.listener import ModelListener
    from webapp.serving.worker_heartbeat import WorkerHeartbeat


@dataclass(frozen=True)
class Services:
    """The services of one worker process."""

    settings: Settings
    source: SourceStore
    online: OnlineStore
    redis: RedisClient
    slot: "ModelSlot"
    listener: "ModelListener"
    heartbeat: "WorkerHeartbeat"
    alerts: "AlertWatch"
    prefect: "PrefectClient"
    registry: "Registry"
    promotions: "PromotionService"
    limit: "ClientLimit"
    counter: "Counter"
    audit_log: AuditLog
    fleet: "FleetOverview"
    load_explainer: "Callable[[ChampionRef], Explainer]"
    """Reads a model's files once; an error is not kept."""
    operator: "Operator"
    worker: str
    """This worker's name: host and process id."""

    def vehicle(self, vehicle_id: int) -> StoredVehicle:
        """Return a stored vehicle, or raise VehicleNotFoundError."""
        if (vehicle := self.source.get_vehicle(vehicle_id)) is None:
            raise VehicleNotFoundError(vehicle_id)
        return vehicle

    def close(self) -> None:
        """Stop the threads and close the connections."""
        self.alerts.stop()
        self.listener.stop()
        self.heartbeat.stop()
        self.prefect.close()
        self.registry.close()
        self.source.close()
        self.redis.close()


def services() -> Services:
    """Return the services of the app that handles this request."""
    found: Services = current_app.extensions["vroom"]
    return found


def now() -> datetime:
    """Return the present moment, in UTC; the web app asks the clock nowhere else."""
    return datetime.now(UTC)
