"""What promotion and rollback share: the succession of champions."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from flows.messages import publish
from vroom_features.settings import Settings
from vroom_features.stores.source import SourceStore
from vroom_model.ledger import Ledger
from vroom_model.registry import Registry
from vroom_model.succession import Succession


@contextmanager
def open_succession(settings: Settings) -> Iterator[Succession]:
    """Open the registry, the ledger and the way to the web workers."""
    with (
        closing(SourceStore.open(settings.source_database)) as source,
        Registry(settings.mlflow, settings.model_name) as registry,
    ):
        yield Succession(
            registry,
            Ledger(source.engine, settings.model_name),
            publish=lambda message: publish(settings, message),
            cache_dir=settings.home / "models",
        )
