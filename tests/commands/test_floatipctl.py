"""``floatipctl`` as a program: what it prints, where, and with which exit status."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cni_floatip
from cni_floatip import cli
from cni_floatip.edges.store import Store
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import Event, State
from cni_floatip.model.values import Attachment, PodIdentity
from cni_floatip.protocol import wire
from tests.support.claims import a_claim, a_route

ROOT = Path(cni_floatip.__file__).parents[1]


def python(code: str, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter that knows the package."""
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "100"} | environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


def floatipctl(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return python("import sys; from cni_floatip.cli import main; sys.exit(main())", *argv, **environ)


def test_help_and_version() -> None:
    assert floatipctl("--version").stdout == f"floatipctl {cni_floatip.__version__}\n"
    for argv in (["--help"], ["validate", "--help"], ["claims", "--help"], ["gc", "--help"]):
        shown = floatipctl(*argv)
        assert shown.returncode == 0
        assert "exit status: 0" in shown.stdout
    assert floatipctl().returncode == 2
    assert floatipctl("validate").returncode == 2


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("--versoin", "unknown option --versoin: did you mean --version?"),
        ("-x status", "unknown option -x: floatipctl --help lists them all"),
        ("stat", "unknown command stat: did you mean status?"),
        ("doctr --json", "unknown command doctr: did you mean doctor?"),
        ("bogus", "unknown command bogus: floatipctl --help lists them all"),
        ("claims --jsno", "unknown option --jsno: did you mean --json?"),
        ("sweep --rnage 192.168.0.0/24", "unknown option --rnage: did you mean --range?"),
        ("install-client --bindir=/x", "unknown option --bindir: did you mean --bin-dir?"),
        ("validate --knid nad FILE", "unknown option --knid: did you mean --kind?"),
        ("sweep --dry-run", "the following arguments are required: --range"),
        ("status --watch -1", "argument --watch: '-1' is not a number of seconds from 0.1 on"),
        ("", "the following arguments are required: COMMAND"),
    ],
    ids=str,
)
def test_what_is_not_understood_is_said_first_and_what_was_meant(
    line: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(line.split())
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {error}")


def test_the_program_looks_at_its_own_command_line() -> None:
    done = floatipctl("--versoin")
    assert (done.returncode, "did you mean --version?" in done.stderr) == (2, True)


NOWHERE = "/nonexistent/place"


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "line",
    [
        f"claims --data-dir {NOWHERE}",
        f"gc --data-dir {NOWHERE}",
        f"uninstall --bin-dir {NOWHERE}",
        f"uninstall --bin-dir {NOWHERE} --dry-run",
        f"uninstall --bin-dir DIR --config {NOWHERE}",
        f"install-client --bin-dir {NOWHERE}",
        f"install-client --bin-dir DIR --bundle {NOWHERE}",
        f"install-client --bin-dir DIR --interpreter {NOWHERE}",
        f"install-client --bin-dir DIR --config {NOWHERE}",
        f"agent --config {NOWHERE}",
        f"status --socket {NOWHERE}",
        f"sweep --range 192.168.0.0/24 --config {NOWHERE}",
        f"validate {NOWHERE}",
        f"validate --node-config {NOWHERE} {NOWHERE}",
        f"doctor --config {NOWHERE}",
    ],
)
def test_a_path_that_does_not_exist_is_named_and_is_no_success(line: str, tmp_path: Path) -> None:
    """A mistyped one must not look as if nothing were there."""
    policy = tmp_path / "config.json"
    own = {name: str(tmp_path / name) for name in ("dataDir", "spoolDir")}
    policy.write_text(json.dumps({**own, "socketPath": str(tmp_path / "run" / "agent.sock")}))
    words = [str(tmp_path) if word == "DIR" else word for word in line.split()]
    env = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9", "AWS_EC2_METADATA_DISABLED": "true"}
    done = floatipctl(*words, FLOATIP_CONFIG=str(policy), AWS_REGION="eu-central-1", **env)
    assert done.returncode == 1, done
    assert NOWHERE in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("floatip*"))


@pytest.mark.parametrize("damaged", [False, True], ids=["new node", "damaged record"])
@pytest.mark.parametrize(
    "line",
    [
        "claims",
        "status",
        "doctor --json",
        "validate CONFIG",
        "gc --dry-run",
        "uninstall --dry-run --bin-dir DIR",
    ],
)
def test_a_command_that_reads_changes_nothing_on_the_node(line: str, damaged: bool, tmp_path: Path) -> None:
    """The agent owns the data directory: a reader makes none, and moves no record that it cannot read."""
    policy, data = tmp_path / "config.json", tmp_path / "data"
    own = {"dataDir": str(data), "spoolDir": str(tmp_path / "spool")}
    allowed = [{"cidr": "192.168.0.0/16"}]
    socket = str(tmp_path / "run" / "agent.sock")
    policy.write_text(json.dumps({**own, "socketPath": socket, "allowedDestinations": allowed}))
    if damaged:
        (data / "claims").mkdir(parents=True)
        (data / "claims" / "damaged.json").write_text("cut short")
    before = sorted(tmp_path.rglob("*"))
    env = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9", "AWS_EC2_METADATA_DISABLED": "true"}
    places = {"CONFIG": str(policy), "DIR": str(tmp_path)}
    words = [places.get(word, word) for word in line.split()]
    done = floatipctl(*words, FLOATIP_CONFIG=str(policy), AWS_REGION="eu-central-1", **env)
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before, done
    if damaged and "--dry-run" in words:
        assert "damaged.json: unreadable" in done.stdout + done.stderr


