"""`python -m api.dimse` receives by C-STORE until it is stopped."""

import argparse
import logging
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from api.checks import check_blobs, check_redis
from api.dimse.door import DRAIN, Door, connections, tell_end
from api.dimse.quiet import silence
from api.dimse.receiver import Receiver
from api.incoming import Batcher
from api.services import Collection, Services
from pipeline import metrics
from pipeline.base import logs
from pipeline.base.errors import ConfigurationError, KindredError, Unavailable
from pipeline.base.keys import Keys
from pipeline.base.peers import Peers
from pipeline.base.settings import (
    EXIT_CONFIGURATION,
    Settings,
    load_settings,
    warn_of_unknown_variables,
)
from pipeline.ledger.receivers import BEAT, ReceiverInfo

logger = logging.getLogger("kindred.dicom")

NOBODY = (
    "KINDRED_DICOM_PEERS names nobody, so every association is refused: name the peers that may "
    "send, as TITLE@ADDRESS, separated by commas"
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="kindred dicom")
    parser.add_argument("--ae", default="KINDRED")
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - who may send is a setting
    parser.add_argument("--port", type=int, default=11112)
    options = parser.parse_args()
    try:
        settings = load_settings()
        logs.configure(settings.log_level)
        silence()
        warn_of_unknown_variables()
        check_redis(settings)
        check_blobs(settings)
        tls = tls_of(settings)
        listener = _listen(options.host, options.port)
    except (KindredError, OSError) as error:
        title = error.title if isinstance(error, KindredError) else "It cannot listen"
        print(f"kindred dicom: {title}: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    if not settings.dicom_peers:
        logger.warning(NOBODY)
    receive = partial(_receive, settings, options.ae, listener.getsockname()[:2], tls)
    door = Door(
        listener,
        Peers.of(settings.dicom_peers),
        settings.dicom_associations,
        [receive] * _processes(settings),
        [partial(_make_jobs, settings)],
    )
    secured = "TLS" if tls else "no TLS"
    address = "{}:{}".format(*listener.getsockname()[:2])
    logger.info("receives", extra={"title": options.ae, "address": address, "security": secured})
    door.run()
    return 0


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """Of the receiver. Raises ConfigurationError."""
    if settings.dicom_cert is None:
        if settings.dicom_key or settings.dicom_ca:
            raise ConfigurationError(["KINDRED_DICOM_CERT: name the receiver's certificate"])
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # PS3.15 B.9, BCP 195
    try:
        context.load_cert_chain(settings.dicom_cert, settings.dicom_key)
        if settings.dicom_ca is not None:
            context.load_verify_locations(settings.dicom_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            ["KINDRED_DICOM_CERT, …_KEY, …_CA: they must be PEM files that belong together"]
        ) from None
    return context


def _listen(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


def _processes(settings: Settings) -> int:
    count = settings.dicom_processes
    return (os.cpu_count() or 1) if count == "auto" else count


def _collection(settings: Settings) -> Collection:
    return Services.open(settings, Keys.of(settings.keys_file, ())).collection()


def _receive(
    settings: Settings,
    title: str,
    address: tuple[str, int],
    tls: ssl.SSLContext | None,
    pair: socket.socket,
) -> None:
    """What one process does: serves the connections that come through `pair`."""
    collection = _collection(settings)
    batcher = Batcher(lambda: [collection], "c-store", makes_jobs=False)
    scratch = _scratch(settings, collection)
    incoming = batcher.incoming(collection)
    receiver = Receiver(settings, title, address, incoming, scratch, tls)
    batcher.start()
    name = f"{socket.gethostname()}-{os.getpid()}"
    info = ReceiverInfo(name=name, title=title, host=address[0], port=address[1])
    over = threading.Event()
    beats = threading.Thread(target=_beat, args=(collection, info, receiver, over))
    beats.start()
    wait = connections(pair)
    while (found := wait()) is not None:
        number, connection, peer = found
        receiver.serve(connection, peer, partial(tell_end, pair, number))
    end = time.monotonic() + DRAIN
    while receiver.counts.associations and time.monotonic() < end:
        time.sleep(0.1)
    over.set()
    batcher.stop()
    beats.join()


def _scratch(settings: Settings, collection: Collection) -> Path:
    """Where objects lie until they are whole: on the disk of the blobs, if there is one."""
    parts = None
    with suppress(Unavailable):
        parts = collection.blobs.parts
    folder = parts or settings.data.absolute() / "dicom"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if parts is None:
        _delete_old(folder.iterdir())
    return folder


def _delete_old(files: Iterable[Path]) -> None:
    """What killed processes left an hour ago; the sweep does that for the blobs' own folder."""
    for file in files:
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > 3600:
                file.unlink()


def _beat(
    collection: Collection, info: ReceiverInfo, receiver: Receiver, over: threading.Event
) -> None:
    ledger, text = collection.ledger.receivers, "Associations that are open"
    while True:
        metrics.gauge("kindred_associations", text, receiver.counts.associations)
        with suppress(Unavailable):
            now = info.model_copy(update={"associations": receiver.counts.associations})
            ledger.beat(now, metrics.text())
        if over.wait(BEAT):
            break
    with suppress(Unavailable):
        ledger.leave(info.name)


def _make_jobs(settings: Settings, pair: socket.socket) -> None:
    """What the other process does: makes jobs of what was received, by whomever.

    Those who receive go first: a peer waits for them.
    """
    os.nice(10)
    collection = _collection(settings)
    batcher = Batcher(lambda: [collection], "c-store")
    batcher.start()
    pair.recv(1)
    batcher.stop()
    with suppress(Unavailable):
        batcher.finish()


if __name__ == "__main__":
    sys.exit(main())
