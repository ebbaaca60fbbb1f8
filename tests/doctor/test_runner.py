"""The checks run side by side, within one bound; what fails or hangs keeps no other from being told."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as sdk

from cni_floatip.config.nodeconf import MINIMAL, NodeConf
from cni_floatip.doctor import host
from cni_floatip.doctor import report as view
from cni_floatip.doctor.cached_probe import cached_probe
from cni_floatip.doctor.checks import CHECKS, Check
from cni_floatip.doctor.finding import Finding, Severity, fine
from cni_floatip.doctor.probe import Probe
from cni_floatip.doctor.runner import examine
from cni_floatip.edges.ec2.sessions import Sdk
from cni_floatip.model.errors import TryAgain
from cni_floatip.model.values import Eni, Node


def check(name: str, look: Any) -> Check:
    return Check(name, "Group", name, look)


def test_one_that_hangs_is_told_of_in_time() -> None:
    over = threading.Event()
    checks = [
        check("hangs", lambda _: over.wait(30) and []),
        check("fine", lambda _: [fine("", "well")]),
    ]
    began = time.monotonic()
    report = examine(Probe({}), checks, seconds=0.3)
    over.set()
    assert time.monotonic() - began < 5
    assert [finding.what for _, findings in report.results for finding in findings] == [
        "took longer than 0.3 s",
        "well",
    ]
    assert report.count(Severity.UNCHECKED) == 1


def test_one_that_hangs_does_not_keep_the_program() -> None:
    hanging = """if True:
        import time
        from cni_floatip.doctor.checks import Check
        from cni_floatip.doctor.probe import Probe
        from cni_floatip.doctor.runner import examine

        examine(Probe({}), [Check("a", "b", "c", lambda _: time.sleep(60))], seconds=0.1)
    """
    subprocess.run([sys.executable, "-c", hanging], timeout=30, check=True)


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("""echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.1.0"]}'""", ""),
        ("""echo '{"supportedVersions": []}'; exit 1""", "exit status 1"),
        ("echo '{}'", "exit status 0"),
        ("sleep 20", "within 0.5 s"),
    ],
)
def test_client_is_really_run(tmp_path: Path, script: str, wanted: str) -> None:
    client = tmp_path / "floatip"
    client.write_text(
        f'#!/bin/sh\ntest "$CNI_COMMAND" = VERSION || exit 9\n{script.replace("sleep", "exec /bin/sleep")}\n'
    )
    client.chmod(0o755)
    assert wanted in (host.answer_to_version(client, 0.5) or "")
    assert bool(wanted) == bool(host.answer_to_version(client, 0.5))


def test_they_run_at_the_same_time() -> None:
    together = threading.Barrier(5)

    def met(_: Probe) -> list[Any]:
        together.wait(10)
        return [fine("", "met")]

    report = examine(Probe({}), [check(str(number), met) for number in range(5)])
    assert report.count(Severity.OK) == 5


@pytest.mark.parametrize("error", [TryAgain("metadata is away"), ZeroDivisionError("x"), KeyError("agent")])
def test_what_a_check_raises_is_a_finding(error: Any) -> None:
    def fails(_: Probe) -> None:
        raise error

    report = examine(Probe({}), [check("fails", fails), check("fine", lambda _: [fine("", "well")])])
    (_, (finding,)), (_, (well,)) = report.results
    assert (finding.severity, well.severity) == (Severity.UNCHECKED, Severity.OK)
    assert "metadata is away" in finding.what or type(error).__name__ in finding.what


def test_progress_is_told() -> None:
    heard: list[int] = []
    quick_is_done = threading.Event()

    def progress(done: int) -> None:
        heard.append(done)
        if done == 1:
            quick_is_done.set()

    def slowly(_: Probe) -> list[Finding]:
        assert quick_is_done.wait(10)
        return [fine("", "")]

    slow = check("slow", slowly)
    report = examine(Probe({}), [slow, check("quick", lambda _: [fine("", "")])], progress=progress)
    assert report.count(Severity.OK) == 2
    assert heard == sorted(heard)


class Counting(Probe):
    def __init__(self) -> None:
        super().__init__({})
        self.looked = 0

    @cached_probe
    def thing(self) -> int:
        """Count the looks."""
        self.looked += 1
        time.sleep(0.1)
        raise TryAgain("no")


def test_what_many_need_is_looked_at_once_also_if_it_fails() -> None:
    looks = Counting()
    checks = [check(str(number), lambda looks: [fine("", str(looks.thing))]) for number in range(8)]
    report = examine(looks, checks)
    assert report.count(Severity.UNCHECKED) == 8
    assert looks.looked == 1


