"""nginx in front of a system, as a hospital's proxy that gives Kindred a path of its own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from cli.processes import Child, Program
from tests.system import end, free_port, until

# As docs/deploy.md has it: the path is passed on as it came, or the proxy removes it. Debian builds
# nginx with folders that only root may write, so each has one here.
_CONFIGURATION = """\
{user}
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
  client_max_body_size 32m;
  proxy_http_version 1.1;
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
  server {{
    listen 127.0.0.1:{passing};
    location {path}/ {{ proxy_pass http://127.0.0.1:{api}; }}
  }}
  server {{
    listen 127.0.0.1:{removing};
    location {path}/ {{ proxy_pass http://127.0.0.1:{api}/; }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, api: int, path: str) -> Iterator[dict[str, str]]:
    """Serves the api of a port below `path`. Maps `passing` and `removing` to their addresses."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        missing = "no nginx on this machine: Debian's package is nginx-light"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    folder.mkdir(parents=True, exist_ok=True)
    ports = {"passing": free_port(), "removing": free_port()}
    user = "" if os.geteuid() else "user root;"
    settings = _CONFIGURATION.format(user=user, folder=folder, api=api, path=path, **ports)
    (folder / "nginx.conf").write_text(settings)
    command = [found, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    child = Child(Program("nginx", command, dict(os.environ), folder / "nginx.log"))
    child.start()
    hosts = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    try:
        for host in hosts.values():
            until(partial(_answers, child, host), "an answer of nginx")
        yield {name: host + path for name, host in hosts.items()}
    finally:
        end(child)


def _answers(child: Child, host: str) -> bool:
    assert child.running, child.last_words(5)
    try:
        return httpx.get(host).status_code > 0
    except httpx.TransportError:
        return False
