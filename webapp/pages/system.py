"""``/system``: the workers, how fast this server answers, and what the operator did."""

from flask import Blueprint, render_template, request, url_for

from vroom_features.database.queries import BIGGEST_ID
from vroom_features.database.tables import AuditEntry
from vroom_features.vehicle import COLUMNS
from webapp.pages.operations import ACTIONS
from webapp.security.sign_in import SIGN_IN, SIGN_OUT, require_operator
from webapp.services import services

NUM_REQUESTS = 200
NUM_ENTRIES = 50
bp = Blueprint("system", __name__, url_prefix="/system")

DONE = {
    "Signed in": (SIGN_IN,),
    "Signed out": (SIGN_OUT,),
    "Changed a car": ("forecast.submit", "my_cars.rename", "vehicles_api.change_vehicle"),
    "Withdrew a car": ("my_cars.withdraw",),
    "Deleted a car": ("arrivals.delete", "my_cars.delete", "vehicles_api.delete_vehicle"),
    "Read the registry": ("operations.reload", "operations_api.reload"),
    "Started a run": (
        "operations.start",
        "operations.promote_version",
        "operations_api.materialize",
        "operations_api.train",
        "operations_api.rollback",
    ),
}
"""What people call the actions of the audit log."""
BY = {"cookie": "in the browser", "token": "by API token", "password": "with the password", "link": "by link"}


@bp.get("")
def show() -> str:
    newest = services().source.list_vehicles(page_size=1, descending=True).items  # saved cars have high ids
    return render_template(
        "system/show.html",
        workers=services().heartbeat.workers() or [],
        num_requests=NUM_REQUESTS,
        vehicle={column.name: column.initial for column in COLUMNS.values()},
        vehicle_id=newest[0].vehicle_id if newest else None,
    )


@bp.get("/audit")
def audit() -> str:
    require_operator()
    done, client = request.args.get("done", ""), request.args.get("client", "").strip()
    before = request.args.get("before", type=int)
    found = services().audit_log.entries(
        limit=NUM_ENTRIES + 1,
        before=before if before and 0 < before < BIGGEST_ID else None,
        actions=DONE.get(done, ()),
        client=client,
    )
    entries = found[:NUM_ENTRIES]
    has_more = len(found) > NUM_ENTRIES
    return render_template(
        "system/audit.html",
        entries=[(entry, describe(entry), BY.get(entry.actor, entry.actor)) for entry in entries],
        choices=DONE,
        done=done,
        client=client,
        older=url_for(".audit", before=entries[-1].id, done=done or None, client=client or None)
        if has_more
        else None,
    )


def describe(entry: AuditEntry) -> str:
    """Return what was done, in people's words: "Deleted car 7", "Train a model".

    Examples
    --------
    >>> describe(AuditEntry(action="operations.start", subject="/operations/train"))
    'Train a model'
    >>> describe(AuditEntry(action="vehicles_api.delete_vehicle", subject="/vehicles/7"))
    'Deleted car 7'
    >>> describe(AuditEntry(action="operations.promote_version", subject="/operations/promote/3"))
    'Promote model 3'
    """
    words = next((words for words, actions in DONE.items() if entry.action in actions), entry.action)
    parts = entry.subject.split("/")
    if words.endswith(" a car"):
        number = next((part for part in parts if part.isdigit()), "")
        return words.replace(" a car", f" car {number}") if number else words
    if entry.action == "operations.promote_version":
        return f"Promote model {parts[-1]}"
    if words == "Started a run" and parts[-1] in ACTIONS:
        return ACTIONS[parts[-1]].button
    return words
