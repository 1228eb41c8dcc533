"""The web app put together: blueprints, services and threads."""

import os
import socket
from functools import lru_cache

import redis
from flask import Flask
from redis.backoff import NoBackoff
from redis.retry import Retry
from werkzeug.middleware.proxy_fix import ProxyFix

from vroom_features.database.audit_log import AuditLog
from vroom_features.database.vehicles import SourceStore
from vroom_features.online.redis_client import connect_redis
from vroom_features.online.store import OnlineStore
from vroom_features.settings import Settings, read_settings
from vroom_model.messages import ModelPromoted
from vroom_model.registry.model_cache import ModelCache
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry
from vroom_model.serving.explain import Explainer
from webapp import observability, pages, problems
from webapp.api.health import health_api
from webapp.api.inference import inference_api
from webapp.api.model import model_api
from webapp.api.openapi import VroomOpenAPI
from webapp.api.operations import operations_api
from webapp.api.predict import benchmark, predict_api
from webapp.api.stores import stores_api
from webapp.api.vehicles import vehicles_api
from webapp.prefect_client import PrefectClient
from webapp.rendering import compression, templates
from webapp.security import headers, sign_in
from webapp.security.rate_limits import ClientLimit, Counter
from webapp.security.sign_in import csrf, read_operator
from webapp.services import Services
from webapp.serving.alerts import AlertWatch
from webapp.serving.current_model import ModelSlot
from webapp.serving.fastpath import FastPath
from webapp.serving.fleet_overview import FleetOverview
from webapp.serving.listener import REDIS_TIMEOUT_S, ModelListener
from webapp.serving.worker_heartbeat import WorkerHeartbeat

FIRST_MODEL_TIMEOUT_S = 3.0
REGISTRY_TIMEOUT_S = 3.0


def create_app(settings: Settings | None = None) -> Flask:
    """Return the app, with its model loaded if one could be found in time.

    The threads that follow the champion and sync the online store run from now on;
    ``app.extensions["vroom"].close()`` stops them.
    """
    settings = settings or read_settings()
    observability.configure_logs(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    app = VroomOpenAPI("webapp")
    app.debug = False  # whatever FLASK_DEBUG is: errors are answered, not raised
    headers.install(app, settings, style_source=templates.install(app))
    compression.install(app)
    problems.install(app)
    observability.install(app)
    sign_in.install(app, settings)
    pages.install(app)
    for api in (predict_api, health_api, model_api, vehicles_api, stores_api, operations_api):
        csrf.exempt(api)
        app.register_api(api)
    for blueprint in (inference_api, benchmark) if settings.web_benchmark else (inference_api,):
        csrf.exempt(blueprint)
        app.register_blueprint(blueprint)
    services = open_services(settings)
    sign_in.name_cookies(app, services.source.last_change().database_id)
    app.extensions["vroom"] = services
    app.wsgi_app = FastPath(app.wsgi_app, services)  # type: ignore[method-assign]  # as Flask documents
    if settings.web_proxies:  # outermost, so that everything inside gets the client's address
        n = settings.web_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=n, x_proto=n, x_host=n, x_prefix=n)  # type: ignore[method-assign]
    return app


def open_services(settings: Settings) -> Services:
    """Open every service and start the threads; wait a moment for the first model."""
    source = SourceStore.open(settings.source_database)
    client = connect_redis(
        settings.redis,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        # one retry, for a connection that the server closed meanwhile; none after a time-out
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )
    online = OnlineStore(client, settings.redis_prefix)
    counter = Counter(settings.redis, prefix=settings.redis_prefix)
    registry = Registry(settings.mlflow, settings.model_name, timeout_s=REGISTRY_TIMEOUT_S)

    def publish(message: ModelPromoted) -> None:
        heartbeat.publish(message)

    cache = ModelCache(registry.api, settings.home / "models")
    promotions = PromotionService(registry, source, publish=publish)
    slot = ModelSlot()
    worker = f"{socket.gethostname()}:{os.getpid()}"
    heartbeat = WorkerHeartbeat(
        client,
        slot,
        model_name=settings.model_name,
        worker=worker,
        source=source,
        online=online,
        finish_promotion=promotions.finish,
    )
    listener = ModelListener(settings, registry, cache, slot, on_swap=heartbeat.beat_soon)
    services = Services(
        settings=settings,
        source=source,
        online=online,
        redis=client,
        slot=slot,
        listener=listener,
        heartbeat=heartbeat,
        alerts=AlertWatch(),
        prefect=PrefectClient(settings.prefect),
        registry=registry,
        promotions=promotions,
        limit=ClientLimit(settings, counter),
        counter=counter,
        audit_log=AuditLog(source.engine, source.address),
        fleet=FleetOverview(source),
        load_explainer=lru_cache(maxsize=1)(lambda ref: cache.load(ref, Explainer.load)),
        operator=read_operator(settings),
        worker=worker,
    )
    heartbeat.start()
    listener.start()
    services.alerts.start(services)
    slot.settled.wait(FIRST_MODEL_TIMEOUT_S)
    return services
