"""``floatipctl doctor`` as a person and as a program see it: output, JSON, exit status, progress."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni_floatip import cli
from cni_floatip.doctor import report
from cni_floatip.doctor.catalog import KINDS, make_finding
from cni_floatip.doctor.checks import CHECKS
from cni_floatip.doctor.facts import DryRun
from cni_floatip.doctor.finding import Finding, fine, not_checked
from cni_floatip.doctor.judge import node
from cni_floatip.doctor.runner import DoctorReport
from tests.doctor.healthy_node import Scene

PROGRAM = str(Path(sys.executable).with_name("floatipctl"))
AS_IN_THE_POD = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
    'mount -t tmpfs none /etc && mount -o remount,bind,ro / && exec "$@"',
    *("in", "setpriv", "--no-new-privs", "--bounding-set", "-all,+sys_admin,+net_admin"),
)
"""What the chart gives: no /etc of the host, nothing to write to, two capabilities, and hostNetwork."""
BY_ID = {check.id: check for check in CHECKS}

REPORT = DoctorReport(
    [
        (BY_ID["client"], [fine("/opt/cni/bin/floatip", "answers VERSION, release 0.3.0")]),
        (
            BY_ID["clock"],
            [
                not_checked(
                    "clock", "https://ec2.eu-central-1.amazonaws.com sends no Date", "run: chronyc tracking"
                )
            ],
        ),
        (
            BY_ID["links"],
            [
                make_finding("mtu-small", "ens6 (eni-0a1)", "MTU 1500", link="ens6", eni="eni-0a1", device=1),
                make_finding(
                    "no-carrier",
                    "ens7 (eni-0a2)",
                    "is up and has no carrier",
                    link="ens7",
                    eni="eni-0a2",
                    device=2,
                ),
            ],
        ),
        (BY_ID["multus"], [not_checked("kube-multus-ds", "this is no pod")]),
    ]
)

PROBLEMS = """\
error        links: ens7 (eni-0a2): is up and has no carrier
             why: An ADD waits 2 s for a carrier and then fails (error 103). [no-carrier]
             mend: run: ip link show ens7; aws ec2 describe-network-interfaces --network-interface-ids eni-0a2 (status, attachment)

warning      links: ens6 (eni-0a1): MTU 1500
             why: Inside a VPC 9001 bytes pass; interfaces of pods take their MTU from the master. [mtu-small]
             mend: run: ip link set ens6 mtu 9001; for every boot: install/cloudformation/node/floatip-links

"""  # noqa: E501 (as it is printed)
REST = """\
not checked  clock: https://ec2.eu-central-1.amazonaws.com sends no Date
             mend: run: chronyc tracking
not checked  Multus: kube-multus-ds: this is no pod
ok           client: /opt/cni/bin/floatip: answers VERSION, release 0.3.0

