"""P01 to P17: what holds of the process, whatever the call is about."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.harness import NEWEST, VERSIONS, Answer, Bench, missing
from tests.support.waiting import until

pytestmark = pytest.mark.executed

VIP = "192.168.0.2/32"


# -- VERSION ------------------------------------------------------------------------------------------------


def test_P01_version_with_only_the_command(bench: Bench) -> None:
    raw = bench.run({"CNI_COMMAND": "VERSION"}).ok()
    assert raw == {"cniVersion": NEWEST, "supportedVersions": list(VERSIONS)}


@pytest.mark.parametrize("version", VERSIONS)
def test_P02_version_with_a_bare_configuration(bench: Bench, version: str) -> None:
    stdin = json.dumps({"cniVersion": version}).encode()
    raw = bench.run({"CNI_COMMAND": "VERSION"}, stdin).ok()
    assert raw == {"cniVersion": version, "supportedVersions": list(VERSIONS)}


@pytest.mark.parametrize("stdin", [b"{", b"[]", b"null", b'{"cniVersion": "9.9.9"}', b"\xff", b"{" * 100_000])
def test_P02_version_answers_whatever_it_is_sent(bench: Bench, stdin: bytes) -> None:
    assert bench.run({"CNI_COMMAND": "VERSION"}, stdin).ok()["supportedVersions"] == list(VERSIONS)


def test_P03_version_does_not_wait_for_an_open_stdin(bench: Bench) -> None:
    process = bench.start({"CNI_COMMAND": "VERSION"})
    try:
        assert process.wait(60) == 0  # its standard input was never written to, nor closed
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["supportedVersions"] == list(VERSIONS)
    finally:
        process.kill()
        process.communicate()


def test_P04_version_with_dummy_variables_as_libcni_sends_them(bench: Bench) -> None:
    dummies = dict.fromkeys(("CNI_NETNS", "CNI_IFNAME", "CNI_PATH"), "dummy")
    answer = bench.run(
        {"CNI_COMMAND": "VERSION", **dummies, "CNI_CONTAINERID": ""}, b'{"cniVersion":"1.0.0"}'
    )
    assert answer.ok()["cniVersion"] == "1.0.0"


# -- no command, unknown command ----------------------------------------------------------------------------


@pytest.mark.parametrize("environ", [{}, {"CNI_COMMAND": ""}], ids=["unset", "empty"])
def test_P05_without_a_command_it_says_what_it_is(bench: Bench, environ: dict[str, str]) -> None:
    answer = bench.run(environ)
    assert (answer.status, answer.stdout) == (0, b"")
    assert "floatip" in answer.stderr
    assert f"CNI protocol versions supported: {', '.join(VERSIONS)}" in answer.stderr


def test_P06_unknown_command(bench: Bench) -> None:
    bench.run({"CNI_COMMAND": "REPAIR", "CNI_PATH": "x"}).refused(4, "CNI_COMMAND", "REPAIR")


@pytest.mark.parametrize("verb", ["add", "Del", "version", " ADD"])
def test_P07_commands_are_case_sensitive(bench: Bench, verb: str) -> None:
    bench.run({"CNI_COMMAND": verb, "CNI_PATH": "x"}).refused(4, "CNI_COMMAND", verb)


# -- what is printed ----------------------------------------------------------------------------------------


def test_P08_P10_P12_one_document_or_nothing_and_the_status_that_goes_with_it(bench: Bench) -> None:
    """One life of an attachment. ``harness.Answer`` holds every call of the suite to the same."""
    pod = bench.sandbox(VIP)
    valid = {"cni.dev/valid-attachments": [{"containerID": pod.container, "ifname": "net1"}]}
    printed = {
        "ADD": bench.add(pod),
        "CHECK": bench.check(pod),
        "GC": bench.call("GC", bench.config(**valid)),
        "STATUS": bench.status(),
        "DEL": bench.delete(pod),
    }
    assert not any(answer.forked for answer in printed.values())
    assert {verb: answer.status for verb, answer in printed.items()} == dict.fromkeys(printed, 0)
    assert {verb for verb, answer in printed.items() if answer.stdout} == {"ADD"}
    assert printed["ADD"].document["ips"] == pod.prev()["ips"]

    refused = bench.check(pod)
    assert refused.status == 1
    assert set(refused.document) == {"cniVersion", "code", "msg"}


# Runs the operation with ``CHANGE`` applied to it, as a library or a mistake of ours would do.
DRIVER = """
import os, subprocess, sys
from cni_floatip import operations
from cni_floatip.plugin import main
add = operations.add
def changed(request, world, **more):
    {change}
    return add(request, world, **more)
