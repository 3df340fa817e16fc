"""Scans by C-STORE: from DCMTK and Orthanc into the index, whoever is killed on the way."""

import io
import os
import signal
import socket
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

from api.dimse.archive import Archive, ArchiveError
from api.dimse.move import Retrieval, Tally, Wanted
from api.services import Services
from cli.processes import Child, Program, module_command
from pipeline.base.keys import Keys
from pipeline.base.settings import load_settings
from tests.dcmtk import echo, run, send
from tests.orthanc import Orthanc, orthanc
from tests.system import System, end, free_port, kill, until

SETTINGS = {
    "DICOM_PEERS": "TESTS@127.0.0.1,ORTHANC@127.0.0.0/8",
    "DICOM_PROCESSES": "2",
    "INCOMING_FREE_MB": "0",
    "DICOM_TRUSTED": "secondary-capture,screen-shot",  # they would wait in quarantine
    "INCOMING_SECONDS": "0.3",
}
FILES = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "emri_small.dcm")
REPORT = "test-SR.dcm"
EVER = date(2000, 1, 1), date(2005, 1, 1)


class Receiver:
    """`kindred dicom` beside a system."""

    def __init__(self, system: System, name: str, *arguments: str, **settings: str) -> None:
        self.port = free_port()
        command = module_command("api.dimse", "--host", "127.0.0.1", "--port", str(self.port))
        self.log = system.folder / f"{name}.log"
        more = {f"KINDRED_{key}": value for key, value in settings.items()}
        environment = {**system.environment, **more}
        self.child = Child(Program(name, [*command, *arguments], environment, self.log))

    def start(self) -> None:
        self.child.start()
        until(self._listens, f"a receiver, which said: {self.child.last_words(5)}")

    def _listens(self) -> bool:
        assert self.child.running, self.child.last_words(5)
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __enter__(self) -> "Receiver":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        end(self.child)

    def processes(self) -> list[int]:
        assert self.child.pid is not None
        found = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text()
        return [int(pid) for pid in found.split()]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("dimse"), encoder, **SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def receiver(system: System) -> Iterator[Receiver]:
    with Receiver(system, "dicom") as running:
        yield running


@pytest.fixture(scope="module")
def archive(system: System, receiver: Receiver) -> Iterator[Orthanc]:
    with orthanc(system.folder / "orthanc") as running:
        yield running


def sample(name: str) -> Path:
    return Path(str(get_testdata_file(name, download=False)))


def copies(folder: Path, count: int, *, rows: int = 0) -> list[Path]:
    """Files of one patient's study, each another instance; with `rows`, of that many MB."""
    folder.mkdir()
    dataset = dcmread(sample("CT_small.dcm"))
    study, series = generate_uid(), generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.PatientName, dataset.PatientID = "PLANTED^NAME", "PLANTED-ID"
    if rows:
        dataset.Rows, dataset.Columns = rows, 1000
        dataset.PixelData = bytes(2 * rows * 1000)
    paths = []
    for number in range(count):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        pixels = bytearray(dataset.PixelData)
        pixels[:4] = struct.pack("<L", number)
        dataset.PixelData = bytes(pixels)
        dataset.save_as(folder / f"{number}.dcm")
        paths.append(folder / f"{number}.dcm")
    return paths


def settled(system: System) -> None:
    """What was received is in jobs, and they have ended and left nothing."""
    redis = system.client()
    names = [
        f"kindred:{system.collection}:{key}" for key in ("incoming", "jobs:open", "jobs:ended")
    ]

    def none_left() -> bool:
        return not any((redis.zcard(names[0]), *map(redis.scard, names[1:])))

    until(none_left, "the end of all jobs")
    redis.close()
    incoming = system.blobs / "incoming"
    assert [path for path in incoming.rglob("*") if path.is_file()] == []


def last_job(system: System) -> dict[str, int]:
    return system.http.get("/v1/jobs").json()["jobs"][0]


def test_images_are_received_and_found(system: System, receiver: Receiver) -> None:
    assert echo(receiver.port)
    stored, said = send(receiver.port, [*map(sample, FILES)], "-xw")
    assert len(stored) == len(FILES), said
    settled(system)
    assert system.count() == 13  # one of them has ten frames
    assert sum(job["embedded"] for job in system.http.get("/v1/jobs").json()["jobs"]) == 13
    [hit, *_] = system.search([sample(FILES[0]).read_bytes()])["results"]
    assert hit["score"] > 0.999
    stored, said = send(receiver.port, [sample(FILES[0])])
    assert stored, said
    settled(system)
    assert last_job(system)["unchanged"] == 1
    info = system.http.get("/readyz").json()
    assert info["receivers"]["titles"] == ["KINDRED"]
    metrics = system.http.get("/metrics").text
    assert "kindred_received_total{" in metrics