def test_a_data_directory_that_is_not_there_yet_holds_no_claims(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "config.json"
    policy.write_text(json.dumps({"dataDir": str(tmp_path / "later")}))
    with pytest.MonkeyPatch.context() as env:
        env.setenv("FLOATIP_CONFIG", str(policy))
        assert cli.main(["claims"]) == 0
    assert capsys.readouterr().out == "no claims\n"


def test_validate_as_a_program(tmp_path: Path) -> None:
    file = tmp_path / "entry.json"
    file.write_text(json.dumps({"type": "floatip", "routeTables": {"all": True}, "onDelete": "never"}))
    ran = floatipctl("validate", str(file))
    assert (ran.returncode, ran.stdout, ran.stderr) == (
        1,
        f'{file}: $.onDelete: "never" is not "release" or "keep"\n',
        "",
    )


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "entry.json"
    file.write_text("{}")
    program = "from cni_floatip.cli import main; raise SystemExit(main())"
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-c", program, "validate", *[str(file)] * 3],
        env={"PYTHONPATH": str(ROOT)},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (1, "")


def claim(container: str, state: State, **output: Any) -> Claim:
    destinations = output.pop("destinations", ("192.168.0.2/32",))
    return a_claim(
        *(a_route(state, table, network) for network in destinations for table in ("rtb-a", "rtb-b")),
        attachment=Attachment("vip", container, "net1"),
        **{"pod": PodIdentity("core", "web-1", "u"), "created_at": 1.0, **output},
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    store = Store(str(tmp_path / "state"), sleep=lambda _: None, clock=lambda: 0.0)
    store.put(claim("c2", State.RELEASING, pod=PodIdentity(), created_at=86_400.0))
    held = claim("c1", State.HELD, destinations=("192.168.0.2/32", "2001:db8::2/128"))
    store.put(held.observe({held.routes[0].key: Event.SEEN_ELSEWHERE}))
    return str(tmp_path / "state")


def test_claims_as_a_table(data_dir: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["claims", "--data-dir", data_dir]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(" {2,}", line) for line in lines] == [
        ["ATTACHMENT", "POD", "ENI", "DESTINATIONS", "TABLES", "STATE", "SINCE"],
        [
            "vip/c1/net1",
            "core/web-1",
            "eni-1",
            "192.168.0.2/32,2001:db8::2/128",
            "rtb-a,rtb-b",
            "superseded (3 held)",
            "1970-01-01T00:00:01Z",
        ],
        ["vip/c2/net1", "-", "eni-1", "192.168.0.2/32", "rtb-a,rtb-b", "releasing", "1970-01-02T00:00:00Z"],
    ]
    assert len({line.index("rtb-a") for line in lines[1:]} | {lines[0].index("TABLES")}) == 1


def test_claims_as_json(data_dir: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["claims", "--json", "--data-dir", data_dir]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(one["containerId"], one["state"]) for one in result["claims"]] == [
        ("c1", "superseded"),
        ("c2", "releasing"),
    ]
    assert result["problems"] == []


def test_claims_of_a_node_without_any(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["claims", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no claims\n"


def test_a_claim_that_cannot_be_read_is_reported_and_the_others_are_shown(
    data_dir: str, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = Path(data_dir, "claims", "newer.json")
    newer.write_text('{"version": 99}')
    assert cli.main(["claims", "--data-dir", data_dir]) == 1
    shown = capsys.readouterr()
    assert "vip/c1/net1" in shown.out
    assert shown.err == f"floatipctl: {newer}: written by a newer release (version 99) (kept as it is)\n"


def test_the_data_directory_is_the_node_configurations(data_dir: str, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"dataDir": data_dir}))
    shown = floatipctl("claims", FLOATIP_CONFIG=str(config))
    assert (shown.returncode, shown.stdout.count("\n"), shown.stderr) == (0, 3, "")
    config.write_text(json.dumps({"dataDir": data_dir, "typo": 1}))
    shown = floatipctl("claims", FLOATIP_CONFIG=str(config))
    assert (shown.returncode, shown.stdout.count("\n")) == (0, 3)
    assert "$.typo: unknown key" in shown.stderr


def test_a_del_that_waits_for_the_agent_is_said(data_dir: str, tmp_path: Path) -> None:
    """Its claim looks as if it were a pod's, and is to be released as soon as there is an agent."""
    config, spool = tmp_path / "config.json", tmp_path / "spool"
    config.write_text(json.dumps({"dataDir": data_dir, "spoolDir": str(spool)}))
    spool.mkdir()
    for name, container in (("1", "c1"), ("2", "c1"), ("3", "another")):
        env = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": container, "CNI_IFNAME": "net1"}
        (spool / f"{name}.del").write_bytes(wire.body_bytes(env, b"{}"))
    (spool / "4.del").write_bytes(b"cut short")
    (spool / "5.del.new").write_bytes(b"not whole yet")
    sentence = f"vip/c1/net1: 2 DELs wait in the spool: {spool}/1.del, {spool}/2.del"
    shown = floatipctl("claims", FLOATIP_CONFIG=str(config))
    assert (shown.returncode, shown.stdout.splitlines()[3:], shown.stderr) == (0, [sentence], "")
    result = json.loads(floatipctl("claims", "--json", FLOATIP_CONFIG=str(config)).stdout)
    assert [one["spooled"] for one in result["claims"]] == [[f"{spool}/1.del", f"{spool}/2.del"], []]


def test_gc_needs_a_sound_policy(data_dir: str, tmp_path: Path) -> None:
    ran = floatipctl("gc", "--data-dir", data_dir, FLOATIP_CONFIG=str(tmp_path / "absent"))
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"floatipctl: {tmp_path / 'absent'} does not exist, so no destination")