operations.add = changed
sys.exit(main())
"""


def changed(bench: Bench, change: str) -> Bench:
    return Bench(bench.lab, (sys.executable, "-I", "-c", DRIVER.format(change=change)))


def test_P08_P09_what_a_library_prints_goes_to_stderr(bench: Bench) -> None:
    noise = 'print("noise"); os.write(1, b"noise\\n"); subprocess.run(["echo", "noise"])'
    pod = bench.sandbox(VIP)
    answer = changed(bench, noise).add(pod)
    assert answer.ok()["ips"] == pod.prev()["ips"]
    assert answer.stderr.count("noise") == 3


def test_P11_an_uncaught_exception_is_error_999_and_its_traceback_stays_off_stdout(bench: Bench) -> None:
    answer = changed(bench, 'raise LookupError("lost")').add(bench.sandbox(VIP))
    answer.refused(999, "LookupError", "lost")
    assert b"Traceback" not in answer.stdout
    assert "Traceback" in answer.stderr
    assert "Traceback" not in answer.said


def test_P12_a_half_done_add_prints_an_error_and_no_result(bench: Bench) -> None:
    bench.lab.ec2.faults.error("CreateRoute", "UnauthorizedOperation", "no", times=1)
    answer = bench.add(bench.sandbox(VIP))
    answer.refused(100)
    assert not {"ips", "interfaces", "routes"} & set(answer.document)


# -- being killed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_P13_killed_between_its_writes_and_cleaned_by_del(bench: Bench, number: signal.Signals) -> None:
    pod = bench.sandbox(VIP)
    faults = bench.lab.ec2.faults
    faults.hold("CreateRoute")
    process = bench.start(bench.environment("ADD", pod))
    assert process.stdin is not None
    process.stdin.write(json.dumps(bench.config(prevResult=pod.prev())).encode())
    process.stdin.close()
    process.stdin = None
    until(lambda: faults.held == len(bench.lab.tables))
    process.send_signal(number)
    process.communicate()
    assert process.returncode == -number
    faults.clear()  # the writes are applied, with nobody left to hear of it
    until(lambda: bench.vpc(VIP) == bench.everywhere(pod.eni))
    assert bench.states() == [{"claiming"}]

    bench.delete(pod).ok()

    assert bench.vpc(VIP) == {}
    assert pod.network() == []
    assert bench.states() == [{"gone"}]


def test_P13_killed_and_its_last_write_lands_after_del(bench: Bench) -> None:
    """EC2 may apply a write when its caller is long gone: the record outlives DEL, the next call looks."""
    pod = bench.sandbox(VIP)
    tables = {"routeTables": {"ids": [bench.lab.tables["a"]]}}
    bench.lab.ec2.faults.hold("CreateRoute")
    process = bench.start(bench.environment("ADD", pod))
    assert process.stdin is not None
    process.stdin.write(json.dumps(bench.config(prevResult=pod.prev(), **tables)).encode())
    process.stdin.close()
    process.stdin = None
    until(lambda: bench.lab.ec2.faults.held)
    process.kill()
    process.communicate()

    bench.delete(pod).ok()
    assert bench.vpc(VIP) == {}
    bench.lab.ec2.faults.clear()
    until(lambda: bench.vpc(VIP))
    assert bench.states() == [{"gone"}]

    bench.delete(pod).ok()
    assert bench.vpc(VIP) == {}


# -- the descriptors it is given ----------------------------------------------------------------------------


def closing(*descriptors: int) -> dict[str, Any]:
    def close() -> None:
        for fd in descriptors:
            os.close(fd)

    return {"preexec_fn": close, "close_fds": True}


def unheard(bench: Bench, environ: dict[str, str], stdin: bytes = b"") -> tuple[int, str]:
    """Run with a standard output that nobody reads: its reader is gone before the first byte."""
    process = bench.start(environ)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, stderr = process.communicate(stdin, 60)
    return process.returncode, stderr.decode()


def test_P14_version_with_nobody_to_answer(bench: Bench) -> None:
    status, stderr = unheard(bench, {"CNI_COMMAND": "VERSION"})
    assert status != 0
    assert "Traceback" not in stderr


def test_P14_add_with_nobody_to_answer_can_be_cleaned_by_del(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    config = bench.config(prevResult=pod.prev(), onDelete="release")
    status, stderr = unheard(bench, bench.environment("ADD", pod), json.dumps(config).encode())
    assert status != 0
    assert "Traceback" not in stderr

    bench.delete(pod).ok()
    assert (bench.vpc(VIP), pod.network()) == ({}, [])


@pytest.mark.parametrize("descriptors", [(1,), (2,), (0, 1, 2)], ids=str)
def test_P14_closed_descriptors(bench: Bench, descriptors: tuple[int, ...]) -> None:
    process = bench.start({"CNI_COMMAND": "VERSION"}, **closing(*descriptors))
    stdout, stderr = process.communicate(b"", 60)
    assert b"Traceback" not in stderr
    assert process.returncode == (1 if 1 in descriptors else 0)
    assert bool(stdout) is (1 not in descriptors)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "nobody reads"])
def test_P14_whoever_hears_of_it_add_and_del_end_as_they_should(bench: Bench, closed: bool) -> None:
    """There is something to tell: a record that cannot be read, and a DEL that EC2 refuses."""
    pod = bench.sandbox(VIP)

    def call(verb: str, **keys: object) -> Answer:
        odd = bench.lab.nodes["a1"].data_dir / "claims" / f"{verb}.json"
        with bench.offline():
            odd.parent.mkdir(exist_ok=True)
            odd.write_text("[]")
        process = bench.start(bench.environment(verb, pod), **(closing(2) if closed else {}))
        assert process.stderr is not None
        process.stderr.close()
        process.stderr = None
        config = bench.config(onDelete="release", **keys)
        stdout, _ = process.communicate(json.dumps(config).encode(), 60)
        assert not odd.exists()
        return Answer(verb, process.returncode, stdout, "", 0)

    assert call("ADD", prevResult=pod.prev()).ok()["ips"] == pod.prev()["ips"]
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)
    bench.lab.ec2.faults.error("DeleteRoute", "UnauthorizedOperation", "no", times=None)
    call("DEL").ok()
    assert bench.states() == [{"releasing"}]
    assert pod.network() == []


def test_P14_a_closed_stdin_is_an_error_of_its_own(bench: Bench) -> None:
    process = bench.start(bench.environment("ADD", bench.sandbox(VIP)), **closing(0))
    stdout, stderr = process.communicate(timeout=60)
    assert json.loads(stdout)["code"] in (5, 6)
    assert b"Traceback" not in stderr


# -- where it is run ----------------------------------------------------------------------------------------


@pytest.fixture
def poisoned(bench: Bench, tmp_path: Path) -> dict[str, str | None]:
    """An environment in which a program that trusts it does not start: thick Multus hands its own on."""
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("sitecustomize", "usercustomize", "json", "select", "re", "cni_floatip"):
        (trap / f"{name}.py").write_text("raise SystemExit('poisoned')")
    (trap / "libssl.so.3").write_bytes(b"not a library")
    python = {
        "PYTHONPATH": str(trap),
        "PYTHONHOME": str(trap),
        "PYTHONSTARTUP": str(trap / "json.py"),
        "PYTHONUSERBASE": str(trap),
        "PYTHONINSPECT": "1",
        "PYTHONVERBOSE": "1",
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "utf-16",
        "PYTHONPYCACHEPREFIX": str(trap),
        "PYTHONDEVMODE": "1",
        "PYTHONPLATLIBDIR": "nowhere",
        "PYTHONBREAKPOINT": "trap.trap",
    }
    return {**python, "LD_LIBRARY_PATH": str(trap / "missing"), "HOME": None, "LANG": "C", "LC_ALL": "C"}


def live(bench: Bench, **changes: str | None) -> None:
    """ADD and DEL of one attachment, in whatever surroundings."""
    pod = bench.sandbox(VIP)
    prev = {**pod.prev(), "dns": {"domain": "grün.example"}}
    added = bench.call("ADD", bench.config(prevResult=prev, onDelete="release"), pod, **changes)
    assert added.ok()["dns"] == prev["dns"]
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)
    bench.call("DEL", bench.config(), pod, **changes).ok()
    assert (bench.vpc(VIP), pod.network()) == ({}, [])


def test_P15_an_environment_full_of_poison(bench: Bench, poisoned: dict[str, str | None]) -> None:
    live(bench, **poisoned)


def test_P15_version_in_the_same(bench: Bench, poisoned: dict[str, str | None]) -> None:
    poison = {key: value for key, value in poisoned.items() if value is not None}
    if bench.agents:  # the client's VERSION needs no library of its own; direct mode loads what an ADD does
        poison["LD_LIBRARY_PATH"] = poison["PYTHONPATH"]
    answer = bench.run({"CNI_COMMAND": "VERSION", **poison})
    assert answer.ok()["supportedVersions"] == list(VERSIONS)
    assert answer.stderr == ""


@pytest.mark.parametrize("path", [None, "/nonexistent"], ids=["unset", "elsewhere"])
def test_P15_without_a_path_to_look_for_programs(bench: Bench, path: str | None) -> None:
    live(bench, PATH=path, HOME=None, LANG=None)


def test_P15_in_a_directory_that_is_gone(bench: Bench, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    pod = bench.sandbox(VIP)
    enter = ("sh", "-c", f'cd "{gone}" && rmdir "{gone}" && exec "$@"', "sh")
    config = json.dumps(bench.config(prevResult=pod.prev())).encode()
    answer = bench.run(bench.environment("ADD", pod), config, prefix=enter)
    answer.ok()
    assert missing(gone)


def test_P15_with_a_tmp_that_cannot_be_written(bench: Bench) -> None:
    """Also /var/tmp and /dev/shm, in a mount namespace of its own."""
    pod = bench.sandbox(VIP)
    # What the lab keeps below /tmp must stay in sight: the mount on top is /tmp itself, now read-only.
    script = 'for d in /tmp /var/tmp /dev/shm; do mount --bind "$d" "$d"; mount -o remount,bind,ro "$d"; done'
    keep = bench.lab.nodes["a1"].data_dir
    script += f'; mount --bind "{keep}" "{keep}" 2>/dev/null; mount -o remount,bind,rw "{keep}"; exec "$@"'
    enter = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
    config = json.dumps(bench.config(prevResult=pod.prev())).encode()
    bench.run(bench.environment("ADD", pod), config, prefix=enter).ok()
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)


@pytest.mark.parametrize("umask", [0o000, 0o777], ids=oct)
def test_P16_file_modes_whatever_the_umask(bench: Bench, tmp_path: Path, umask: int) -> None:
    data = tmp_path / "lib" / "floatip"
    data.parent.mkdir()
    bench.policy(dataDir=str(data))
    pod = bench.sandbox(VIP)
    config = json.dumps(bench.config(prevResult=pod.prev())).encode()
    bench.run(bench.environment("ADD", pod), config, umask=umask).ok()
    results = {path: path.stat().st_mode & 0o777 for path in [data, *data.rglob("*")]}
    assert len(results) >= 4  # the directory, claims/, one claim, the lock
    assert results == {path: 0o700 if path.is_dir() else 0o600 for path in results}


def test_P17_in_a_chroot_as_thick_multus_runs_it(bench: Bench, tmp_path: Path) -> None:
    """The host's root mounted inside a container, entered by chroot; the cgroup stays the caller's."""
    root = tmp_path / "hostroot"
    root.mkdir()
    enter = (
        *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
        f'mount --rbind / "{root}" && exec chroot "{root}" "$@"',
        "sh",
    )
    pod = bench.sandbox(VIP)
    config = bench.config(prevResult=pod.prev(), onDelete="release")
    added = bench.run(bench.environment("ADD", pod), json.dumps(config).encode(), prefix=enter)
    assert added.ok()["ips"] == pod.prev()["ips"]
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)

    bench.run(bench.environment("DEL", pod), json.dumps(bench.config()).encode(), prefix=enter).ok()
    assert (bench.vpc(VIP), pod.network()) == ({}, [])
