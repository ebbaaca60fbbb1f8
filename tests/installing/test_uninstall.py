"""``floatipctl uninstall``: everything goes, nothing that a pod needs, and nothing that is another's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.claims import Claim, ClaimedRoute, State
from cni_floatip.model import Attachment, Place, PodIdentity
from cni_floatip.store import Store
from lab.ec2 import SimulatedEC2, sample
from lab.webserver import open_socket
from tests.installing.places import command, config, tree

HERE = "/proc/self/ns/net"
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture(scope="module")
def cloud() -> Iterator[Any]:
    ec2 = SimulatedEC2()
    host, port = ec2.listen(open_socket("127.0.0.1", 0), "a1").address
    yield ec2, f"http://{host}:{port}"
    ec2.close()


class Here:
    """A node with the client installed, a socket that an agent left, and records of claims."""

    def __init__(self, ec2: Any, url: str, root: Path, bin_dir: Path, bundle: Path) -> None:
        ec2.reset()
        ec2.faults.clear()
        self.ec2, self.vpc = ec2, sample.build(ec2)
        self.root, self.bin_dir = root, bin_dir
        self.config = config(root)
        self.store = Store(str(root / "data"), sleep=time.sleep, clock=time.monotonic)
        self.environ = {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL_EC2": url,
            "AWS_REGION": ec2.region,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9",
        }
        self.run("install-client", "--bundle", bundle)
        (root / "run").mkdir()
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(os.path.relpath(root / "run" / "agent.sock"))

    def run(self, verb: str, *options: object) -> tuple[int, str, str]:
        argv = command(verb, self.bin_dir, "--config", self.config, *options)
        done = subprocess.run(argv, env=self.environ, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def claim(self, state: State, **said: Any) -> None:
        place = Place(self.vpc.tables["a"], ip_network("192.168.0.2/32"))
        claim = Claim(
            attachment=Attachment("vip", "c1", "net1"),
            eni=self.vpc.enis["a"],
            region=self.ec2.region,
            netns=HERE,
            netns_inode=os.stat(HERE).st_ino,  # noqa: PTH116
            boot=BOOT,
            pod=PodIdentity("core", "upf-0", "u"),
            on_delete="release",
            routes=(ClaimedRoute(place, state, after=time.time() + 60 if state is State.RELEASING else 0),),
            addresses=(ip_interface("192.168.0.2/28"),),
            written=time.time(),
            **said,
        )
        self.store.put(claim)
        self.ec2.client().create_route(
            RouteTableId=place.table,
            DestinationCidrBlock="192.168.0.2/32",
            NetworkInterfaceId=self.vpc.enis["a"],
        )

    @property
    def route(self) -> bool:
        return "192.168.0.2/32" in self.ec2.truth(self.vpc.tables["a"])

    def left(self) -> list[str]:
        return [name for name in tree(self.root) if name not in ("bin", "config.json")]


@pytest.fixture
def here(cloud, tmp_path, bin_dir, bundles, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    return Here(*cloud, tmp_path, bin_dir, bundles[0])


def test_everything_goes_and_twice_is_once(here):
    (here.bin_dir / "bridge").write_text("another plugin")
    (here.bin_dir / ".floatip.1.new").write_text("what a killed installer left")
    here.claim(State.GONE)
    before = here.left()
    status, out, _ = here.run("uninstall", "--dry-run")
    assert status == 0
    assert set(here.left()) - {"data/lock"} == set(before)
    assert all(line.startswith("would remove ") for line in out.splitlines())
    status, out, err = here.run("uninstall")
    assert (status, err) == (0, "")
    assert f"removed {here.bin_dir}/floatip\n" in out
    assert here.left() == ["bin/bridge"]
    assert here.run("uninstall") == (0, "nothing of cni-floatip is here\n", "")


def test_it_refuses_while_a_pod_has_its_address(here):
    here.claim(State.HELD)
    before = here.left()
    for options in ([], ["--dry-run"]):
        status, out, err = here.run("uninstall", *options)
        assert (status, out) == (1, "")
        assert "pod core/upf-0 (net1 192.168.0.2) is still here" in err
        assert "--force" in err
        assert set(here.left()) >= set(before)
    assert here.route
    status, out, err = here.run("uninstall", "--force")
    assert status == 0
    assert "pod core/upf-0" in err
    assert here.left() == []
    assert here.route  # the pod goes on working


def test_it_finishes_what_is_to_be_released(here):
    here.claim(State.RELEASING)
    assert here.run("uninstall")[0] == 0
    assert not here.route
    assert here.left() == []


def test_it_refuses_when_ec2_does_not_let_it_finish(here):
    here.claim(State.RELEASING)
    here.ec2.faults.error("DeleteRoute", "UnauthorizedOperation", "no", times=50, status=403)
    status, _, err = here.run("uninstall")
    assert status == 1
    assert "still to be released" in err
    assert "floatipctl gc" in err
    assert (here.bin_dir / "floatip").exists()


def test_a_del_in_the_spool_is_done_first(here):
    here.claim(State.HELD)
    env = {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "net1",
        "CNI_NETNS": "",
        "CNI_PATH": "/opt/cni/bin",
    }
    stdin = json.dumps(
        {"cniVersion": "1.0.0", "name": "vip", "type": "floatip", "routeTables": {"all": True}}
    )
    (here.root / "run" / "agent.sock").unlink()
    done = subprocess.run([here.bin_dir / "floatip"], env=env, input=stdin, capture_output=True, text=True)
    assert "this DEL is done when there is one" in done.stderr
    assert here.run("uninstall")[0] == 0
    assert not here.route
    assert here.left() == []


def test_it_refuses_beside_an_agent(here):
    holder = (
        "import sys, time; from cni_floatip.store import Store\n"
        "with Store(sys.argv[1], sleep=time.sleep, clock=time.monotonic).own(alone=True) as alone:\n"
        "    print(alone, flush=True); sys.stdin.read()"
    )
    here.claim(State.GONE)
    agent = subprocess.Popen(
        [sys.executable, "-c", holder, str(here.root / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert agent.stdout
    assert agent.stdout.readline() == "True\n"
    try:
        status, out, err = here.run("uninstall", "--force")
    finally:
        agent.communicate()
    assert (status, out) == (1, "")
    assert "a node agent has" in err
    assert "uninstall the DaemonSet first" in err
    assert (here.bin_dir / "floatip").exists()


def test_a_record_that_it_cannot_read_is_not_thrown_away(here):
    here.claim(State.GONE)
    (record,) = (here.root / "data" / "claims").glob("*.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"version": 2}))
    status, _, err = here.run("uninstall")
    assert status == 1
    assert "written by a newer release" in err
    assert record.exists()


def test_only_what_is_ours_goes(here):
    here.claim(State.GONE)
    (here.root / "data" / "notes").write_text("an administrator's")
    (here.root / "run" / "other.sock").write_text("")
    status, out, _ = here.run("uninstall")
    assert status == 0
    assert f"left {here.root}/data: Directory not empty" in out
    assert here.left() == ["data", "data/notes", "run", "run/other.sock"]