def test_where_nothing_is_there_is_a_finding_for_every_check_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is no node: no configuration, no metadata, no credentials, no cluster."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("cni_floatip.doctor.probe.METADATA_SECONDS", 0.2)
    env = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"}
    probe = Probe(env, config=str(tmp_path / "none"), bin_dir=str(tmp_path), service_account=tmp_path)
    report = examine(probe, CHECKS)
    assert all(findings for _, findings in report.results)
    output = [finding for _, findings in report.results for finding in findings]
    assert not [finding for finding in output if "mistake" in finding.what]
    assert {"policy-missing", "client-missing", "metadata-unreachable"} <= {finding.id for finding in output}
    assert view.text(report)


class OnANode(Probe):
    """A node on which everything is to be seen but AWS."""

    policy = NodeConf.parse(json.loads(MINIMAL))
    status = {"agent": {}, "claims": []}  # noqa: RUF012 (never changed)
    node = Node("i-1", "111122223333", "eu-central-1")
    enis = (Eni("eni-1", "02:00:00:00:00:01", 0, "vpc-1", "subnet-1", (), ()),)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (sdk.ProxyConnectionError(proxy_url="http://proxy:3128"), "endpoint-unreachable"),
        (sdk.ConnectTimeoutError(endpoint_url="https://ec2"), "endpoint-unreachable"),
        (sdk.ReadTimeoutError(endpoint_url="https://ec2"), "endpoint-unreachable"),
        (sdk.ConnectionClosedError(endpoint_url="https://ec2"), "endpoint-unreachable"),
        (sdk.EndpointConnectionError(endpoint_url="https://ec2"), "endpoint-unreachable"),
        (sdk.SSLError(endpoint_url="https://ec2", error=OSError("x")), "endpoint-unreachable"),
        (sdk.HTTPClientError(error="x"), "endpoint-unreachable"),
        (sdk.InvalidProxiesConfigError(), "endpoint-unreachable"),
        (sdk.NoCredentialsError(), "no-credentials"),
        (sdk.CredentialRetrievalError(provider="x", error_msg="y"), "no-credentials"),
        (sdk.PartialCredentialsError(provider="x", cred_var="y"), "no-credentials"),
        (FileNotFoundError("/token"), "no-credentials"),
    ],
    ids=lambda error: type(error).__name__ if isinstance(error, Exception) else "",
)
def test_what_the_sdk_raises_is_judged(error: Any, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is raised, also where only credentials are looked for: no check calls it its mistake."""

    def raises(*_: object, **__: object) -> None:
        raise error

    for name in ("client", "ready", "endpoint"):
        monkeypatch.setattr(Sdk, name, raises)
    env = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"}
    results = [finding for _, findings in examine(OnANode(env), CHECKS).results for finding in findings]
    assert not [finding for finding in results if "mistake" in finding.what]
    ids = [finding.id for finding in results if finding.id in ("endpoint-unreachable", "no-credentials")]
    assert ids == [wanted]


def test_what_the_agent_tells_of_claims() -> None:
    """A pod without a name (cnitool's) is called by its container; an ADD's routes are not judged yet."""
    claim: dict[str, Any] = {
        "eni": "eni-1",
        "ifname": "net1",
        "netns": "/run/netns/x",
        "containerId": "cnitool-" + "0f" * 32,
    }
    claim |= {"addresses": ["192.168.0.7/32"], "watched": [], "routesUnknown": False}
    route = {"table": "rtb-1", "destination": "192.168.0.7/32"}
    named, nobody = {"namespace": "default", "name": "db"}, {"namespace": "", "name": ""}
    states = ["held", "claiming", "releasing", "gone"]
    claims = [
        {**claim, "pod": nobody if state == "claiming" else named, "state": state}
        | {"routes": [{**route, "state": state}]}
        for state in states
    ]
    claims[-1] |= {"routesUnknown": True, "eni": "eni-2"}
    looks = OnANode({})
    looks.status = {"agent": {"spooled": 2}, "claims": claims}
    assert [pod.pod for pod in looks.claims] == ["default/db", "cnitool-0f0f"]
    assert [len(pod.routes) for pod in looks.claims] == [1, 0]
    assert (set(looks.known.lost_tables), looks.known.waiting) == ({"eni-2"}, 2)
    assert looks.known.has(looks.claims[0].routes[0], "eni-1"), "also of those that have ended"


def test_names_from_pods_do_not_reach_the_terminal() -> None:
    report = examine(Probe({}), [check("a", lambda _: [fine("\x1b[2Jpod", "x\ny")])])
    shown = view.text(report, everything=True)
    assert "\x1b" not in shown
    assert r"\x1b[2Jpod: x\ny" in shown
