"""One process that receives: associations in threads, objects into `api.incoming`."""

import logging
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom import _config as pynetdicom_config
from pynetdicom.transport import AddressInformation

from api.dimse.association import NO_ROOM, PDU, TOO_LARGE, Accepted, why_cut
from api.dimse.contexts import contexts_for, register
from api.incoming import BACKLOG, DISK, Incoming
from pipeline import metrics
from pipeline.base.errors import Unavailable
from pipeline.base.peers import Peers
from pipeline.base.settings import Settings

logger = logging.getLogger("kindred.dicom")

_LAST = 0x00080018  # SOPInstanceUID, behind SOPClassUID: the elements of a data set are in order

# Bytes of a file up to the end of the first element of its header, which is the header's length:
# preamble, DICM, and (0002,0000) UL (PS3.10 7.1).
_META = 128 + 4 + 12

# Statuses of C-STORE (PS3.4 table B.2-1).
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
OTHER_CLASS = (
    0xA900  # the data set is not of the SOP class, or not the instance, that was announced
)
NOT_UNDERSTOOD = 0xC000
_CUT = {NO_ROOM: OUT_OF_RESOURCES, TOO_LARGE: 0xC001}  # data sets that were not received

# Seconds until an association request must have come, and until TLS must be agreed on.
GREETING = 15.0

_REASONS = {DISK: "disk", BACKLOG: "backlog"}


@dataclass
class Counts:
    """Associations of this process that live. `said` is what was logged last."""

    associations: int = 0
    said: str = ""


