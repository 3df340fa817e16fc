"""Orthanc, the open archive: Debian's package, on a folder and on ports of its own."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.processes import Child, Program
from tests.system import PATIENCE, end, free_port, until

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Orthanc:
    """`port` is that of DICOM. `modalities` of the configuration are peers that it can send to."""

    http: httpx.Client
    port: int
    title: str
    process: Child

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    @property
    def dicom_web(self) -> str:
        return f"{self.url}/dicom-web"

    def wait(self) -> None:
        """Until it answers."""
        until(lambda: _answers(self.process, self.http), "an answer of Orthanc")

    def upload(self, files: Iterable[bytes]) -> list[str]:
        """Stores DICOM files. Returns Orthanc's own ids of the instances."""
        answers = [self.http.post("/instances", content=data) for data in files]
        return [answer.raise_for_status().json()["ID"] for answer in answers]

    def send(self, modality: str, resources: Iterable[str]) -> httpx.Response:
        """Sends instances, series or studies, by Orthanc's ids, to a peer by C-STORE."""
        body = {"Resources": [*resources], "Synchronous": True}
        return self.http.post(f"/modalities/{modality}/store", json=body)

    def knows(self, modality: str, title: str, port: int) -> None:
        """From now on it sends to this peer, and answers its queries."""
        peer = {"AET": title, "Host": "127.0.0.1", "Port": port, "AllowMove": True}
        self.http.put(f"/modalities/{modality}", json=peer).raise_for_status()


@contextmanager
def orthanc(
    folder: Path,
    user: tuple[str, str] | None = None,
    title: str = "ORTHANC",
    **configuration: Any,
) -> Iterator[Orthanc]:
    """An archive, with DICOMweb below `/dicom-web`. `configuration` is Orthanc's own.

    `user`: our name and password there.
    """
    found = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None or not PLUGIN.exists():
        missing = "no Orthanc on this machine: Debian's packages are orthanc and orthanc-dicomweb"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    folder.mkdir(parents=True, exist_ok=True)
    http, dicom = free_port(), free_port()
    settings = {
        "Name": "Archive",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": title,
        "DicomPort": dicom,
        "DicomCheckCalledAet": False,
        "DicomModalities": {},
        "DicomModalitiesInDatabase": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowGet": True,
        "OverwriteInstances": True,
        "ConcurrentJobs": 4,
        "HttpVerbose": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
        **configuration,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    child = Child(
        Program("orthanc", [found, str(folder / "orthanc.json")], _plain(), folder / "orthanc.log")
    )
    child.start()
    client = httpx.Client(base_url=f"http://127.0.0.1:{http}", timeout=PATIENCE, auth=user)
    try:
        archive = Orthanc(client, dicom, title, child)
        archive.wait()
        yield archive
    finally:
        client.close()
        end(child)


def _plain() -> Mapping[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("KINDRED_")}


def _answers(child: Child, client: httpx.Client) -> bool:
    assert child.running, child.last_words(5)
    try:
        return client.get("/system").status_code == 200
    except httpx.TransportError:
        return False
