"""The node bundle where there is nothing: no C library, shell, /proc or /dev; and in a small cgroup."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench import rows_cgroup
from bench.cgroup import cell
from bench.scene import Scene
from cni_floatip.model.versions import SUPPORTED
from lab import private
from lab.images import NEEDS, ROOT, Image

pytestmark = pytest.mark.needs("ip", *NEEDS)
BIN = "/opt/cni/bin"
SPOOL = "var/lib/cni/floatip/spool"
CONFIG = b'{"cniVersion": "1.1.0", "name": "floating", "type": "floatip"}'
ATTACHMENT = {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "net1", "CNI_NETNS": "", "CNI_PATH": BIN}
MUSL = "/usr/lib/*-linux-musl"
"""Debian has musl, and a shell that is linked with it."""
FLOATIPCTL = str(Path(sys.executable).with_name("floatipctl"))


class Root:
    """A root directory in which programs run: the installed client and what a test adds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def call(
        self,
        verb: str,
        stdin: bytes = CONFIG,
        env: Mapping[str, str] | None = None,
        through: tuple[str, ...] = (),
        enter: Callable[[], None] = lambda: None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Execute the client there, or a program that executes it. First ``enter``."""

        def begin() -> None:
            enter()
            os.chroot(self.path)
            os.chdir("/")

        return subprocess.run(
            [*through, f"{BIN}/floatip"],
            input=stdin,
            env={"CNI_COMMAND": verb, **ATTACHMENT, **(env or {})},
            capture_output=True,
            timeout=60,
            check=False,
            preexec_fn=begin,
        )

    def versions(self, **options: Any) -> list[str]:
        done = self.call("VERSION", **options)
        assert done.returncode == 0, done.stderr
        results: list[str] = json.loads(done.stdout)["supportedVersions"]
        return results

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if not path.is_dir())


@pytest.fixture
def root(image: Image, tmp_path: Path) -> Root:
    """Nothing but what the installer leaves, and the directory that holds every CNI plugin's state."""
    result = Root(tmp_path / "root")
    (result.path / "opt/cni/bin").mkdir(parents=True)
    (result.path / "var/lib/cni").mkdir(parents=True)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [
        *private.mounts({BIN: result.path / "opt/cni/bin"}, scratch),
        *(FLOATIPCTL, "install-client", "--bin-dir", BIN, "--bundle", str(image.bundle)),
    ]
    policy = tmp_path / "config.json"
    policy.write_text(json.dumps({"allowedDestinations": [{"cidr": "192.168.0.0/24"}]}))
    env = {"FLOATIP_CONFIG": str(policy), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return result


def test_the_root_is_empty_and_the_client_answers(root: Root) -> None:
    client, interpreter = root.files()
    assert re.fullmatch(r"opt/cni/bin/\.floatip/\S+-[0-9a-f]{12}/python", client)
    assert interpreter == "opt/cni/bin/floatip"
    assert root.versions() == list(SUPPORTED)
    assert sum((root.path / item).stat().st_size for item in root.files()) <= 12e6


def test_what_a_runtime_may_send_is_understood(root: Root) -> None:
    """Blanks, other keys, a byte order mark: that takes json, and codecs that are found by name."""
    for sent in (
        b'\xef\xbb\xbf{"cniVersion" : "0.4.0"}',
        '{"name": "\u00fc", "cniVersion": "0.4.0"}'.encode(),
    ):
        done = root.call("VERSION", stdin=sent)
        assert json.loads(done.stdout)["cniVersion"] == "0.4.0", done.stderr


def test_a_failure_is_told_as_cni_tells_it(root: Root) -> None:
    done = root.call("STATUS")
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 50), done.stderr
    assert "No such file or directory" in json.loads(done.stdout)["msg"]
    assert json.loads(root.call("FLY").stdout)["code"] == 4


def test_a_del_is_kept(root: Root) -> None:
    done = root.call("DEL")
    assert (done.returncode, done.stdout) == (0, b"")
    name = hashlib.sha256(b"\0".join((b"c1", b"net1", CONFIG))).hexdigest()[:40] + ".del"
    assert name in done.stderr.decode()
    kept = root.path / SPOOL / name
    assert kept.read_bytes().endswith(CONFIG)
    assert b"CNI_COMMAND=DEL" in kept.read_bytes()
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_its_digests_are_sha_256(image: Image) -> None:
    """Of every length about the ends of its blocks: another name, and a DEL would be kept twice."""
    program = "import _sha2\nfor n in range(260): print(_sha2.sha256(b'x' * n).hexdigest())"
    done = subprocess.run(
        [str(image.bundle / "python"), "-IS", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [hashlib.sha256(b"x" * n).hexdigest() for n in range(260)]


def test_a_client_that_was_damaged_fails_as_programs_do(root: Root) -> None:
    """A runtime is told of a failure; it is not left with a signal."""
    client = root.path / "opt/cni/bin/floatip"
    text = client.read_text()
    for written in ("4e", "00ff", "", "63"):  # None, nothing, no end, half of one
        client.write_text(re.sub(r'bytes\.fromhex\("[0-9a-f]*', f'bytes.fromhex("{written}', text))
        assert root.call("VERSION").returncode == 1
    for length in (len(text) // 8, len(text) // 2):
        client.write_text(text[:length])
        assert root.call("ADD").returncode == 1


def test_a_mistake_of_ours_is_an_answer_too(root: Root) -> None:
    client = root.path / "opt/cni/bin/floatip"
    client.write_text(without_value(client.read_text(), "SPOOL"))
    done = root.call("DEL")
    assert done.returncode == 0
    assert b"AttributeError" in done.stderr
    client.write_text(without_value(client.read_text(), "CONNECT_SECONDS"))
    done = root.call("STATUS")
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 999)


def without_value(program: str, constant: str) -> str:
    """Return ``program`` with a mistake: ``constant`` is None."""
    changed, count = re.subn(rf"(?m)^{constant} = .*", f"{constant} = None", program, count=1)
    assert count == 1
    return changed


def test_the_compiled_program_is_what_runs(root: Root) -> None:
    """Parsing the source costs a third of a start and 100 KiB; nobody would see that it is done."""
    client = root.path / "opt/cni/bin/floatip"
    text = client.read_text()
    assert text.count("SOURCE = r'''") == 1
    client.write_text(text.replace("SOURCE = r'''", "SOURCE = r'''(no Python"))
    assert root.versions() == list(SUPPORTED)
    client.write_text(text.replace("if sys.hexversion == ", "if sys.hexversion == 1"))
    assert root.versions() == list(SUPPORTED), "of another release: the source runs"
    client.write_text(
        text.replace("if sys.hexversion == ", "if sys.hexversion == 1").replace("r'''", "r'''(no Python")
    )
    assert root.call("VERSION").returncode, "so that the first case says something"


def test_nothing_in_the_environment_misleads_it(root: Root) -> None:
    misleading = {
        "LD_PRELOAD": "/nowhere.so",
        "LD_LIBRARY_PATH": "/nowhere",
        "PYTHONHOME": "/nowhere",
        "PYTHONPATH": "/nowhere",
        "PYTHONSTARTUP": "/nowhere",
        "PYTHONVERBOSE": "1",
        "PYTHONMALLOC": "nonsense",
        "LC_ALL": "zz_ZZ",
        "GLIBC_TUNABLES": "glibc.malloc.check=3",
    }
    done = root.call("VERSION", env=misleading)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.needs("/bin/busybox", f"{MUSL}/libc.so", f"{MUSL}/bin/mksh")
def test_beside_busybox_and_musl(root: Root) -> None:
    """A host with another C library: its shell starts the client, and its library takes no part in it."""
    loader = next(Path("/lib").glob("ld-musl-*.so.1"))
    for place in ("bin", "lib"):
        (root.path / place).mkdir()
    shutil.copy("/bin/busybox", root.path / "bin")
    shutil.copy(loader.resolve().parent / "bin/mksh", root.path / "bin/sh")
    shutil.copy(loader.resolve(), root.path / "lib" / loader.name)
    chroot = ["/usr/sbin/chroot", str(root.path)]
    output = subprocess.run([*chroot, f"/lib/{loader.name}"], capture_output=True, text=True, check=False)
    assert "musl libc" in output.stderr, "the root is musl's"
    env = {"LD_LIBRARY_PATH": "/lib", "LD_PRELOAD": f"/lib/{loader.name}"}
    for shell in (["/bin/sh"], ["/bin/busybox", "sh"]):
        through = (*shell, "-c", '"$0"; exit $?')
        assert root.versions(through=through, env=env) == list(SUPPORTED)
        assert root.call("DEL", through=through, env=env).returncode == 0
        kept = list((root.path / SPOOL).iterdir())
        assert len(kept) == 1
        kept[0].unlink()


def test_in_a_cgroup_of_50_mib(root: Root) -> None:
    with cell() as here:
        for _ in range(3):
            assert root.versions(enter=here.enter) == list(SUPPORTED)
            assert root.call("DEL", enter=here.enter).returncode == 0
        assert here.killed == 0
        assert here.peak < 20 << 20


@pytest.fixture
def crowd(image: Image) -> Iterator[Scene]:
    with Scene(bundle=image.bundle) as made:
        yield made


def test_twenty_wait_at_once_in_a_cgroup_of_50_mib(crowd: Scene) -> None:
    """Thick Multus' limit, with 20 MiB of its own, while EC2 does not answer."""
    figure = rows_cgroup.crowded(crowd)
    assert figure.met, figure.document()


def test_all_that_is_tested_of_the_client_is_true_with_this_interpreter(image: Image) -> None:
    """The tests of tests/client once more: what they wait for, they wait for side by side."""
    env = {**os.environ, "FLOATIP_BUNDLE": str(image.bundle)}
    tests = sorted(str(path) for path in (ROOT / "tests/client").glob("test_*.py"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        *tests,
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "4",
        "--dist",
        "load",
    ]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 90
