"""``install/cloudformation/node/floatip-links`` on a node of the lab: real links, simulated metadata.

The node's third ENI is as AL2023 leaves one that is attached to a running instance: down, with the kernel's
name. ``ip netns exec`` gives the program the node's own ``/sys``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import netns
from lab.node import Node
from lab.pod import Pod
from lab.world import Lab
from tests.aws.template import SHIPPED
from tests.support.waiting import until

pytestmark = [pytest.mark.needs("root", "ip", "curl", "flock"), pytest.mark.lab(azs=1, nodes_per_az=1)]

PROGRAM = SHIPPED / "node" / "floatip-links"


@dataclass
class Worker:
    """A node, and how its boot runs the program."""

    node: Node
    config: Path
    networkd: Path
    programs: Path

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.programs}:/usr/sbin:/usr/bin:/sbin:/bin"
        env = {"PATH": path, "FLOATIP_LINKS_CONF": str(self.config)}
        argv = ["ip", "netns", "exec", self.node.ns, str(PROGRAM), *args]
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)

    def links(self) -> dict[str, dict[str, Any]]:
        """Return the links by MAC address; the loopback's is nobody's."""
        request = ["ip", "-n", self.node.ns, "-json", "-details", "addr"]
        result = json.loads(subprocess.run(request, capture_output=True, text=True, check=True).stdout)
        return {link["address"]: link for link in result if link["ifname"] != "lo" and "address" in link}

    def named(self) -> dict[str, str]:
        return {eni.ifname: self.links()[eni.mac]["ifname"] for eni in self.node.enis}

    def settings(self) -> dict[str, tuple[Any, ...]]:
        """Return what does not change by itself, as the carrier does."""
        keys = ("ifname", "mtu", "altnames")
        return {
            mac: (*(link.get(key) for key in keys), "UP" in link["flags"])
            for mac, link in self.links().items()
        }

    def kernel(self, key: str) -> str:
        return netns.inside(self.node.ns, Path("/proc/sys/net", key).read_text).strip()

    def again(self) -> None:
        """Make the links as they are after the start of the instance."""
        for eni in self.node.enis[1:]:
            name = self.links()[eni.mac]["ifname"]
            for alternative in self.links()[eni.mac].get("altnames", []):
                netns.ip(self.node.ns, [f"link property del dev {name} altname {alternative}"])
            netns.ip(self.node.ns, [f"link set {name} down", f"link set {name} name {eni.ifname} mtu 1500"])
            for family in ("ipv4", "ipv6"):
                netns.sysctl(self.node.ns, {f"{family}/conf/{eni.ifname}/forwarding": 1})
        for left in self.networkd.glob("*"):
            left.unlink()


@pytest.fixture
def worker(lab: Lab, tmp_path: Path) -> Iterator[Worker]:
    subnets = f"{lab.vpc.subnets['a'].id} subnet-of-another-zone"
    config = tmp_path / "floatip-links.conf"
    lines = [f'subnets="{subnets}"', "tries=3", "pause=0.1", f"run={tmp_path}/run"]
    config.write_text("\n".join([*lines, f"networkd={tmp_path}/networkd", "netif=/nonexistent", ""]))
    made = Worker(lab.nodes["a1"], config, tmp_path / "networkd", tmp_path / "bin")
    made.again()
    yield made
    made.again()


def test_links_are_up_after_boot(worker: Worker) -> None:
    """Names by device index, up, MTU 9001; the primary interface is not touched."""
    before = worker.settings()[worker.node.primary.mac]
    done = worker.run()
    assert done.returncode == 0, done.stderr
    assert worker.named() == {"eth0": "eth0", "eth1": "floatip1", "ens7": "floatip2"}
    for eni in worker.node.enis[1:]:
        link = worker.links()[eni.mac]
        assert "UP" in link["flags"]
        assert link["mtu"] == 9001
        name = link["ifname"]
        assert worker.kernel(f"ipv4/conf/{name}/forwarding") == "1", "the agent's rules are about that"
        assert worker.kernel(f"ipv6/conf/{name}/accept_ra") == "0"
        assert worker.kernel(f"ipv6/conf/{name}/autoconf") == "0"
    assert worker.settings()[worker.node.primary.mac] == before
    assert worker.kernel("ipv4/conf/eth0/forwarding") == "1"


def test_reboot_and_repetition(worker: Worker) -> None:
    """After a reboot the kernel's names are back, maybe others; a second run changes nothing."""
    assert worker.run().returncode == 0
    once = worker.settings()
    assert worker.run().returncode == 0
    assert worker.settings() == once
    worker.again()
    eth1, ens7 = (eni.mac for eni in worker.node.enis[1:])
    netns.ip(
        worker.node.ns, ["link set eth1 name ens9", "link set ens7 name eth1", "link set ens9 name ens7"]
    )
    assert worker.run().returncode == 0
    assert (worker.links()[eth1]["ifname"], worker.links()[ens7]["ifname"]) == ("floatip1", "floatip2")


