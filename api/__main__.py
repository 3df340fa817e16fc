"""`python -m api` serves until it is stopped."""

import argparse
import sys

import uvicorn
from starlette.types import ASGIApp

from api.app import create_app
from api.checks import check_blobs, check_redis
from api.door import BACKLOG, PATIENCE, Door, open_more_files
from pipeline.base import logs
from pipeline.base.addresses import is_loopback
from pipeline.base.errors import KindredError, Unauthorized
from pipeline.base.keys import Keys
from pipeline.base.settings import (
    EXIT_CONFIGURATION,
    Settings,
    load_settings,
    warn_of_unknown_variables,
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="kindred api")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    try:
        settings = load_settings()
        logs.configure(settings.log_level)
        warn_of_unknown_variables()
        app = _app_for(options.host, settings)
    except KindredError as error:
        print(f"kindred api: {error.title}: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    door = Door.for_files(open_more_files(), settings.connections, settings.trusted_proxies)
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        http=door.protocol(),
        ws="none",
        backlog=BACKLOG,
        timeout_keep_alive=PATIENCE,
        log_config=None,
        access_log=False,  # query strings can contain filters, and filters patients' data
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=5,
    )
    return 0


def _app_for(host: str, settings: Settings) -> ASGIApp:
    """Raises Unauthorized if other machines could call without a key."""
    keys = Keys.of(settings.keys_file, settings.api_keys)
    if not keys.needed and not is_loopback(host):
        raise Unauthorized(f"Others can reach {host}; `kindred keys create` makes a key.")
    check_redis(settings)
    check_blobs(settings)
    return create_app(settings, keys)


if __name__ == "__main__":
    sys.exit(main())
