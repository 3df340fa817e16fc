"""The Celery app for Flower: `celery --app workers.flower flower`.

Flower by itself knows a URL alone: neither the master of Sentinels nor how to verify a certificate.
Of the settings it needs KINDRED_REDIS_URL and KINDRED_REDIS_CA.
"""

from celery import Celery

from pipeline.base.settings import load_settings
from workers.queue import make_app


def _app() -> Celery:
    made = make_app(load_settings().redis_url)
    # Flower asks the Sentinels by asyncio, for which this object is the wrong one.
    made.conf.broker_transport_options.get("sentinel_kwargs", {}).pop("retry", None)
    return made


app = _app()
