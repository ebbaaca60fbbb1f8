"""Installers that are killed right before a chosen change of their directory.

    doomed_installer.py BIN_DIR BUNDLE RELEASE CONFIG

Orders come as lines with a number N and are answered by one line of JSON: an installer has run that was to be
killed before its N-th change (0: never), with its exit status and what it was about to do. Each is a fork of
this process, so it takes no time to start. The changes are what CPython's audit events report.
"""

from __future__ import annotations

import contextlib
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
from cni_floatip.installer import disk, rendering  # noqa: E402

CHANGES = (
    "os.mkdir",
    "os.rename",
    "os.link",
    "os.remove",
    "os.rmdir",
    "os.chmod",
    "os.utime",
    "subprocess.Popen",
)


def live(doomed: int, told: int) -> int:
    """Be an installer."""
    count = 0

    def notice(event: str, args: tuple[object, ...]) -> None:
        nonlocal count
        written = (
            event == "open" and BIN_DIR in str(args[0]) and int(str(args[2])) & (os.O_WRONLY | os.O_RDWR)
        )
        if event in CHANGES or written:
            count += 1
            if count == doomed:
                os.write(told, f"{event} {' '.join(map(str, args[:2]))}".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(notice)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return cli.main(["install-client", "--bin-dir", BIN_DIR, "--bundle", BUNDLE, "--config", CONFIG])


def main() -> None:
    assert rendering.__version__ == RELEASE
    assert Path(BIN_DIR).is_dir()
    assert disk
    for line in sys.stdin:
        hear, tell = os.pipe()
        if not (pid := os.fork()):
            status = 99
            with contextlib.suppress(SystemExit):
                status = live(int(line), tell)
            os._exit(status)
        os.close(tell)
        with open(hear) as heard:  # noqa: PTH123 (a descriptor)
            event = heard.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(json.dumps({"status": status, "event": event}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
