"""The Celery app for Flower: `celery --app workers.flower flower`.

Flower by itself knows a URL alone: neither the master of Sentinels nor how to verify a certificate.
Of the settings it needs KINDRED_REDIS_URL and KINDRED_REDIS_CA.
"""

from pipeline.base.settings import load_settings
from workers.queue import make_app

app = make_app(load_settings().redis_url)
