"""Installers that are killed, or refused, right before a chosen change of their directory.

    killed_installer.py BIN_DIR BUNDLE RELEASE CONFIG

Orders come as lines, a fate and a number N, and are answered by one line of JSON: an installer has run that
met its fate at its N-th change (0: never), with its exit status and what it was about to do. ``killed``: it
is no more; ``refused``: the disk fails this once; ``broken``: and ever after; ``seen``: it goes on, and all
its changes are told, a line each. Each is a fork of this process, so it takes no time to start. The changes
are what CPython's audit events report, in whatever directory, and fsync.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
from pathlib import Path

import cni_floatip

BIN_DIR, BUNDLE, RELEASE, CONFIG = sys.argv[1:]
cni_floatip.__version__ = RELEASE

from cni_floatip import cli  # noqa: E402 (of that release)
from cni_floatip.commands import install_client  # noqa: E402, F401
from cni_floatip.installer import files, rendering  # noqa: E402

CHANGES = (
    "os.mkdir",
    "os.rename",
    "os.link",
    "os.remove",
    "os.rmdir",
    "os.chmod",
    "os.utime",
    "os.fsync",
    "subprocess.Popen",
)
fsync = os.fsync


def audited_fsync(fd: int) -> None:
    sys.audit("os.fsync", os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115 (a descriptor)
    fsync(fd)


def is_written(path: object, _: object, flags: object) -> bool:
    """Whether a file, wherever it is, is opened to be changed; nothing of Python's own."""
    if not isinstance(path, str | bytes | os.PathLike) or not int(str(flags)) & (os.O_WRONLY | os.O_RDWR):
        return False
    return "__pycache__" not in str(path) and str(path) != os.devnull


def live(fate: str, doomed: int, message: int) -> int:
    """Be an installer."""
    count = 0
    vars(os)["fsync"] = audited_fsync

    def notice(event: str, args: tuple[object, ...]) -> None:
        nonlocal count
        if event in CHANGES or (event == "open" and is_written(*args)):
            count += 1
            if count == doomed or fate == "seen":
                os.write(message, f"{event} {' '.join(map(str, args[:2]))}\n".encode())
                if fate == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
            if fate != "seen" and (count == doomed or (fate == "broken" and count > doomed > 0)):
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(args[0]))

    sys.addaudithook(notice)
    os.dup2(null := os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(null, 2)
    return cli.main(["install-client", "--bin-dir", BIN_DIR, "--bundle", BUNDLE, "--config", CONFIG])


def main() -> None:
    assert vars(rendering)["__version__"] == RELEASE
    assert Path(BIN_DIR).is_dir()
    assert files
    for line in sys.stdin:
        fate, number = line.split()
        hear, tell = os.pipe()
        if not (pid := os.fork()):
            status = 99
            with contextlib.suppress(SystemExit):
                status = live(fate, int(number), tell)
            os._exit(status)
        os.close(tell)
        with open(hear) as heard:  # noqa: PTH123 (a descriptor)
            event = heard.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(json.dumps({"status": status, "event": event}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
