"""Put the client into the runtime's plugin directory: whole, tried out, and never half replaced.

The installed file is ``client.py`` with this node's paths, for one interpreter. To compile it would cost a
third of each start, so it carries the compiled program behind its source, and the source runs where the
interpreter has become another. A runtime may start ``floatip`` at any moment, also while it is replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from . import __version__
from .errors import IoFailure
from .nodeconf import NodeConf
from .versions import SUPPORTED

NAME = "floatip"
_END = "# End of what the installer writes.\n"
_LONGEST_FIRST_LINE = 127  # older kernels cut off what is longer
_TRIAL_SECONDS = 60  # a node that has just started may be slow
_ABANDONED_SECONDS = 600

_COMPILE = """
import marshal, sys
from _frozen_importlib_external import MAGIC_NUMBER
program = compile(sys.stdin.buffer.read(), "floatip", "exec", dont_inherit=True, optimize=2)
print(MAGIC_NUMBER.hex(), marshal.dumps(program).hex())
"""

_START = """
# The same, compiled. Another release of the interpreter would not understand it.
import marshal
from _frozen_importlib_external import MAGIC_NUMBER

if MAGIC_NUMBER == bytes.fromhex("{magic}"):
    SOURCE = marshal.loads(bytes.fromhex("{program}"))
exec(SOURCE)
"""


def default_interpreter() -> str:
    """Return the interpreter that runs us, without the virtual environment that the client has no use for."""
    return os.path.realpath(sys.executable)


def install_client(bin_dir: Path, policy: NodeConf, interpreter: str = "") -> Path:
    """Install the client in ``bin_dir`` and return its path; twice is once. Raises IoFailure.

    What is there stays until the new one has answered a VERSION.
    """
    content = render(policy, interpreter or default_interpreter())
    path = bin_dir / NAME
    new = bin_dir / f".{NAME}.{os.urandom(6).hex()}.new"  # in two containers we have one pid
    try:
        _sweep(bin_dir)
        try:
            _write(new, content)
            try_out(new)
            new.rename(path)
        finally:
            new.unlink(missing_ok=True)
        _sync(bin_dir)
    except OSError as e:
        raise IoFailure(f"cannot install {path}: {e.strerror or e}") from e
    return path


def render(policy: NodeConf, interpreter: str) -> bytes:
    """Return the file to install: constants, source, and the source as ``interpreter`` compiles it."""
    first = f"#!{interpreter} -IS"
    if not os.path.isabs(interpreter) or re.search(r"\s", interpreter):  # noqa: PTH117 (no Path is asked for)
        raise IoFailure(
            f"cannot use the interpreter {interpreter!r}: it needs an absolute path with no blanks"
        )
    if len(os.fsencode(first)) > _LONGEST_FIRST_LINE:
        raise IoFailure(f"cannot use the interpreter {interpreter}: its path is too long for a first line")
    head, program = Path(__file__).with_name("client.py").read_text().split(_END)
    baked = {
        "RELEASE": __version__,
        "SOCKET": policy.socket_path,
        "SPOOL": policy.spool_dir,
        "SUPPORTED": SUPPORTED,
    }
    for name, value in baked.items():
        head, found = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value!a}".replace("\\", r"\\"), head)
        assert found == 1, name  # noqa: S101 (a mistake in client.py)
    magic, compiled = _compile(interpreter, program)
    start = _START.format(magic=magic, program=compiled)
    return f"{first}\n{head}{_END}SOURCE = r'''{program}'''\n{start}".encode()


def try_out(client: Path) -> None:
    """Run VERSION as a runtime would. Raises IoFailure when the answer is not the one."""
    asked = json.dumps({"cniVersion": SUPPORTED[-1]}).encode()
    done = _run([str(client)], asked, {"CNI_COMMAND": "VERSION"})
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    if done.returncode or answer != {"cniVersion": SUPPORTED[-1], "supportedVersions": list(SUPPORTED)}:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise IoFailure(f"{client} does not work: VERSION gives exit status {done.returncode}: {said}")


def _compile(interpreter: str, program: str) -> list[str]:
    done = _run([interpreter, "-I", "-S", "-X", "no_debug_ranges", "-c", _COMPILE], program.encode(), {})
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise IoFailure(f"cannot use the interpreter {interpreter}: exit status {done.returncode}: {said}")
    return done.stdout.decode().split()


def _run(command: list[str], stdin: bytes, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=stdin, env=env, capture_output=True, timeout=_TRIAL_SECONDS)  # noqa: PLW1510
    except OSError as e:  # not there, not executable, a file system that executes nothing
        raise IoFailure(f"cannot run {command[0]}: {e.strerror}") from e
    except subprocess.TimeoutExpired as e:
        raise IoFailure(f"{command[0]} does not end within {_TRIAL_SECONDS} s") from e


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        os.fchmod(file.fileno(), 0o755)  # whatever the umask took away
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sweep(bin_dir: Path) -> None:
    """Remove what installers left that were killed."""
    for path in bin_dir.glob(f".{NAME}.*.new"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