def test_second_network_card(worker: Worker) -> None:
    """Device numbers are counted per card, so the card is part of the name."""
    worker.programs.mkdir()
    curl = worker.programs / "curl"
    second = f"*/{worker.node.enis[2].mac}/network-card"
    curl.write_text(f'#!/bin/sh\ncase "$*" in {second}) echo 1 ;; *) exec /usr/bin/curl "$@" ;; esac\n')
    curl.chmod(0o755)
    assert worker.run().returncode == 0
    assert worker.named() == {"eth0": "eth0", "eth1": "floatip1", "ens7": "floatip1-2"}


def test_a_hot_plugged_interface_is_brought_up(worker: Worker) -> None:
    """udev calls with the MAC address, in whatever case."""
    done = worker.run(worker.node.enis[2].mac.upper())
    assert done.returncode == 0, done.stderr
    assert worker.named()["ens7"] == "floatip2"


def test_interface_that_metadata_does_not_know_yet(worker: Worker) -> None:
    """systemd tries again later."""
    mac = "02:ff:ff:ff:ff:ff"
    netns.ip(worker.node.ns, [f"link add new7 address {mac} type veth peer name new8"])
    try:
        done = worker.run(mac.upper())
        assert done.returncode == 1
        assert "metadata does not know" in done.stderr
        assert worker.named()["ens7"] == "ens7"
    finally:
        netns.ip(worker.node.ns, ["link del new7"])


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("item", "shown"),
    [
        ("subnet-id", "exit 22"),
        ("device-number", "exit 22"),
        ("subnet-id", "exit 0"),
        ("device-number", "echo"),
        ("device-number", "echo 0"),
    ],
)
def test_interface_that_metadata_lists_but_does_not_describe_yet(
    worker: Worker, item: str, shown: str
) -> None:
    """The others are served, and systemd tries again later."""
    worker.programs.mkdir()
    curl = worker.programs / "curl"
    late = f"*/{worker.node.enis[1].mac}/{item}"
    curl.write_text(f'#!/bin/sh\ncase "$*" in {late}) {shown} ;; *) exec /usr/bin/curl "$@" ;; esac\n')
    curl.chmod(0o755)
    done = worker.run()
    assert done.returncode == 1
    assert f"metadata does not describe {worker.node.enis[1].mac}" in done.stderr
    assert worker.named() == {"eth0": "eth0", "eth1": "eth1", "ens7": "floatip2"}
    curl.unlink()
    assert worker.run().returncode == 0
    assert worker.named()["eth1"] == "floatip1"


def test_interface_that_is_gone_again(worker: Worker) -> None:
    """Nobody waits for it, now or later."""
    done = worker.run("02:ff:ff:ff:ff:ff")
    assert (done.returncode, done.stderr) == (0, "")


def test_without_metadata_no_link_is_renamed(lab: Lab, worker: Worker) -> None:
    worker.config.write_text(worker.config.read_text() + "imds=http://127.0.0.1:9/latest\n")
    done = worker.run()
    assert done.returncode == 1
    assert worker.named()["ens7"] == "ens7"


