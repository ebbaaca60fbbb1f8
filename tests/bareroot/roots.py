"""A minimal Debian root with this checkout in it, and a way to run commands there as on its own machine.

A root holds what ``apt`` brings by itself and what the README says that a machine must have. What runs
there has mounts, processes and a network of its own: ``/run``, ``/tmp``, ``/dev`` and ``/proc`` are new,
its loopback is alone. It shares with this machine the kernel with its modules and limits, the clock, and
the gateway, by which apt, pip and Go fetch. How this machine reaches packages (apt's sources and settings,
pip's index, certificates) is handed in.

A tarball for each release is kept below ``.cache/bareroot``. A root is in memory, mounted in a namespace
whose first process waits for the end of its standard input: when the test ends, in whatever way, the kernel
ends all that runs there and frees the memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import netns, package_mirrors
from lab.webserver import open_socket
from tests.bareroot.gateway import Gateway

ROOT = Path(__file__).parents[2]
STORE = ROOT / ".cache" / "bareroot"
NEEDS = (
    "root",
    "ip",
    "mmdebstrap",
    "git",
    "unshare",
    "nsenter",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
)
PORT = 3128
HOME = "/root/cni-floatip"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
KEPT_DAYS = 7
"""So old may a tarball be: a machine of today has apt's lists of today."""

ROOT_BYTES = "4g"
OWN = ("unshare", "--fork", "--kill-child", "--pid", "--mount", "--propagation=private")
BUILD = """
exec 2>&1
ip link set lo up
mount -t tmpfs -o mode=755,size=$3 root "$1"
cd "$1"
tar --extract --numeric-owner --file "$2"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
cp -a "$4/." .
mount --move . /
exec chroot . sh -c 'echo ready; exec cat'
"""
"""What the first process does. Moved to ``/``, the root is that of its mount namespace, not a jail in it."""


def readme_needs() -> list[str]:
    """Return the packages that the README says a machine must have."""
    sentence = re.search(
        r"\(((?:`[\w-]+`(?:, | and )?)+) are all that must be there", (ROOT / "README.md").read_text()
    )
    assert sentence, "README.md: what a machine must have is not said"
    return re.findall(r"`([\w-]+)`", sentence[1])


def readme_commands() -> list[str]:
    """Return the commands of the README's first block, without their comments."""
    block = re.search(r"(?ms)^```sh\n(.*?)^```$", (ROOT / "README.md").read_text())
    assert block
    return [line.partition("#")[0].strip() for line in block[1].splitlines()]


@dataclass(frozen=True)
class Ran:
    """What a command did. ``lines``: the seconds at which each came, and what it said."""

    status: int
    lines: Sequence[tuple[float, str]]
    seconds: float

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def at(self, what: str) -> float:
        """Return when a line came that holds these words."""
        return next(at for at, line in self.lines if what in line)


