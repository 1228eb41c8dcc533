"""The WSGI entry, which ``python -m webapp`` serves."""

from vroom_features.settings import Settings
from webapp import doorkeeper
from webapp.server_folder import Draining, join_server

settings = Settings()
draining = Draining(join_server(settings.home))
doorkeeper.watch(draining)

from webapp.app import create_app  # noqa: E402 - the counters' folder must be known before they are imported

app = create_app(settings, draining=draining)