def test_what_is_no_image_is_refused(system: System, receiver: Receiver) -> None:
    before = system.count()
    stored, said = send(receiver.port, [sample(REPORT), sample(FILES[1])], "-nh")
    assert stored == [sample(FILES[1])], said
    settled(system)
    assert system.count() == before


def test_a_data_set_must_be_what_was_announced(system: System, receiver: Receiver) -> None:
    ae = AE("TESTS")
    dataset = dcmread(sample(FILES[0]))
    ae.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", receiver.port, ae_title="KINDRED")
    assert association.is_established
    announced = dataset.SOPClassUID
    try:
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        assert _stored(association, dataset, announced) == 0xA900
        del dataset.SOPClassUID
        del dataset.SOPInstanceUID
        assert _stored(association, dataset, announced) == 0xC000
    finally:
        association.release()


def _stored(association: Association, dataset: Dataset, announced: str) -> int:
    """The status, where the command announces this SOP class, whatever the data set says."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = announced
    request.AffectedSOPInstanceUID = "1.2.3"
    request.Priority = 2
    request.DataSet = io.BytesIO(encode(dataset, False, True) or b"")
    [context] = association.accepted_contexts
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return int(answer.Status)


def test_only_those_are_served_who_are_allowed(receiver: Receiver) -> None:
    assert not echo(receiver.port, called="OTHER")
    assert not echo(receiver.port, calling="STRANGER")
    assert "allow it with KINDRED_DICOM_PEERS=TITLE@127.0.0.1" in receiver.log.read_text()
    assert "STRANGER" not in receiver.log.read_text()
    assert echo(receiver.port)


def test_slow_and_hostile_peers_harm_nobody(receiver: Receiver) -> None:
    """Half an association request, a PDU of 4 GB, and garbage; then as many as one may have."""
    opened = []
    for data in (
        b"\x01\x00",
        b"\x01\x00\xff\xff\xff\xff",
        b"\x04\x00\x00\x00\x00\x04abcd",
        b"GET /",
    ):
        connection = socket.create_connection(("127.0.0.1", receiver.port))
        connection.sendall(data)
        opened.append(connection)
    assert echo(receiver.port)
    living = receiver.processes()
    opened += [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(40)]
    for connection in opened:
        connection.close()
    until(lambda: echo(receiver.port), "an association when the others have gone")
    assert receiver.processes() == living


def test_an_archive_sends_and_is_asked(
    system: System, receiver: Receiver, archive: Orthanc, tmp_path: Path
) -> None:
    files = copies(tmp_path / "scans", 6)
    ids = archive.upload(path.read_bytes() for path in files)
    before = system.count()
    archive.knows("kindred", "KINDRED", receiver.port)
    archive.send("kindred", ids[:2]).raise_for_status()
    settled(system)
    assert system.count() == before + 2

    study = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    peer = f"ORTHANC@127.0.0.1:{archive.port}"
    code, said = moved(system, "--from", peer, "--study", study)
    assert (code, "1 series sent, 0 known, 6 objects, 0 failed" in said) == (0, True), said
    assert study not in said
    settled(system)
    assert system.count() == before + 6

    tally = retrieve(system, archive, Wanted(("CT",), *EVER))
    assert (tally.studies, tally.series, tally.known, tally.objects) == (1, 0, 1, 0)
    assert retrieve(system, archive, Wanted(("MR",), *EVER)).studies == 0

    [path] = copies(tmp_path / "others", 1)
    archive.upload([path.read_bytes()])
    archive.http.delete("/modalities/kindred").raise_for_status()
    with pytest.raises(ArchiveError, match="add a peer with this AE title"):
        retrieve(system, archive, Wanted((), *EVER))
    with pytest.raises(ArchiveError, match="Nothing receives as NOBODY"):
        retrieve(system, archive, Wanted((), *EVER), own="NOBODY")
    archive.knows("kindred", "KINDRED", receiver.port)
    tally = retrieve(system, archive, Wanted((), *EVER))
    assert (tally.studies, tally.series, tally.known, tally.objects) == (2, 1, 1, 1)
    settled(system)
    assert system.count() == before + 7


def retrieve(system: System, archive: Orthanc, wanted: Wanted, own: str = "KINDRED") -> Tally:
    redis_url = system.environment["KINDRED_REDIS_URL"]
    settings = load_settings(data=system.folder, redis_url=redis_url, incoming_free_mb=0)
    services = Services.open(settings, Keys.of(settings.keys_file, ()))
    asked = Archive(archive.title, "127.0.0.1", archive.port, own)
    retrieval = Retrieval(asked, services.collection(), lambda _: None)
    retrieval.run(wanted)
    services.ledgers.close()
    return retrieval.tally


def moved(system: System, *arguments: str) -> tuple[int, str]:
    child = system.child("move", module_command("api.dimse.move", *arguments))
    log = system.folder / "move.log"
    log.unlink(missing_ok=True)
    child.start()
    until(lambda: not child.running, "the end of a retrieval")
    return child.exit_code or 0, log.read_text()


def test_peers_speak_tls_with_their_own_certificates(system: System, tmp_path: Path) -> None:
    ours, theirs, others = (identity(tmp_path, name) for name in ("ours", "theirs", "others"))
    tls = {"DICOM_CERT": str(ours[0]), "DICOM_KEY": str(ours[1]), "DICOM_CA": str(theirs[0])}
    with Receiver(system, "dicom-tls", **tls) as receiver:
        trusting = ("+cf", str(ours[0]))
        assert echo(receiver.port, "+tls", str(theirs[1]), str(theirs[0]), *trusting)
        stored, said = send(
            receiver.port, [sample(FILES[0])], "+tls", str(theirs[1]), str(theirs[0]), *trusting
        )
        assert stored, said
        assert not echo(receiver.port, "+tls", str(others[1]), str(others[0]), *trusting)
        assert not echo(receiver.port)
        assert echo(receiver.port, "+tls", str(theirs[1]), str(theirs[0]), *trusting)


def identity(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(pem))
    form = serialization.PrivateFormat.TraditionalOpenSSL
    paths[1].write_bytes(key.private_bytes(pem, form, plain))
    return paths


def test_nothing_is_taken_without_room(system: System, tmp_path: Path) -> None:
    """Neither on a disk that is nearly full, nor an object that is too large."""
    before = system.count()
    with Receiver(system, "dicom-full", INCOMING_FREE_MB="999999999") as receiver:
        stored, said = send(receiver.port, [sample(FILES[0])])
        assert (stored, "0xa700" in said.lower() or "Refused: OutOfResources" in said) == ([], True)
    large, [small] = copies(tmp_path / "large", 1, rows=1500), copies(tmp_path / "small", 1)
    with Receiver(system, "dicom-large", DICOM_OBJECT_MB="1") as receiver:
        stored, said = send(receiver.port, [*large, small], "-nh")
        assert stored == [small], said
    settled(system)
    assert system.count() == before + 1
    assert not list((system.blobs / "parts").iterdir())


def test_nothing_is_lost_over_kills(system: System, tmp_path: Path) -> None:
    """Of the receiver's processes and of the worker, while eight peers send."""
    before = system.count()
    files = copies(tmp_path / "many", 240)
    parts = [files[n::8] for n in range(8)]
    with (
        Receiver(system, "dicom-killed") as receiver,
        ThreadPoolExecutor(8) as pool,
    ):
        senders = [pool.submit(send_all, receiver, part) for part in parts]
        for stored in (30, 90, 150):
            until(lambda stored=stored: _received(system) >= before + stored, "more images")
            kill_all(receiver)
            kill(system.worker)
            receiver.start()
            system.restart_worker()
        for sender in senders:
            sender.result()
        until(lambda: system.count() == before + len(files), "all that was answered with success")
    settled(system)


