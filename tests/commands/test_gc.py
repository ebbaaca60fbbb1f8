"""``floatipctl gc`` against the simulated EC2: what is to be released goes, and nothing else."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.edges.store import Store
from cni_floatip.model.claim import LATE_SECONDS, Claim
from cni_floatip.model.claim_state import State
from cni_floatip.model.values import Attachment
from cni_floatip.protocol import wire
from lab.agent import start_program
from lab.ec2 import SimulatedEC2, sample
from lab.forkserver import run_to_end
from tests.support.claims import a_claim, a_route

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
HERE = "/proc/self/ns/net"


class Here:
    """This node: its data directory, its ENI, and the route tables around it."""

    def __init__(self, ec2: Any, url: str, directory: Path) -> None:
        self.ec2, self.vpc = ec2, sample.fresh(ec2)
        self.store = Store(str(directory / "state"), sleep=time.sleep, clock=time.monotonic)
        self.directory = directory
        config = directory / "config.json"
        self.spool = directory / "spool"
        config.write_text(json.dumps({"dataDir": str(directory / "state"), "spoolDir": str(self.spool)}))
        self.environ = {
            "PATH": os.environ["PATH"],
            "FLOATIP_CONFIG": str(config),
            "AWS_ENDPOINT_URL_EC2": url,
            "AWS_REGION": ec2.region,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }

    def claim(self, container: str, state: State, zone: str = "a", **output: Any) -> Claim:
        """Put a claim of 192.168.0.2/32 in table a on disk."""
        fields = {
            "attachment": Attachment("vip", container, "net1"),
            "eni": self.vpc.enis[zone],
            "region": self.ec2.region,
            "netns": HERE,
            "netns_inode": os.stat(HERE).st_ino,  # noqa: PTH116 (as the product looks)
            "boot": BOOT,
            "last_write_at": time.time(),
        }
        claim = a_claim(a_route(state, self.vpc.tables["a"]), **{**fields, **output})
        self.store.put(claim)
        return claim

    def route(self, zone: str) -> None:
        """Point 192.168.0.2/32 in table a at the ENI of ``zone``."""
        self.ec2.client().create_route(
            RouteTableId=self.vpc.tables["a"],
            DestinationCidrBlock="192.168.0.2/32",
            NetworkInterfaceId=self.vpc.enis[zone],
        )

    def target(self) -> str | None:
        result = self.ec2.truth(self.vpc.tables["a"]).get("192.168.0.2/32")
        return result.target if result else None

    def states(self) -> dict[str, str]:
        return {claim.attachment.container: claim.state.value for claim in self.store.all()[0]}

    def gc(self, *argv: str) -> tuple[int, str]:
        pipe = subprocess.PIPE
        process = start_program(
            ["floatipctl", "gc", *argv], env=self.environ, text=True, stdout=pipe, stderr=pipe
        )
        ran = run_to_end(process)
        return ran.returncode, ran.stdout.replace(self.vpc.tables["a"], "rtb-a") + ran.stderr


@pytest.fixture
def here(served_cloud: tuple[SimulatedEC2, str], tmp_path: Path) -> Here:
    ec2, url = served_cloud
    return Here(ec2, url, tmp_path)


KEPT = "kept for 20 minutes in case a late write lands"


def test_gc_without_claims_does_nothing(here: Here) -> None:
    assert here.gc() == (0, "no claims\n")
    assert not (here.directory / "state").exists()


@pytest.fixture
def spooled(here: Here) -> Path:
    """A DEL of c2 in the spool, beside claims of c1 and c2."""
    here.claim("c1", State.HELD)
    here.claim("c2", State.HELD)
    here.spool.mkdir()
    env = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c2", "CNI_IFNAME": "net1", "CNI_PATH": "/nowhere"}
    (here.spool / "1.del").write_bytes(wire.body_bytes(env, b'{"name": "vip", "cniVersion": "1.0.0"}'))
    return here.spool / "1.del"


def test_a_del_in_the_spool_is_done(here: Here, spooled: Path) -> None:
    assert here.gc("--dry-run") == (0, f"vip/c2/net1: 1 DEL waits in the spool: {spooled}\n")
    assert here.states() == {"c1": "held", "c2": "held"}
    assert here.gc() == (0, f"vip/c2/net1: released: rtb-a 192.168.0.2/32; {KEPT}\n")
    assert here.states() == {"c1": "held", "c2": "gone"}
    assert list(here.spool.iterdir()) == []


def test_a_del_in_the_spool_is_kept_from_claims_that_are_not_its(here: Here, spooled: Path) -> None:
    another = here.directory / "another"
    (another / "claims").mkdir(parents=True)
    assert here.gc("--data-dir", str(another)) == (0, "nothing to do\n")
    assert spooled.exists()


def test_a_del_whose_record_is_lost_releases_as_under_an_agent(here: Here) -> None:
    here.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:1"
    here.claim("c2", State.HELD)
    next((here.directory / "state" / "claims").iterdir()).write_bytes(b"cut short")
    here.spool.mkdir()
    env = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c2", "CNI_IFNAME": "net1", "CNI_PATH": "/nowhere"}
    config = {"name": "vip", "cniVersion": "1.0.0", "prevResult": {"cniVersion": "1.0.0"}}
    (here.spool / "1.del").write_bytes(wire.body_bytes(env, json.dumps(config).encode()))
    status, _ = here.gc()
    assert status == 1
    assert here.states() == {"c2": "releasing"}


def test_a_file_in_the_spool_that_is_no_del_is_said(here: Here, spooled: Path) -> None:
    spooled.write_bytes(b"cut short")
    status, out = here.gc()
    assert status == 0
    assert f"{spooled}: not a DEL that can be performed" in out
    assert "agent" not in out
    assert here.states() == {"c1": "held", "c2": "held"}


def test_what_is_to_be_released_is_deleted_and_what_a_pod_holds_stays(here: Here) -> None:
    here.route("a")
    here.claim("c1", State.RELEASING)
    assert here.gc("--dry-run") == (0, "vip/c1/net1: to release: rtb-a 192.168.0.2/32\n")
    assert here.target() == here.vpc.enis["a"]
    assert here.states() == {"c1": "releasing"}
    assert here.gc() == (0, f"vip/c1/net1: released: rtb-a 192.168.0.2/32; {KEPT}\n")
    assert here.target() is None
    assert here.states() == {"c1": "gone"}
    assert here.gc() == (0, "nothing to do\n")


def test_a_route_that_a_pod_here_still_holds_stays(here: Here) -> None:
    here.route("a")
    here.claim("c1", State.RELEASING)
    here.claim("c2", State.HELD)
    assert here.gc()[0] == 0
    assert here.target() == here.vpc.enis["a"]
    assert here.states() == {"c1": "gone", "c2": "held"}


def test_another_nodes_route_stays(here: Here) -> None:
    here.route("b")
    here.claim("c1", State.RELEASING)
    assert here.gc()[0] == 0
    assert here.target() == here.vpc.enis["b"]
    assert here.states() == {"c1": "gone"}


def test_an_old_gone_claim_is_forgotten(here: Here) -> None:
    here.claim("c1", State.GONE, last_write_at=time.time() - LATE_SECONDS - 60)
    assert here.gc() == (0, "vip/c1/net1: forgotten\n")
    assert here.states() == {}


def test_a_claim_from_before_the_boot_is_ended(here: Here) -> None:
    here.route("a")
    here.claim("c1", State.HELD, boot="another")
    status, out = here.gc("--dry-run")
    assert (status, out) == (0, "vip/c1/net1: ended: the node was rebooted since\n")
    assert here.states() == {"c1": "held"}
    status, out = here.gc()
    assert status == 0
    assert f"vip/c1/net1: released: rtb-a 192.168.0.2/32; {KEPT}\n" in out
    assert here.target() is None


def test_what_ec2_refuses_is_left_and_said(here: Here) -> None:
    here.route("a")
    here.claim("c1", State.RELEASING)
    here.ec2.faults.error("DeleteRoute", "UnauthorizedOperation", "no", times=50, status=403)
    status, out = here.gc()
    assert status == 1
    assert "vip/c1/net1: left to release: rtb-a 192.168.0.2/32\n" in out
    assert "UnauthorizedOperation" in out
    assert here.states() == {"c1": "releasing"}


@pytest.mark.parametrize("option", [(), ("--dry-run",)], ids=["done", "dry run"])
def test_not_beside_an_agent(here: Here, option: tuple[str, ...]) -> None:
    here.claim("c1", State.RELEASING)
    with here.store.lock(0, as_agent=True):
        status, out = here.gc(*option)
    assert (status, out) == (
        1,
        f"floatipctl: a node agent uses {here.directory / 'state'} and does this itself\n",
    )
