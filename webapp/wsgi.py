"""The WSGI entry: ``granian --interface wsgi webapp.wsgi:app``."""

from vroom_features.settings import Settings
from webapp.shared_counters import share_counters

settings = Settings()
share_counters(settings.home)

from webapp.app import create_app  # noqa: E402 - the counters' folder must be known before they are imported

app = create_app(settings)
