"""User Mode Linux as the tests use it: a kernel with ipvlan that leaves the machine as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import uml
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
another_boot = pytest.mark.thorough(
    sample="tests/uml/test_ipvlan.py::test_scenario[an-address-moves-to-another-zone]"
)

pytestmark = pytest.mark.needs("root", "linux.uml")


@pytest.fixture(autouse=True)
def private_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary files in a place where what was left can be seen."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))
    return place


def processes_with(text: str) -> list[str]:
    results = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if text in command and int(directory.name) != os.getpid():
            results.append(command)
    return results


@another_boot
def test_a_command_runs_and_the_machine_stays_as_it_was(tmp_path: Path, private_tmp: Path) -> None:
    script = f"""
        ip link add v0 type veth peer name v1 && ip link add link v0 name i0 type ipvlan mode l2
        test -e /sys/class/net/i0 && echo has ipvlan
        ip -o link | wc -l
        cat {tmp_path}/seen
        echo changed >{tmp_path}/seen
        echo new >{tmp_path}/unseen
        echo "$GREETING $PWD"
        seq 3000
        ls -A /run /var/lib/cni
        exit 7
    """
    (tmp_path / "seen").write_text("from the machine\n")
    env = {"PATH": os.environ["PATH"], "GREETING": 'it\'s "quoted" $HOME'}
    with uml.Uml(["sh", "-c", script], cwd=tmp_path, env=env, timeout=60) as guest:
        lines = list(guest)
        assert guest.wait() == 7
    assert lines[:4] == ["has ipvlan", "4", "from the machine", f"{env['GREETING']} {tmp_path}"]
    assert lines[4:3004] == [str(n) for n in range(1, 3001)]
    assert set(lines[3004:]) <= {"/run:", "mount", "uml", "", "/var/lib/cni:"}
    assert (tmp_path / "seen").read_text() == "from the machine\n"
    assert not (tmp_path / "unseen").exists()
    assert list(private_tmp.iterdir()) == []


@another_boot
def test_what_takes_too_long_is_stopped_and_leaves_nothing(private_tmp: Path) -> None:
    with uml.Uml(["sh", "-c", "echo begun; sleep 60 & sleep 60"], timeout=25) as guest:
        assert next(iter(guest)) == "begun"
        assert processes_with(str(private_tmp))
        with pytest.raises(uml.UmlError, match="stopped after 25 s"):
            guest.wait()
    until(lambda: not processes_with(str(private_tmp)))
    assert list(private_tmp.iterdir()) == []


@another_boot
def test_a_crash_of_the_guest_is_told_with_its_last_words() -> None:
    with (
        uml.Uml(["sh", "-c", "echo c >/proc/sysrq-trigger"], timeout=60) as guest,
        pytest.raises(uml.UmlError, match=r"(?s)before the command did.*Kernel panic"),
    ):
        guest.wait()


@another_boot
def test_a_killed_run_takes_its_guest_with_it(private_tmp: Path) -> None:
    argv = [sys.executable, "-m", "lab.uml", "--", "sh", "-c", "echo begun; sleep 60"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "begun\n"
        run.send_signal(signal.SIGKILL)
    until(lambda: not processes_with(str(private_tmp)))
    assert len(list(private_tmp.iterdir())) == 1
    with uml.Uml(["true"], timeout=60) as guest:
        assert guest.wait() == 0
    assert list(private_tmp.iterdir()) == []  # the next run has swept up


@another_boot
def test_the_command_line_passes_the_exit_status_on() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lab.uml", "--timeout", "60", "--", "sh", "-c", "echo hello; exit 3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "hello\n", "")


def test_a_missing_kernel_is_said_with_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lab.uml", "--", "true"],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 125
    assert done.stderr == "python -m lab.uml: no linux.uml here: apt-get install user-mode-linux\n"
