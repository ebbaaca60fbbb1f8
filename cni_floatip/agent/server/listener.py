"""The agent's listening unix socket: at one path, for root only, with at most one agent behind it."""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

from ...model.errors import IoFailure


def peer(sock: socket.socket) -> int:
    """Return the uid of the process at the other end, as it was when it connected."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]
    return uid


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at ``path``, for root only. Raises IoFailure.

    The socket of an agent that was killed is replaced; that of a live agent is not.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.chmod(0o700)  # whatever mode the umask left
        _make_room(path)
        os.fchmod(sock.fileno(), 0o600)  # the file is created with it: no gap
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(4096)
        sock.setblocking(False)
    except OSError as e:
        sock.close()
        raise IoFailure(f"cannot listen at {path}: {e.strerror or e}") from e
    except IoFailure:
        sock.close()
        raise
    return sock


def _make_room(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise IoFailure(f"cannot listen at {path}: the path exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise IoFailure(f"cannot listen at {path}: another node agent answers there")
