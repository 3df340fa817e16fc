"""`python -m api`: serves until it is told to stop."""

import argparse
import sys

import uvicorn

from api.app import create_app
from pipeline import logs
from pipeline.addresses import is_loopback
from pipeline.settings import Settings

EXIT_CONFIGURATION = 78


def main() -> int:
    parser = argparse.ArgumentParser(prog="kindred api")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    settings = Settings()
    if not settings.api_keys and not is_loopback(options.host):
        print(
            f"kindred api: {options.host} is open to others; set KINDRED_API_KEYS first.",
            file=sys.stderr,
        )
        return EXIT_CONFIGURATION
    logs.configure(settings.log_level)
    uvicorn.run(
        create_app(settings),
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,  # query strings can hold filters, and filters patients' data
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