@pytest.mark.one_in(3)
@pytest.mark.parametrize("answer", ["exit 28", "exit 0"], ids=["timed out", "empty"])
@pytest.mark.parametrize("misses", [2, 3], ids=["late", "never"])
def test_list_of_interfaces_that_does_not_come(worker: Worker, answer: str, misses: int) -> None:
    """It is asked for as often as the configuration says; then systemd tries again later."""
    worker.programs.mkdir()
    path, curl = worker.programs / "asked", worker.programs / "curl"
    miss = f"echo once more >> {path}; test $(wc -l < {path}) -gt {misses} || {answer}"
    curl.write_text(f'#!/bin/sh\ncase "$*" in */macs/) {miss} ;; esac\nexec /usr/bin/curl "$@"\n')
    curl.chmod(0o755)
    done = worker.run()
    assert len(path.read_text().splitlines()) == 3
    if misses == 2:
        assert (done.returncode, worker.named()["ens7"]) == (0, "floatip2")
    else:
        assert (done.returncode, worker.named()["ens7"]) == (1, "ens7")
        assert "metadata does not know an interface" in done.stderr


def test_interfaces_of_vpc_cni_are_left_alone(lab: Lab, worker: Worker) -> None:
    """They are in other subnets."""
    text = worker.config.read_text().replace(lab.vpc.subnets["a"].id, lab.vpc.subnets["client"].id)
    worker.config.write_text(text)
    before = worker.settings()
    assert worker.run().returncode == 0
    assert worker.settings() == before


def test_networkd_is_told_to_leave_them(worker: Worker) -> None:
    """By MAC address, in a file that comes before nodeadm's (70-eks-ens7.network)."""
    assert worker.run().returncode == 0
    results = {path.name: path.read_text() for path in worker.networkd.iterdir()}
    assert sorted(results) == ["05-floatip1.network", "05-floatip2.network"]
    for name, eni in zip(sorted(results), worker.node.enis[1:], strict=True):
        assert results[name] == f"[Match]\nPermanentMACAddress={eni.mac}\n\n[Link]\nUnmanaged=yes\n"


def test_systemd_is_told(worker: Worker) -> None:
    """networkd once for each file; and nodeadm's units, which know the links by the names that they had."""
    netif, path = worker.networkd.with_name("netif"), worker.networkd.with_name("said")
    worker.config.write_text(worker.config.read_text() + f"netif={netif}\n")
    for directory in (netif, worker.programs):
        directory.mkdir()
    for name in ("networkctl", "systemctl"):
        program = worker.programs / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {path}\nexit 5\n'
        )  # as for a unit that is not there
        program.chmod(0o755)
    for _ in range(2):
        done = worker.run()
        assert done.returncode == 0, done.stderr
        stopped = [f"systemctl stop udev-net-manager@{name}.service" for name in ("eth1", "ens7")]
        assert sorted(path.read_text().splitlines()) == sorted(["networkctl reload"] * 2 + stopped)


def test_what_networkd_has_given_is_taken_off(worker: Worker) -> None:
    """An interface that was there when nodeadm first ran is up, and has addresses and default routes."""
    eni = worker.node.enis[2]
    netns.ip(
        worker.node.ns,
        [
            "link set ens7 up",
            "addr add 10.10.1.77/24 dev ens7",
            "route add default via 10.10.1.1 dev ens7 metric 600",
            "addr add 2001:db8:77::7/128 dev ens7 nodad",
            "route add 2001:db8:77::/64 dev ens7 proto ra metric 600",
            "route add default via fe80:ec2::1 dev ens7 proto ra metric 600",
            "route add default via fe80:ec2::1 dev ens7 proto ra table 10002",
        ],
    )
    assert worker.run().returncode == 0
    link = worker.links()[eni.mac]
    assert [a["local"] for a in link["addr_info"] if a["scope"] == "global"] == []
    left = {family: _routes(worker, family) for family in ("-4", "-6")}
    for routes in left.values():
        assert any(route.startswith("default ") and " dev eth0 " in route for route in routes)
    ours = [route for routes in left.values() for route in routes if f" dev {link['ifname']} " in route]
    assert {route.split()[0] for route in ours if " table local " not in route} <= {"fe80::/64"}


