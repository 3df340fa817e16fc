"""Whether the model hub can be reached: `python -m cli.hub` ends with 0 if so.

It runs as a process of its own, which we can end: behind a network that drops packets, a name's
look-up lasts as long as the resolver likes, whatever timeouts a client sets.
"""

import os
import subprocess
import sys

import httpx

from cli.processes import module_command, module_environment

PATIENCE = 5.0  # seconds
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})  # as huggingface_hub reads its switches


def hub_in_reach() -> bool:
    """The answer comes within `PATIENCE` seconds."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
        return False
    try:
        probe = subprocess.run(
            module_command("cli.hub"),
            env=module_environment(os.environ),
            timeout=PATIENCE,
            capture_output=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return probe.returncode == 0


def main() -> int:
    url = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    try:
        answer = httpx.head(
            f"{url}/facebook/dino-vits16/resolve/main/config.json", timeout=PATIENCE
        )
    except (httpx.HTTPError, httpx.InvalidURL):
        return 1
    return 0 if answer.status_code < 400 else 1


if __name__ == "__main__":
    sys.exit(main())
