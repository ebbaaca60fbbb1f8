"""A node of an account that merely takes part in the VPC: the tables are asked about in the owner's name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest

from cni_floatip.doctor.checks import CHECKS
from cni_floatip.doctor.finding import Finding, Severity
from cni_floatip.doctor.probe import Probe
from cni_floatip.doctor.runner import examine
from lab import netns
from lab.world import Lab

GUEST = "444455556666"

pytestmark = pytest.mark.lab(azs=1, nodes_per_az=1, guests={"a1": GUEST}, warm=True)

ASKED = ("roles", "permissions", "tables", "quota", "conflicts", "transit", "ranges")


def doctor(lab: Lab, monkeypatch: pytest.MonkeyPatch, **policy: Any) -> dict[str, Sequence[Finding]]:
    node = lab.nodes["a1"]
    node.write_config({**lab.node_config(), **policy})
    for key in [key for key in os.environ if key.startswith("AWS_")]:
        monkeypatch.delenv(key)
    for key, value in node.env.items():
        monkeypatch.setenv(key, value)
    checks = [check for check in CHECKS if check.id in ASKED]
    report = netns.inside(node.ns, examine, Probe(dict(os.environ)), checks)
    return {check.id: findings for check, findings in report.results}


def test_with_the_owners_role_nothing_is_wrong(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = lab.ec2.account
    role = f"arn:aws:iam::{owner}:role/floatip"
    results = doctor(lab, monkeypatch, roles={owner: role})
    assert not [f for findings in results.values() for f in findings if f.severity is not Severity.OK]
    own, of_tables = sorted(results["permissions"], key=lambda finding: finding.subject == role)
    assert f"::{GUEST}:" in own.subject
    assert "ModifyNetworkInterfaceAttribute" in own.what
    assert "Route," not in own.what.replace("DescribeRouteTables", "")
    assert "ReplaceRoute" in of_tables.what


def test_without_it_the_tables_may_not_be_written(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = doctor(lab, monkeypatch)
    denied = {finding.subject for finding in findings["permissions"] if finding.id == "action-denied"}
    assert denied == {"ec2:CreateRoute", "ec2:ReplaceRoute", "ec2:DeleteRoute"}
    assert all(f":{lab.ec2.account}:route-table/" in finding.remedy for finding in findings["permissions"])
