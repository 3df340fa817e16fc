"""pynetdicom's association, made to wait instead of polling, and bounded in what it takes.

pynetdicom looks a thousand times a second, in two threads for each association, whether something
has come; with eight associations that is most of what it computes (its issue 917). Here both
threads wait for their socket or queue. Many senders write a PDU in two pieces and wait for the
acknowledgement of the first, which Linux delays by 40 ms: TCP_QUICKACK, set anew before each read,
makes a sender with Nagle's algorithm (DCMTK by default) six times as fast.
"""

import logging
import os
import queue
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

logger = logging.getLogger("kindred.dicom")

PDU = 131_072  # bytes that a peer may send in one PDU, as it is told
_LONGEST = 2 * PDU  # of any PDU, an association request with 128 contexts included

_COMMAND = 1  # bit of a message control header (PS3.8 E.2)

NO_ROOM, TOO_LARGE = "disk", "too large"

_WAIT = 0.5  # seconds, between two looks at timers
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class WaitingSocket(AssociationSocket):
    """`seconds`: the most that the reading of one PDU, or the sending of one, may take."""

    def __init__(self, association: Association, connection: socket.socket, seconds: float) -> None:
        self._seconds = seconds
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        connection.settimeout(seconds)
        super().__init__(association, client_socket=connection)

    def wake(self) -> None:
        """There is something to send."""
        with suppress(OSError):  # it is closed, or has been woken often
            self._wake.send(b"!")

    @property
    def ready(self) -> bool:
        """Waits for a while."""
        if self.socket is None or not self._is_connected:
            time.sleep(0.001)
            return False
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        try:
            woken = self._woken.fileno()
            found = [descriptor for descriptor, _ in self._poll.poll(1000 * _WAIT)]
            if woken in found:
                self._woken.recv(4096)
            return any(descriptor != woken for descriptor in found)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # the connection is closed (PS3.8 table 9-10)
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """Raises OSError for a PDU that is too long, or takes too long."""
        connection = self.socket
        assert connection is not None  # noqa: S101 - the caller has looked
        if nr_bytes > _LONGEST:
            raise OSError("a PDU that is too long")
        data, count = bytearray(nr_bytes), 0
        end = time.monotonic() + self._seconds
        while count < nr_bytes:
            if _QUICKACK is not None:
                connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            read = connection.recv_into(memoryview(data)[count:])
            if read == 0:
                if not self.assoc.is_established:  # nobody waits for a request from now on
                    self.assoc.dul.to_user_queue.put(None)  # type: ignore[arg-type]
                return data[:count]
            count += read
            if time.monotonic() > end:
                raise TimeoutError("a PDU that takes too long")
        return data

    def close(self) -> None:
        super().close()
        for pair in (self._woken, self._wake):
            pair.close()


class _UpperLayer(DULServiceProvider):
    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self.daemon = True
        self._run_loop_delay = 0  # `WaitingSocket.ready` waits
        self.to_user_queue = _Telling(lambda: association.dimse.msg_queue.put((None, None)))

    def send_pdu(self, primitive: Any) -> None:
        super().send_pdu(primitive)
        if isinstance(self.socket, WaitingSocket):
            self.socket.wake()


class _Telling(queue.Queue[Any]):
    """Tells another waiting thread whenever something is put."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._tell()


class _Messages(DIMSEServiceProvider):
    """`most`: bytes of a data set; of a larger one the rest is thrown away (`why_cut`)."""

    def __init__(self, association: Association, most: int) -> None:
        super().__init__(association)
        self._most = most

    def get_msg(self, block: bool = False) -> Any:
        """Waits for a while; (None, None) is also what wakes it to look at other things."""
        if block:
            return super().get_msg(block)
        try:
            return self.msg_queue.get(timeout=_WAIT)
        except queue.Empty:
            return None, None

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Answers to C-STORE are written here: pydicom takes a quarter of all time for them."""
        if not isinstance(primitive, C_STORE) or primitive.MessageIDBeingRespondedTo is None:
            super().send_msg(primitive, context_id)
            return
        data = P_DATA()
        data.presentation_data_value_list.append((context_id, b"\x03" + _encoded(primitive)))
        self.dul.send_pdu(data)

    def receive_primitive(self, primitive: Any) -> None:
        try:
            super().receive_primitive(primitive)
        except OSError:  # the disk takes no more
            self._cut(NO_ROOM)
            if not any(value[0] & _COMMAND for _, value in primitive.presentation_data_value_list):
                super().receive_primitive(primitive)
            return
        file = getattr(self.message, "_data_set_file", None)
        if file is not None and not isinstance(file, _Cut) and file.tell() > self._most:
            self._cut(TOO_LARGE)

    def _cut(self, reason: str) -> None:
        message: Any = self.message
        _remove(message._data_set_file)
        message._data_set_file = _Cut(reason)
        message._data_set_path = Path(os.devnull)  # with none, it would not be answered

    def discard(self) -> None:
        """Deletes files of data sets that were not received whole, or that nobody took."""
        _remove(getattr(self.message, "_data_set_file", None))
        with suppress(queue.Empty):
            while True:
                _, message = self.msg_queue.get(block=False)
                _remove(getattr(message, "_dataset_file", None))


def _encoded(answer: C_STORE) -> bytes:
    """The command set of a C-STORE-RSP (PS3.7 9.3.1.2), in implicit VR, little endian."""
    elements = b"".join(
        [
            _element(0x0002, _padded(answer.AffectedSOPClassUID)),
            _element(0x0100, struct.pack("<H", 0x8001)),  # C-STORE-RSP
            _element(0x0120, struct.pack("<H", answer.MessageIDBeingRespondedTo)),
            _element(0x0800, struct.pack("<H", 0x0101)),  # without a data set
            _element(0x0900, struct.pack("<H", answer.Status)),
            _element(0x1000, _padded(answer.AffectedSOPInstanceUID)),
        ]
    )
    return _element(0x0000, struct.pack("<L", len(elements))) + elements


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def _padded(uid: Any) -> bytes:
    text = str(uid or "").encode("ascii")
    return text + b"\0" * (len(text) % 2)


class _Cut:
    """Stands in for the file of a data set that is not received, and keeps nothing."""

    name = ""

    def __init__(self, reason: str) -> None:
        self.reason, self.file = reason, self

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...


def why_cut(request: Any) -> str | None:
    """Why the data set of a C-STORE was not received: NO_ROOM or TOO_LARGE; None if it was."""
    file = request._dataset_file
    return file.reason if isinstance(file, _Cut) else None


def _remove(file: Any) -> None:
    if file is not None and not isinstance(file, _Cut):
        with suppress(OSError):  # what is still in its buffer finds no room either
            file.close()
        Path(file.name).unlink(missing_ok=True)


class Accepted(Association):
    """The association of a connection. `ended` is called when it is over, however it ends."""

    def __init__(
        self, ae: AE, connection: socket.socket, most: int, ended: Callable[[], None]
    ) -> None:
        super().__init__(ae, "acceptor")
        self.dul = _UpperLayer(self)
        self.dimse = _Messages(self, most)
        self.acse_timeout = ae.acse_timeout  # of the new upper layer
        self.network_timeout = ae.network_timeout
        self.set_socket(WaitingSocket(self, connection, ae.network_timeout or 60))
        self._ended = ended

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        finally:
            self.dimse.discard()  # type: ignore[attr-defined]
            self._ended()
