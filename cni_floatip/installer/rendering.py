"""Renders the installed file: the client with this node's paths, for one interpreter.

Compiling would cost a third of each start, so the file carries the compiled program behind its source; the
source runs if the interpreter has changed. The last line holds the release, the digest of its inputs, and the
digest of all before it, so that a reader can tell whether the file is whole and up to date.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..config.nodeconf import NodeConf
from ..model.errors import IoFailure
from ..model.versions import SUPPORTED
from .files import VERSIONS
from .smoke_test import run

OPTIONS = "-IS"
CLIENT = Path(__file__).parents[1] / "client.py"
_END = "# End of what the installer writes.\n"
_LONGEST_FIRST_LINE = 127
"""Kernels before 5.1 cut off what is longer."""

_COMPILE = """
import marshal, sys
program = compile(sys.stdin.buffer.read(), "floatip", "exec", dont_inherit=True, optimize=2)
print(sys.hexversion, marshal.dumps(program).hex())
"""

_START = """
# The same, compiled. Another release of the interpreter would not understand it.
import sys

if sys.hexversion == {release}:
    import marshal

    SOURCE = marshal.loads(bytes.fromhex("{program}"))
exec(SOURCE)
"""

_LAST_LINE = re.compile(
    rb"\n# floatip (?P<release>\S+) made from (?P<recipe>[0-9a-f]{64}), (?P<whole>[0-9a-f]{64})\n\Z"
)
_BEGINNING = b'"""``floatip`` on a node'
_MARKS = (_BEGINNING, f"/{VERSIONS}/".encode(), b"cni_floatip", b"floatipctl")


@dataclass(frozen=True, slots=True)
class Label:
    """What an installed file says of itself."""

    release: str
    recipe: str
    interpreter: str


def recipe(policy: NodeConf, interpreter: str) -> str:
    """Return the digest of all that goes into the file, without making it."""
    parts = [CLIENT.read_text(), repr(_bake(policy)), first_line(interpreter), _identity(interpreter)]
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def render(policy: NodeConf, interpreter: str) -> bytes:
    """Return the file to install: constants, source, and the source as ``interpreter`` compiles it."""
    first, made_from = first_line(interpreter), recipe(policy, interpreter)
    head, program = CLIENT.read_text().split(_END)
    for name, value in _bake(policy).items():
        head, result = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value!a}".replace("\\", r"\\"), head)
        assert result == 1, name  # noqa: S101 (a mistake in client.py)
    release, compiled = _compile(interpreter, program)
    start = _START.format(release=release, program=compiled)
    body = os.fsencode(f"{first}\n{head}{_END}SOURCE = r'''{program}'''\n{start}")
    whole = hashlib.sha256(body).hexdigest()
    return body + f"# floatip {__version__} made from {made_from}, {whole}\n".encode()


def read_label(content: bytes) -> Label | None:
    """Return what an installed file says of itself; None for one that is not whole, or not ours."""
    match = _LAST_LINE.search(content, max(0, len(content) - 1024))
    if not match or hashlib.sha256(content[: match.start() + 1]).hexdigest() != match["whole"].decode():
        return None
    interpreter = os.fsdecode(content.partition(b"\n")[0].removeprefix(b"#!").rpartition(b" ")[0])
    return Label(match["release"].decode(), match["recipe"].decode(), interpreter)


def is_anothers(content: bytes) -> bool:
    """Whether this is a program that somebody else gave the name ``floatip``.

    What cannot run at all is nobody's program, and a script with a sign of us is a client that was damaged.
    """
    if content[:2] != b"#!":
        return content[:4] == b"\x7fELF"
    second = content.partition(b"\n")[2][: len(_BEGINNING)]
    return not _BEGINNING.startswith(second) and not any(mark in content for mark in _MARKS)


def first_line(interpreter: str) -> str:
    """Return the line by which the kernel finds ``interpreter``. Raises IoFailure where it would not."""
    line = f"#!{interpreter} {OPTIONS}"
    if not os.path.isabs(interpreter) or re.search(r"\s", interpreter):  # noqa: PTH117 (no Path is asked for)
        raise IoFailure(
            f"cannot use the interpreter {interpreter!r}: it needs an absolute path with no blanks"
        )
    if len(os.fsencode(line)) > _LONGEST_FIRST_LINE:
        raise IoFailure(
            f"cannot use the interpreter {interpreter}: its path is too long for a first line, which has "
            f"{_LONGEST_FIRST_LINE} bytes at most"
        )
    return line


def _identity(interpreter: str) -> str:
    """Return what changes with an interpreter that stays where it is, so that we compile for a new one."""
    if f"/{VERSIONS}/" in interpreter:
        return ""  # its path holds its digest
    try:
        status = Path(interpreter).stat()
    except OSError:  # the trial run reports why
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _bake(policy: NodeConf) -> dict[str, object]:
    return {
        "RELEASE": __version__,
        "SOCKET": policy.socket_path,
        "SPOOL": policy.spool_dir,
        "SUPPORTED": SUPPORTED,
    }


def _compile(interpreter: str, program: str) -> list[str]:
    command = [interpreter, "-I", "-S", "-X", "no_debug_ranges", "-c", _COMPILE]
    done = run(command, program.encode(), {})
    if done.returncode:
        text = done.stderr.decode(errors="replace").strip()
        raise IoFailure(f"cannot use the interpreter {interpreter}: exit status {done.returncode}: {text}")
    return done.stdout.decode().split()
