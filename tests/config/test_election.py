"""Elected claims in the two configurations: names of groups, and where they are refused."""

from __future__ import annotations

import re
from ipaddress import ip_address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.config import election, schemas
from cni_floatip.config.election import Elections, default_group
from cni_floatip.config.netconf import NetConf
from cni_floatip.model.errors import InvalidConfig, PolicyRefused, UnsupportedField

GROUP = schemas.load("netconf")["properties"]["election"]["properties"]["group"]


@pytest.mark.parametrize(
    ("addresses", "name"),
    [
        pytest.param(["192.168.0.10"], "192.168.0.10", id="IPv4"),
        pytest.param(["192.168.0.10", "192.168.0.9"], "192.168.0.9", id="the lowest, as a number"),
        pytest.param(["::1", "192.168.0.10"], "192.168.0.10", id="IPv4 before a lower IPv6"),
        pytest.param(
            ["fd00:192:168::14"], "fd00-0192-0168-0000-0000-0000-0000-0014", id="IPv6 in full, without colons"
        ),
        pytest.param(
            ["fd00::b", "fd00::a:0"], "fd00-0000-0000-0000-0000-0000-0000-000b", id="the lowest IPv6"
        ),
        pytest.param(["0.0.0.1"], "0.0.0.1", id="the shortest"),
    ],
)
def test_a_group_without_a_name_has_the_lowest_address(addresses: list[str], name: str) -> None:
    assert default_group(map(ip_address, addresses)) == name


def test_without_an_address_there_is_no_group() -> None:
    with pytest.raises(ValueError, match="empty"):
        default_group([])


@given(
    st.lists(st.ip_addresses(v=4) | st.ip_addresses(v=6), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_a_default_name_is_one_that_could_be_written(addresses: list[object], random: Random) -> None:
    """So it fits into a Lease's name, and the order in which the runtime adds interfaces is no matter."""
    given_ = [ip_address(str(address)) for address in addresses]
    name = default_group(given_)
    assert re.fullmatch(GROUP["pattern"], name)
    assert len(name) <= GROUP["maxLength"]
    assert not list(election.unfit_group(name))
    random.shuffle(given_)
    assert default_group(given_) == name


def test_the_longest_group_is_read() -> None:
    longest = "a" * 31 + "." + "b" * 31
    document = {
        "name": "vip",
        "routeTables": {"all": True},
        "activate": "ready",
        "election": {"group": longest},
    }
    assert NetConf.parse(document).election.group == longest


# -- where they are refused


def test_this_release_has_no_elections_yet() -> None:
    """The switch: whoever turns it on turns on agent, direct mode, ``validate``, chart and documents."""
    assert election.RELEASED is False


@pytest.mark.parametrize("elections", [None, Elections()])
def test_a_network_is_refused_in_a_release_without_elections(elections: Elections | None) -> None:
    election.refuse_network("add", elections)
    with pytest.raises(UnsupportedField) as refused:
        election.refuse_network("ready", elections)
    assert refused.value.msg == '$.activate: "ready": elected claims are not in this release; write "add"'
    assert refused.value.code == 2, "with key and value, as the specification wants it"


def test_a_network_is_refused_where_nobody_elects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "RELEASED", True)
    election.refuse_network("add", None)
    election.refuse_network("ready", Elections())
    with pytest.raises(PolicyRefused) as refused:
        election.refuse_network("ready", None)
    assert refused.value.msg == (
        '$.activate: "ready": nobody elects here: that takes a node agent, not direct mode, with elections'
        ' in its node configuration; write "add", or add elections there'
    )
    assert refused.value.code == 102


def test_a_policy_with_elections_is_refused_by_a_release_without(monkeypatch: pytest.MonkeyPatch) -> None:
    election.refuse_policy(None, "/etc/floatip/config.json")
    with pytest.raises(InvalidConfig) as refused:
        election.refuse_policy(Elections(), "/etc/floatip/config.json")
    assert refused.value.msg == (
        "/etc/floatip/config.json: $.elections: elected claims are not in this release; leave the key out"
    )
    monkeypatch.setattr(election, "RELEASED", True)
    election.refuse_policy(Elections(), "/etc/floatip/config.json")