class Receiver:
    """`title` is our own AE title. `tls`: peers must speak it."""

    def __init__(
        self,
        settings: Settings,
        title: str,
        address: tuple[str, int],
        incoming: Incoming,
        scratch: Path,
        tls: ssl.SSLContext | None,
    ) -> None:
        """`scratch`: a folder for objects on their way, on the disk of the blobs if there is."""
        register()
        pynetdicom_config.STORE_RECV_CHUNKED_DATASET = True
        tempfile.tempdir = str(scratch)
        self.counts = Counts()
        self._incoming, self._tls, self._title = incoming, tls, title
        self._peers = Peers.of(settings.dicom_peers)
        self._most = settings.dicom_object_mb * 1_000_000
        self._address = AddressInformation.from_tuple(address)
        self._ae = AE(title)
        self._ae.require_called_aet = True
        self._ae.maximum_associations = 1_000_000  # the door counts them
        self._ae.maximum_pdu_size = PDU
        self._ae.acse_timeout = GREETING
        self._ae.network_timeout = settings.dicom_idle_seconds
        self._lock = threading.Lock()

    def serve(self, connection: socket.socket, address: str, ended: Callable[[], None]) -> None:
        """In a thread of its own. `ended` is called once."""
        self._count(1)
        threading.Thread(
            target=self._serve, args=(connection, address, ended), name="dicom", daemon=True
        ).start()

    def _serve(self, connection: socket.socket, address: str, ended: Callable[[], None]) -> None:
        def over() -> None:
            self._count(-1)
            ended()

        try:
            self._associate(self._secured(connection), address, over)
        except (OSError, ValueError):
            metrics.count("kindred_association_requests_total", _ASSOCIATIONS, outcome="no TLS")
            connection.close()
            over()

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self._tls is None:
            return connection
        connection.settimeout(GREETING)
        return self._tls.wrap_socket(connection, server_side=True)

    def _associate(
        self, connection: socket.socket, address: str, ended: Callable[[], None]
    ) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        association = Accepted(self._ae, connection, self._most, ended)
        association._server = _Closing()  # type: ignore[assignment]
        own = association.acceptor
        own.maximum_length = self._ae.maximum_pdu_size
        own.ae_title = self._title
        own.address_info = self._address
        own.implementation_class_uid = self._ae.implementation_class_uid
        own.implementation_version_name = self._ae.implementation_version_name
        association.requestor.address_info = AddressInformation(address, 0)
        association.bind(evt.EVT_REQUESTED, self._requested, [address])
        association.bind(evt.EVT_C_ECHO, lambda _: SUCCESS)
        association.bind(evt.EVT_C_STORE, self._store)
        association.start()

    def _requested(self, event: Any, address: str) -> None:
        """Rejects those whom no entry of KINDRED_DICOM_PEERS allows; serves others.

        Until it has run to its end, nothing is served: should it fail, pynetdicom goes on.
        """
        association, primitive = event.assoc, event.assoc.requestor.primitive
        title = primitive.calling_ae_title.strip()
        if not self._peers.allow(title, address):
            metrics.count(
                "kindred_association_requests_total", _ASSOCIATIONS, outcome="not allowed"
            )
            self._say_refused(address)
            association.acse.send_reject(0x01, 0x01, 0x03)  # the calling title is not recognised
            return
        fits = primitive.called_ae_title.strip() == self._title
        outcome = "accepted" if fits else "other title"
        metrics.count("kindred_association_requests_total", _ASSOCIATIONS, outcome=outcome)
        proposed = primitive.presentation_context_definition_list
        # The public attribute cannot be set once a request has come.
        association.acceptor._contexts = contexts_for(proposed)

    def _say_refused(self, address: str) -> None:
        """Not the title: it is the peer's text, and can name anybody."""
        self._say(
            f"an association from {address} was refused: no entry of KINDRED_DICOM_PEERS fits; "
            f"allow it with KINDRED_DICOM_PEERS=TITLE@{address}"
        )

    def _store(self, event: Any) -> int:
        status, reason = self._stored(event)
        if status != SUCCESS:
            metrics.count(
                "kindred_refused_total", "Objects that were refused", door="c-store", reason=reason
            )
        return status

    def _stored(self, event: Any) -> tuple[int, str]:
        """The status, and the reason for the metrics."""
        request = event.request
        if (cut := why_cut(request)) is not None:
            return _CUT[cut], cut
        try:
            if (full := self._incoming.full()) is not None:
                self._say(f"objects are refused: {full}")
                return OUT_OF_RESOURCES, _REASONS[full]
            path = event.dataset_path
            with path.open("rb") as file:
                found = identity_of(file, event.context.transfer_syntax)
            if not all(found):
                return NOT_UNDERSTOOD, "not understood"
            if found != (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID):
                return OTHER_CLASS, "other class"
            self._incoming.put(path)
        except Unavailable as error:
            self._say(f"objects are refused: {error.logged}")
            return OUT_OF_RESOURCES, "unavailable"
        except OSError:  # of the scratch folder
            self._say("objects are refused: the disk takes none")
            return OUT_OF_RESOURCES, "disk"
        self.counts.said = ""
        return SUCCESS, ""

    def _say(self, line: str) -> None:
        """Once, until another is said or objects come again."""
        with self._lock:
            if line == self.counts.said:
                return
            self.counts.said = line
        logger.warning(line)

    def _count(self, change: int) -> None:
        with self._lock:
            self.counts.associations += change


_ASSOCIATIONS = "Associations that were asked for"


class _Closing:
    """What an association wants of the server that it came through."""

    def shutdown_request(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        connection.close()


def identity_of(file: BinaryIO, syntax: str) -> tuple[str, str]:
    """The SOP class and instance that a data set of this transfer syntax says; "" for what it does
    not say. `file` is a whole one, as pynetdicom has written it."""
    try:
        file.seek(_META + struct.unpack("<L", file.read(_META)[-4:])[0])
        header = read_dataset(
            file,
            syntax == ImplicitVRLittleEndian,
            syntax != ExplicitVRBigEndian,
            stop_when=lambda tag, *_: tag > _LAST,
        )
        return str(header.get("SOPClassUID") or ""), str(header.get("SOPInstanceUID") or "")
    except Exception:  # noqa: BLE001 - on hostile bytes pydicom raises whatever it stumbles over
        return "", ""
