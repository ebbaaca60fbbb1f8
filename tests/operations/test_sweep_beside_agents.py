"""A sweep in the lab, beside agents that work: what it may meet in the worst moment, and who mends it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from lab.node import Node
from lab.world import Lab
from tests.support.waiting import until

VIP = "192.168.0.2/32"


def lose(lab: Lab, node: Node) -> None:
    """The node ends for good: its floating interfaces are gone, its routes are blackholes."""
    node.crash()
    ec2 = lab.ec2.client()
    ids = [eni.id for eni in node.enis[1:]]
    ec2.terminate_instances(InstanceIds=[node.instance_id])
    for eni in ec2.describe_network_interfaces(NetworkInterfaceIds=ids)["NetworkInterfaces"]:
        ec2.detach_network_interface(AttachmentId=eni["Attachment"]["AttachmentId"], Force=True)
        ec2.delete_network_interface(NetworkInterfaceId=eni["NetworkInterfaceId"])


@pytest.mark.thorough(sample="tests/operations/test_sweep.py::test_this_nodes_own_interfaces_and_live_claims")
@pytest.mark.needs("root", "ip", "macvlan-plugin")
def test_an_add_between_the_last_look_and_the_delete_gets_its_route_back() -> None:
    """The sweep's delete is under way while another node's ADD takes the blackhole over: it hits that."""
    with Lab(azs=3, nodes_per_az=1, agents=True, warm=True) as lab:
        sweeper, lost, heir = lab.nodes["a1"], lab.nodes["b1"], lab.nodes["c1"]
        lost.add(lost.pod("old"), lab.conflist([VIP]))
        lose(lab, lost)

        def leads_to() -> set[str]:
            results = (lab.ec2.truth(table).get(VIP) for table in lab.tables.values())
            return {f"{route.target} {route.state}" if route else "nowhere" for route in results}

        def outcomes() -> list[str]:
            return [call.outcome for call in lab.ec2.journal.of("DeleteRoute", sweeper.name)]

        assert leads_to() == {f"{lost.enis[1].id} blackhole"}
        lab.ec2.faults.hang("DeleteRoute", 90, late=True, caller=sweeper.name)
        floatipctl = str(Path(sys.executable).with_name("floatipctl"))
        argv = [floatipctl, "sweep", "--range", "192.168.0.0/24"]
        sweeping = threading.Thread(target=lambda: sweeper.run(argv, timeout=90))
        sweeping.start()
        until(lambda: lab.ec2.faults.held > 0)
        heir.add(heir.pod("new"), lab.conflist([VIP]))
        sweeping.join(90)
        assert leads_to() == {f"{heir.enis[1].id} active"}
        assert "<late>" not in outcomes()
        before = len(lab.ec2.journal.of("CreateRoute", heir.name))
        lab.ec2.faults.clear()  # what was under way arrives
        until(lambda: "<late>" in outcomes(), seconds=10)
        until(lambda: len(lab.ec2.journal.of("CreateRoute", heir.name)) > before, seconds=90)
        assert leads_to() == {f"{heir.enis[1].id} active"}
