"""Train on the current snapshot and register the result as candidate."""

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from prefect import State, flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.tasks.endings import ENDS, fails_in_a_sentence
from flows.tasks.partitions import load_dask
from flows.tasks.promotions import delete_old_versions, library_task
from flows.tasks.reports import LEFT_OUT, NEXT_MATURES, keep_table, left_out, link_model
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings, read_settings
from vroom_model.registry.registry import Registry

if TYPE_CHECKING:
    from vroom_model.training.register import Registered
    from vroom_model.training.train import Fit


@library_task(timeout_s=3600)
def train_and_register(settings: Settings, seed: int, as_of: datetime) -> "Registered":
    """Train and register; the same snapshot and seed make no second version."""
    from vroom_model.training.register import train_candidate  # noqa: PLC0415 - 1.3 s and 111 MB, for `prefect deploy` too

    snapshot = OfflineStore(settings.offline_store).current()
    get_run_logger().info("read snapshot %s with %d labels", snapshot.id, snapshot.num_labels)
    fit = choose_fit(snapshot.num_labels, settings)
    with Registry(settings.mlflow, settings.model_name) as registry:
        registered = train_candidate(
            registry,
            snapshot,
            as_of=as_of,
            seed=seed,
            fit=fit,
            tags={
                "mlflow.source.name": str(flow_run.flow_name),
                "prefect.flow_run_id": str(flow_run.id),
                "prefect.flow_run_name": str(flow_run.name),
            },
            system_metrics=settings.training_system_metrics,
        )
    wrote = "registered" if registered.is_new else "kept"
    get_run_logger().info(
        "%s version %d, run %s", wrote, registered.version.version, registered.version.run_id
    )
    return registered


def choose_fit(num_rows: int, settings: Settings) -> "Fit | None":
    """Return how to fit a large fleet on Dask, if that is set; None fits it on this machine.

    The cluster is connected to, or started, with the fit itself: unchanged inputs need none.
    """
    address = str(settings.dask_address)
    if not address or num_rows <= settings.dask_above_vehicles:
        return None
    return partial(load_dask(address).fit_on_cluster, address)


@flow(name="vroom_forecast_training", timeout_seconds=7200, **ENDS)
@fails_in_a_sentence
async def vroom_forecast_training(seed: int = 0) -> State[int]:
    """Train, register, and set the alias ``candidate``.

    Args:
        seed: Of every random choice; the same snapshot and seed give the same model.
    """
    settings = read_settings()
    registered = await train_and_register(settings, seed, datetime.now(UTC))
    manifest = registered.manifest
    number = registered.version.version
    found = "registered" if registered.is_new else "unchanged inputs, so still"
    error, vehicles = manifest.metrics["mae"], manifest.snapshot.num_rows
    num_left_out, next_matures = manifest.snapshot.num_left_out, manifest.snapshot.next_matures
    more = left_out(num_left_out, next_matures)
    message = f"{found} version {number}: MAE {error:.3f} on {vehicles:,} vehicles{more}"
    report = {
        "version": number,
        "new": registered.is_new,
        "MLflow run": registered.version.run_id,
        "snapshot": manifest.snapshot.id,
        "vehicles": vehicles,
        LEFT_OUT: num_left_out,
        NEXT_MATURES: next_matures,
        "seed": seed,
        **{name: f"{value:.4f}" for name, value in manifest.metrics.items()},
    }
    about = "The model version of the last training, its snapshot and its out-of-fold errors"
    await keep_table("Trained", report, key="training", about=about)
    await link_model(settings, number, registered.version.run_id)
    await delete_old_versions(settings)
    return Completed(message=message, data=number)
