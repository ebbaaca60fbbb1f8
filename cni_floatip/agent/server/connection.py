"""One client connection, as the call that came over it sees it."""

from __future__ import annotations

import array
import os
import select
import socket
from dataclasses import dataclass, field

from ...protocol import wire

WRITE_SECONDS = 5.0
"""How long a client may take to read its answer."""
_PIECE = 1 << 16
_DESCRIPTORS = socket.CMSG_SPACE(8 * array.array("i").itemsize)


@dataclass(eq=False)
class Connection:
    """The bytes received so far, the descriptor that was handed over, and the reason to stop, if any."""

    sock: socket.socket
    began: float
    last_read: float
    incoming: wire.Incoming = field(default_factory=wire.Incoming)
    descriptor: int | None = None
    """Of ``CNI_NETNS``, as the client opened it."""
    held: int = 0
    deadline_sent: bool = False
    stop_reason: str | None = None

    def cancelled(self) -> str | None:
        """Return why the call is to stop writing, None to go on.

        Asks the kernel, because on a busy machine the thread that hears clients notices a hang-up too late.
        """
        if not self.stop_reason and self.sock.fileno() >= 0:
            looking = select.poll()
            looking.register(self.sock, 0)  # poll(2) reports a hang-up all the same
            if looking.poll(0):
                self.stop_reason = self.stop_reason or "the client is gone"
        return self.stop_reason

    def send_deadline(self, seconds: float) -> None:
        """Tell the client how long its call may take. This is sent first; later calls send nothing."""
        if not self.deadline_sent:
            self.deadline_sent = True
            self.send(wire.greeting() + wire.deadline_frame(seconds))

    def send(self, data: bytes) -> None:
        """Send to the client. A client that has gone, or does not read, is ignored: its call goes on."""
        try:
            self.sock.settimeout(WRITE_SECONDS)
            self.sock.sendall(data)
        except OSError:
            self.stop_reason = self.stop_reason or "the client is gone"

    def receive(self) -> bytes:
        """Return the next piece of the request, b"" at its end. Only the first descriptor is kept."""
        data, ancillary, _, _ = self.sock.recvmsg(_PIECE, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                continue
            numbers = array.array("i")
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
            for number in numbers:
                if self.descriptor is None:
                    self.descriptor = number
                else:
                    os.close(number)
        return data

    def close(self) -> None:
        """Close the socket and the descriptor."""
        self.sock.close()
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