class Root:
    """One root. ``first`` is the first process of its namespaces."""

    def __init__(self, release: str, first: int) -> None:
        self.release = release
        self.first = first

    @contextlib.contextmanager
    def online(self) -> Iterator[Gateway]:
        """Let it fetch meanwhile."""
        gateway = Gateway(netns.inside(f"/proc/{self.first}/ns/net", open_socket, "127.0.0.1", PORT))
        try:
            yield gateway
        finally:
            gateway.close()

    def run(self, command: str, seconds: float) -> Ran:
        """Run a line of shell in the checkout; one that takes longer is ended, and that is an error."""
        began = time.monotonic()
        process = self._start(f"cd {HOME} 2>/dev/null; {command}")
        late = threading.Timer(seconds, _end, (process,))
        late.start()
        try:
            assert process.stdout is not None
            lines = [(time.monotonic() - began, line.rstrip()) for line in process.stdout]
            status = process.wait()
        finally:
            late.cancel()
            _end(process)
        ran = Ran(status, lines, time.monotonic() - began)
        assert ran.seconds < seconds, f"{command}: not done after {seconds:.0f} s:\n{ran.text[-3000:]}"
        return ran

    def packages(self) -> set[str]:
        """Return the Debian packages that it has."""
        return set(self.run("dpkg-query -W -f '${Package}\\n'", 60).text.split())

    def _start(self, command: str) -> subprocess.Popen[str]:
        proxy = f"http://127.0.0.1:{PORT}"
        environment = {
            "PATH": PATH,
            "HOME": "/root",
            "http_proxy": proxy,
            "https_proxy": proxy,
            "SSL_CERT_FILE": CERTIFICATES,
        }
        # Processes of its own, too: a command that is ended leaves nothing running.
        own = [*OWN, "--mount-proc"]
        into = ["nsenter", f"--target={self.first}", "--mount", "--pid", "--ipc", "--uts", "--net", "--root"]
        return subprocess.Popen(
            [*into, "--wd", *own, "sh", "-c", command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def root(release: str) -> Iterator[Root]:
    """Make a root of a Debian release with a clone of this checkout in it; it is gone at the end."""
    STORE.mkdir(parents=True, exist_ok=True)
    tarball = _tarball(release)
    with tempfile.TemporaryDirectory() as directory:
        more, at = Path(directory, "more"), Path(directory, "root")
        at.mkdir()
        _hand_in(more)
        _clone(more)
        own = [*OWN, "--net", "--ipc", "--uts"]
        build = ["sh", "-euc", BUILD, "sh", str(at), str(tarball), ROOT_BYTES, str(more)]
        process = subprocess.Popen(
            [*own, *build],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            text = process.stdout.readline()
            assert text == "ready\n", text + process.stdout.read()
            (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            made = Root(release, int(first))
            cloned = made.run(f"git clone --quiet /srv/checkout.git {HOME}", 60)
            assert cloned.status == 0, cloned.text
            yield made
        finally:
            _end(process)


def _tarball(release: str) -> Path:
    """Return the release's minimal root, made once a week."""
    sources = package_mirrors.debian_sources(release)
    options = ["--variant=apt", "--mode=root", f"--include={','.join(readme_needs())}"]
    key = hashlib.sha256(
        repr((options, [Path(source).read_text() for source in sources])).encode()
    ).hexdigest()
    tarball = STORE / f"{release}-{key[:12]}.tar"
    with (STORE / f"{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if tarball.exists() and time.time() - tarball.stat().st_mtime < KEPT_DAYS * 86400:
            return tarball
        for former in STORE.glob(f"{release}-*.tar*"):
            former.unlink()
        making = tarball.with_suffix(".making.tar")
        with tempfile.TemporaryDirectory(dir=STORE, prefix="making-") as work:
            path = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "TMPDIR": work}
            package_mirrors.run(["mmdebstrap", *options, release, str(making), *sources], path)
        making.rename(tarball)
    return tarball


def _hand_in(more: Path) -> None:
    """Write how this machine reaches packages; an administrator of such a machine has done that."""
    files = {
        "etc/apt/apt.conf.d/90machine": package_mirrors.apt_configuration(),
        "etc/pip.conf": package_mirrors.pip_configuration(),
    }
    if certificates := package_mirrors.certificates():
        files[CERTIFICATES[1:]] = certificates.read_text()
    for name, text in files.items():
        (more / name).parent.mkdir(parents=True, exist_ok=True)
        (more / name).write_text(text)


def _clone(more: Path) -> None:
    """Make a repository of the checkout as it stands: what has been committed, and what has not."""
    with tempfile.TemporaryDirectory() as directory:
        bare = str(more / "srv/checkout.git")
        package_mirrors.run(["git", "clone", "--quiet", "--bare", str(ROOT), bare])
        index = {"GIT_INDEX_FILE": f"{directory}/index", "GIT_DIR": bare, "GIT_WORK_TREE": str(ROOT)}
        who = {
            f"GIT_{role}_{what}": "bareroot" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        package_mirrors.run(["git", "add", "--all"], index)
        tree = package_mirrors.run(["git", "write-tree"], index).strip()
        commit = package_mirrors.run(
            ["git", "commit-tree", tree, "-p", "HEAD", "-m", "as it stands"], index | who
        )
        package_mirrors.run(["git", "update-ref", "HEAD", commit.strip()], index)