def _routes(worker: Worker, family: str) -> list[str]:
    request = ["ip", "-n", worker.node.ns, family, "route", "show", "table", "all"]
    return [
        f"{line} " for line in subprocess.run(request, capture_output=True, text=True).stdout.splitlines()
    ]


@pytest.mark.needs("macvlan-plugin", "static-plugin")
def test_link_that_pods_stand_on(lab: Lab, worker: Worker) -> None:
    """It is up and has the kernel's name. What the pod has of it is not to be seen from the node: the pod
    loses no packet, no address and no route, and who knows the link as ens7 still finds it."""
    chain = lab.conflist(["192.168.0.9/32", "fd00:192:168::9/128"], eth="ens7")
    pod = worker.node.pod("stands")
    worker.node.add(pod, chain)
    try:
        # The kernel routes to the link-local address, and shows it as usable, when its detection has ended.
        until(lambda: "local fe80:" in (network := _network_of(pod)) and "tentative" not in network)
        before = _network_of(pod)
        assert "fd00:192:168::9" in before
        for _ in range(2):
            assert worker.run().returncode == 0
            assert _network_of(pod) == before
            link = worker.links()[worker.node.enis[2].mac]
            assert (link["ifname"], link.get("altnames"), link["mtu"]) == ("ens7", ["floatip2"], 9001)
        assert lab.clients["vpc"].ask("192.168.0.9") == pod.name
        assert lab.clients["vpc"].ask("fd00:192:168::9") == pod.name
    finally:
        worker.node.delete(pod, chain)
        worker.node.remove_pod(pod)


def _network_of(pod: Pod) -> str:
    """Return how often the pod's interface has lost its carrier, its addresses and all routes."""
    look = "cat /sys/class/net/net1/carrier_down_count; ip -o addr show dev net1; ip route show table all"
    argv = ["ip", "netns", "exec", pod.ns, "sh", "-ec", f"{look}; ip -6 route show table all"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_second_name_of_a_link_that_has_gone_down(worker: Worker) -> None:
    """The kernel does not take one's second name for the first."""
    eni = worker.node.enis[2]
    netns.ip(worker.node.ns, ["link set ens7 up"])
    assert worker.run().returncode == 0
    netns.ip(worker.node.ns, ["link set ens7 down"])
    done = worker.run()
    assert done.returncode == 0, done.stderr
    link = worker.links()[eni.mac]
    assert (link["ifname"], link.get("altnames"), "UP" in link["flags"]) == ("ens7", ["floatip2"], True)


@pytest.mark.one_in(2)
@pytest.mark.needs("macvlan-plugin", "static-plugin")
@pytest.mark.parametrize("second_name", [False, True], ids=["name", "second name"])
def test_master_of_a_network(lab: Lab, worker: Worker, second_name: bool) -> None:
    """``"master": "floatip2"`` is what networks say: the reference plugin takes either kind of name, and so
    does all that comes after it."""
    if second_name:
        netns.ip(worker.node.ns, ["link property add dev ens7 altname floatip2", "link set ens7 up"])
    else:
        assert worker.run().returncode == 0
    chain = lab.conflist(["192.168.0.9/32"], eth="floatip2")
    pod = worker.node.pod(f"pod-{second_name}".lower())
    worker.node.add(pod, chain)
    try:
        assert lab.clients["vpc"].ask("192.168.0.9") == pod.name
    finally:
        worker.node.delete(pod, chain)
        worker.node.remove_pod(pod)


def test_only_what_al2023_has(worker: Worker) -> None:
    """coreutils, util-linux, iproute, grep and curl; no bash, and no braces that CloudFormation takes."""
    text = PROGRAM.read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "${" not in text
    checked = subprocess.run(["sh", "-n", PROGRAM], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
