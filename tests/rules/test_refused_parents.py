"""What cannot carry a floating IP, row by row: ADD and ``validate`` refuse it in the same words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni_floatip.config.netconf import NetConf
from cni_floatip.edges.podnet import Parent
from cni_floatip.model.errors import InvalidConfig
from cni_floatip.model.values import Link
from cni_floatip.operations.locate import locate
from cni_floatip.rules.parents import REFUSED_PARENTS
from cni_floatip.validate.report import examine
from tests.fakes.podnet import FakeLink, FakePod, FakePodNet
from tests.support.watched_pods import ENI_MAC, Metadata

OTHER, PRIMARY = "02:00:00:00:be:ef", "02:00:00:00:00:ff"
ON_ENI = Parent(Link("eth1", 7, ENI_MAC, ""), here=True)
FLOATIP = {"type": "floatip", "routeTables": {"ids": ["rtb-1"]}}
IPAM = {"type": "static", "addresses": [{"address": "192.168.0.2/32"}]}

ADD = {
    "ipvlan mode": FakeLink("net1", ENI_MAC, ipvlan_mode="l3"),
    "macvlan": FakeLink("net1", OTHER, "macvlan", ON_ENI),
    "no ENI": FakeLink("net1", OTHER, "veth"),
    "primary ENI": FakeLink("net1", PRIMARY),
}
"""For each row of the table a pod's interface."""

VALIDATE: dict[str, dict[str, Any]] = {
    "ipvlan mode": {"type": "ipvlan", "master": "eth1", "mode": "l3"},
    "macvlan": {"type": "macvlan", "master": "eth1"},
    "no ENI": {"type": "bridge"},
    "primary ENI": {"type": "ipvlan", "mode": "l2"},
}
"""For each row of the table the plugin before floatip."""

SUBJECTS = {
    "ipvlan mode": (f"net1 ({ENI_MAC})", "what ipvlan makes"),
    "macvlan": (f"net1 ({OTHER})", "what macvlan makes"),
    "no ENI": (f"net1 ({OTHER})", "what bridge makes"),
    "primary ENI": (f"eni-0 ({PRIMARY})", "what ipvlan takes without master"),
}


def test_every_row_has_a_case_for_each() -> None:
    rows = [row.name for row in REFUSED_PARENTS]
    assert list(ADD) == list(VALIDATE) == list(SUBJECTS) == rows


@pytest.mark.parametrize("row", REFUSED_PARENTS, ids=lambda row: row.name)
def test_both_refuse_it_in_the_words_of_the_row(row: Any) -> None:
    link, plugin, subjects = ADD[row.name], VALIDATE[row.name], SUBJECTS[row.name]
    output, written = (row.sentence.format(subject=subject, mode="l3") for subject in subjects)
    with pytest.raises(InvalidConfig) as refused:
        locate(FakePodNet(FakePod([link]), link), Metadata(), NetConf.parse({"name": "red"} | FLOATIP))
    assert str(refused.value) == output
    chain = {"cniVersion": "1.0.0", "name": "red", "plugins": [plugin | {"ipam": IPAM}, FLOATIP]}
    errors = [finding for finding in examine("f", json.dumps(chain).encode()).findings if not finding.warning]
    assert [finding.text for finding in errors] == [written]


def test_what_carries_a_floating_ip_is_refused_by_no_row() -> None:
    for link in (
        FakeLink("net1", ENI_MAC),
        FakeLink("net1", ENI_MAC, ""),
        FakeLink("net1", OTHER, "", ON_ENI),
    ):
        site = locate(FakePodNet(FakePod([link]), link), Metadata(), NetConf.parse({"name": "red"} | FLOATIP))
        assert site.eni.id == "eni-here"