def _received(system: System) -> int:
    """How many images there would be if all that was received were embedded."""
    incoming = system.blobs / "incoming"
    return system.count() + sum(path.is_file() for path in incoming.rglob("*"))


def kill_all(receiver: Receiver) -> None:
    """The whole receiver, as by a power cut of its host."""
    children = receiver.processes()
    kill(receiver.child)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def send_all(receiver: Receiver, files: Sequence[Path]) -> None:
    """Sends each until it was answered with success, and then never again."""
    left = [*files]
    while left:
        stored, _ = send(receiver.port, left)
        left = [path for path in left if path not in stored]


def test_logs_name_nobody(system: System, receiver: Receiver) -> None:
    for name in FILES:
        header = dcmread(sample(name), stop_before_pixels=True)
        for log in system.folder.glob("dicom*.log"):
            text = log.read_text()
            for keyword in ("SOPInstanceUID", "StudyInstanceUID", "PatientID", "PatientName"):
                value = str(header.get(keyword) or "never")
                assert value not in text
            assert "PLANTED" not in text


def test_findscu_is_refused(receiver: Receiver) -> None:
    """Kindred is no archive: it answers no queries."""
    found = run("findscu", "-S", "-aec", "KINDRED", "-aet", "TESTS", "127.0.0.1", receiver.port)
    assert found.returncode != 0