"""
SUM = "1 error, 1 warning, 1 fine, 2 not checked"


def test_report_for_a_person() -> None:
    assert report.text(REPORT) == f"{PROBLEMS}{SUM} (--all)\n"
    assert report.text(REPORT, everything=True) == f"{PROBLEMS}{REST}{SUM}\n"


def reported(**findings: Sequence[Finding]) -> str:
    return report.text(
        DoctorReport([(BY_ID[check.replace("_", "-")], findings) for check, findings in findings.items()])
    )


def route(table: str, **more: str) -> Finding:
    names = {"table": table, "option": "--destination-cidr-block", "destination": "192.168.0.9/32"}
    return make_finding("route-conflict", table, "192.168.0.9/32 -> tgw-1", **names)


def test_one_finding_for_many_tables_is_one_line() -> None:
    texts = reported(conflicts=[route("rtb-a"), route("rtb-b"), route("rtb-c")]).splitlines()
    assert texts[0] == "error        routes in the way: rtb-a, rtb-b, rtb-c: 192.168.0.9/32 -> tgw-1"
    assert texts[2].endswith("out of allowedDestinations; likewise for each")
    assert "--route-table-id rtb-a " in texts[2]
    assert texts[-1] == "1 error, 0 fine (--all)"


def test_one_action_that_is_denied_on_many_tables_is_one_line() -> None:
    runs = [DryRun("CreateRoute", f"arn:rtb-{n}", False, f"not allowed on arn:rtb-{n}") for n in range(3)]
    runs.append(DryRun("DeleteRoute", "arn:rtb-0", False, "not allowed on arn:rtb-0"))
    texts = reported(permissions=list(node.permissions(runs, "arn:role"))).splitlines()
    assert texts[0].endswith(
        "CreateRoute: denied on arn:rtb-0, arn:rtb-1, arn:rtb-2: not allowed on"
        " arn:rtb-0, arn:rtb-1, arn:rtb-2"
    )
    assert texts[-1] == "2 errors, 0 fine (--all)"


def test_what_differs_is_not_put_into_one_line() -> None:
    other = replace(route("rtb-b"), what="192.168.0.8/32 -> tgw-1")
    assert reported(conflicts=[route("rtb-a"), other]).splitlines()[-1] == "2 errors, 0 fine (--all)"


AWAY = make_finding(
    "endpoint-unreachable", "https://ec2", "DescribeRouteTables: no way", endpoint="https://ec2"
)


def looked(number: int, state: str = "held") -> dict[str, str]:
    error = "DescribeRouteTables: no way"
    return {"table": f"rtb-{number}", "destination": "192.168.0.9/32", "error": error, "state": state}


def test_one_cause_is_said_once() -> None:
    """EC2 is out of reach: so says one check, and the others and what the agent warns of wait for that."""
    agent = list(node.agent({"agent": {}, "claims": [{"routes": [looked(n) for n in range(15)]}]}))
    waits = not_checked("", "DescribeRouteTables: no way", because=("endpoint",))
    findings = {"agent": agent, "clock": [waits], "endpoint": [AWAY], "tables": [waits], "quota": [waits]}
    assert len(agent) == 15
    texts = reported(**findings).splitlines()
    assert texts[0].startswith("error        EC2 endpoint: https://ec2: DescribeRouteTables: no way")
    assert texts[3:] == [
        "",
        "3 checks wait for and 15 findings of agent come from EC2 endpoint above",
        "",
        "1 error, 0 fine, 3 not checked (--all)",
    ]
    without = reported(agent=agent, endpoint=[fine("https://ec2", "answers")]).splitlines()
    assert without[0].startswith("warning      agent: rtb-0 192.168.0.9/32, rtb-1 192.168.0.9/32, ")
    assert without[-1] == "1 warning, 1 fine (--all)"


def test_a_cause_comes_first_and_what_it_explains_not_at_all() -> None:
    silent = replace(
        make_finding("agent-not-ready", "agent", "no AWS credentials found"), because=("identity",)
    )
    lost = make_finding("no-credentials", "credentials", "none")
    text = reported(agent=[silent], conflicts=[route("rtb-a")], identity=[lost])
    assert [line.split()[1] for line in text.splitlines() if line.startswith("error")] == [
        "credentials:",
        "routes",
    ]


def test_report_for_a_program() -> None:
    document = report.document(REPORT)
    assert {key: value for key, value in document.items() if key not in ("findings", "release")} == {
        "version": 1,
        "errors": 1,
        "warnings": 1,
        "notChecked": 2,
    }
    assert document["findings"][2] == {
        "check": "links",
        "group": "Network interfaces",
        "id": "mtu-small",
        "severity": "warning",
        "subject": "ens6 (eni-0a1)",
        "what": "MTU 1500",
        "why": "Inside a VPC 9001 bytes pass; interfaces of pods take their MTU from the master.",
        "remedy": "run: ip link set ens6 mtu 9001; for every boot: install/cloudformation/node/floatip-links",
    }


@pytest.mark.needs("root", "ip", "macvlan-plugin")
class TestOnANode:
    def doctor(
        self, scene: Scene, *options: str, within: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        env = {**scene.keys, **scene.cluster.env, **(env or {})}
        program = [*within, PROGRAM, "doctor", "--bin-dir", str(scene.bin_dir)]
        return scene.node.run([*program, *options], env=env)

    @pytest.mark.needs("setpriv")
    def test_a_sound_node_from_the_agents_pod(self, scene: Scene) -> None:
        done = self.doctor(scene, within=AS_IN_THE_POD)
        assert (done.returncode, done.stderr) == (0, "")
        fine_ones = len(CHECKS) - 2
        assert re.fullmatch(r"\d+ fine, 2 not checked \(--all\)\n", done.stdout), done.stdout
        everything = self.doctor(scene, "--all", within=AS_IN_THE_POD).stdout
        for check in CHECKS:
            assert f" {check.title}: " in everything
        kinds = [line[:11].strip() for line in everything.splitlines() if line and line[0] != " "]
        assert kinds.count("not checked") == 2, "no service account here"
        assert kinds.count("ok") >= fine_ones

    def test_what_cannot_be_reached_is_said_once(self, scene: Scene) -> None:
        """The agent has the same trouble, and warns of each route in each table."""
        away = {"AWS_ENDPOINT_URL_EC2": "http://127.0.0.1:9"}
        scene.restart_agent(scene.warns_of_every_route, env=away)
        try:
            done, everything = self.doctor(scene, env=away), self.doctor(scene, "--json", env=away)
        finally:
            scene.restart_agent()
        lines = done.stdout.splitlines()
        assert done.returncode == 1
        assert lines[0].startswith("error        EC2 endpoint: http://127.0.0.1:9: DescribeRouteTables: ")
        assert len(lines) < 10, done.stdout
        count = len(scene.lab.tables) * 2
        waiting = rf"\d+ checks wait for and {count} findings of agent come from EC2 endpoint above"
        assert re.fullmatch(waiting, lines[-3]), done.stdout
        document = json.loads(everything.stdout)
        assert (document["errors"], document["warnings"]) == (1, count)
        assert {item["check"] for item in document["findings"]} == set(BY_ID)

    def test_what_is_not_configured_is_said_once(self, scene: Scene) -> None:
        done = self.doctor(scene, "--config", "/nowhere/config.json")
        lines = done.stdout.splitlines()
        assert done.returncode == 1
        wanted = "node configuration: /nowhere/config.json does not exist, so nothing may be claimed"
        assert lines[0] == f"error        {wanted}"
        assert len(lines) < 10, done.stdout
        assert re.fullmatch(r"\d+ checks wait for node configuration above", lines[-3])

    def test_json_and_the_exit_status_of_an_error(self, scene: Scene) -> None:
        scene.ip("link set ens7 address 02:00:00:00:ff:02")
        try:
            done = self.doctor(scene, "--json")
        finally:
            scene.ip(f"link set ens7 address {scene.ens7.mac}")
        assert (done.returncode, done.stderr) == (1, "")
        document: dict[str, Any] = json.loads(done.stdout)
        assert document["errors"] == 1
        (wrong,) = [item for item in document["findings"] if item["severity"] == "error"]
        assert (wrong["check"], wrong["id"], wrong["subject"]) == ("links", "link-missing", scene.ens7.id)
        assert {item["check"] for item in document["findings"]} == set(BY_ID)
        assert {item["id"] for item in document["findings"]} <= {"ok", "not-checked", *KINDS}

    def test_only_the_enis_that_are_named(self, scene: Scene) -> None:
        def output(*names: str) -> tuple[int, list[tuple[str, str]]]:
            done = self.doctor(scene, "--json", *(word for name in names for word in ("--interface", name)))
            enis = [item for item in json.loads(done.stdout)["findings"] if item["check"] == "enis"]
            return done.returncode, [(item["id"], item["subject"]) for item in enis]

        assert output("eth1") == (0, [("ok", ""), ("not-checked", scene.ens7.id)])
        assert output("eth1", "floatip2") == (0, [("ok", "")])
        assert output("eth1", "floatip3") == (
            1,
            [("interface-unknown", "floatip3"), ("not-checked", scene.ens7.id)],
        )

    def test_configuration_of_another_place(self, scene: Scene, tmp_path: Path) -> None:
        path = tmp_path / "config.json"
        path.write_text(
            json.dumps({**json.loads(scene.config.read_text()), "allowedRouteTables": {"ids": ["rtb-0"]}})
        )
        done = self.doctor(scene, "--json", "--config", str(path))
        found_ids = {item["id"] for item in json.loads(done.stdout)["findings"]}
        assert {"no-tables", "table-missing"} <= found_ids


def test_wrong_usage_is_refused_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["doctor", "--colour"])
    assert left.value.code == 2
    with pytest.raises(SystemExit) as left:
        cli.main(["doctor", "--help"])
    assert left.value.code == 0
    assert "exit status" in capsys.readouterr().out


def test_progress_is_for_a_terminal(tmp_path: Path) -> None:
    """On a machine that is no node: quick, and nothing of the progress is left on the line."""
    env = {
        **{
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("AWS_", "FLOATIP_", "KUBERNETES_"))
        },
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    ours, theirs = pty.openpty()
    command = [PROGRAM, "doctor", "--config", str(tmp_path / "none"), "--bin-dir", str(tmp_path)]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=False)
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert re.search(rf"\r\d+ of {len(CHECKS)} checks done", text)
    assert text.endswith("\r\x1b[K")
    assert done.returncode == 1
    assert b"Traceback" not in done.stdout
    assert b"policy-missing" in done.stdout
