"""What a request can use: the one object that holds every service of the app."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import current_app

from vroom_features.settings import Settings
from vroom_features.stores.audit_log import AuditLog
from vroom_features.stores.online import OnlineStore
from vroom_features.stores.redis_client import RedisClient
from vroom_features.stores.source import SourceStore
from webapp.limits import ClientLimit, Counter
from webapp.model_slot import ModelSlot

if TYPE_CHECKING:
    from vroom_model.registry import Registry
    from webapp.fleet_overview import FleetOverview
    from webapp.insight import Insight
    from webapp.listener import ModelListener
    from webapp.model_history import ModelHistory
    from webapp.secrets_file import Credentials
    from webapp.upkeep import Upkeep
    from webapp.workflows import Workflows


@dataclass(frozen=True)
class Services:
    """The services of one worker process."""

    settings: Settings
    source: SourceStore
    online: OnlineStore
    redis: RedisClient
    slot: ModelSlot
    listener: "ModelListener"
    upkeep: "Upkeep"
    workflows: "Workflows"
    registry: "Registry"
    history: "ModelHistory"
    limit: ClientLimit
    counter: Counter
    audit_log: AuditLog
    fleet: "FleetOverview"
    insight: "Insight"
    operator: "Credentials"
    worker: str
    """This worker's name: host and process id."""

    def close(self) -> None:
        """Stop the threads and close the connections."""
        self.listener.stop()
        self.upkeep.stop()
        self.workflows.close()
        self.registry.close()
        self.source.close()
        self.redis.close()


def services() -> Services:
    """Return the services of the app that handles this request."""
    found: Services = current_app.extensions["vroom"]
    return found
