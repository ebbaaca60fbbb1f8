"""``floatipctl uninstall``: everything goes, nothing that a pod needs, and nothing that is another's."""

from __future__ import annotations

import contextlib
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

from cni_floatip.edges.store import Store
from cni_floatip.model.claim_state import State
from cni_floatip.model.values import Attachment, PodIdentity, RouteKey
from lab.agent import server
from lab.ec2 import SimulatedEC2, sample
from lab.forkserver import Forked, run_to_end
from lab.imds import Imds
from lab.webserver import open_socket
from tests.installer.plugin_directories import Mounts, command, config, tree
from tests.support.claims import a_claim, a_route

HERE = "/proc/self/ns/net"
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Here:
    """A node with the client installed, a socket that an agent left, and records of claims."""

    def __init__(self, ec2: Any, url: str, root: Path, bin_dir: Path, bundle: Path) -> None:
        self.ec2, self.vpc = ec2, sample.fresh(ec2)
        self.metadata = Imds(lambda: ec2.instance(self.vpc.instances["a"]))
        host, port = self.metadata.listen(open_socket("127.0.0.1", 0)).address
        self.root, self.bin_dir = root, bin_dir
        self.config = config(root)
        self.store = Store(str(root / "data"), sleep=time.sleep, clock=time.monotonic)
        self.environ = {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL_EC2": url,
            "AWS_REGION": ec2.region,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{host}:{port}",
        }
        self.run("install-client", "--bundle", bundle)
        (root / "run").mkdir()
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(os.path.relpath(root / "run" / "agent.sock"))

    def run(self, verb: str, *options: object) -> tuple[int, str, str]:
        """Run ``floatipctl``, by a fork of a process that has loaded it."""
        texts = command(verb, self.bin_dir, "--config", self.config, *options)
        argv = ["floatipctl", *texts[texts.index(verb) :]]
        pipe = subprocess.PIPE
        process = Forked(
            server(), "cni_floatip.cli:main", argv, env=self.environ, text=True, stdout=pipe, stderr=pipe
        )
        done = run_to_end(process)
        return done.returncode, done.stdout, done.stderr

    def claim(self, state: State, **output: Any) -> None:
        key = RouteKey(self.vpc.tables["a"], ip_network("192.168.0.2/32"))
        fields = {
            "attachment": Attachment("vip", "c1", "net1"),
            "eni": self.vpc.enis["a"],
            "region": self.ec2.region,
            "netns": HERE,
            "netns_inode": os.stat(HERE).st_ino,  # noqa: PTH116
            "boot": BOOT,
            "pod": PodIdentity("core", "upf-0", "u"),
            "addresses": (ip_interface("192.168.0.2/28"),),
            "last_write_at": time.time(),
        }
        after = time.time() + 60 if state is State.RELEASING else 0
        self.store.put(a_claim(a_route(state, key.table, not_before=after), **{**fields, **output}))
        if not self.route:
            self.ec2.client().create_route(
                RouteTableId=key.table,
                DestinationCidrBlock="192.168.0.2/32",
                NetworkInterfaceId=self.vpc.enis["a"],
            )

    @property
    def route(self) -> bool:
        return "192.168.0.2/32" in self.ec2.truth(self.vpc.tables["a"])

    def delete(self, **output: Any) -> None:
        """The runtime's DEL while there is no agent: it waits in the spool."""
        (self.root / "run" / "agent.sock").unlink(missing_ok=True)
        env = {
            "CNI_COMMAND": "DEL",
            "CNI_CONTAINERID": "c1",
            "CNI_IFNAME": "net1",
            "CNI_NETNS": "",
            "CNI_PATH": "/opt/cni/bin",
        }
        config = {"cniVersion": "1.0.0", "name": "vip", "type": "floatip", "routeTables": {"all": True}}
        done = subprocess.run(
            [self.bin_dir / "floatip"],
            env=env,
            input=json.dumps(config | output),
            capture_output=True,
            text=True,
        )
        assert "the next agent performs this DEL" in done.stderr

    def left(self) -> list[str]:
        return [name for name in tree(self.root) if name not in ("bin", "config.json")]


@pytest.fixture
def worker(
    served_cloud: tuple[SimulatedEC2, str],
    tmp_path: Path,
    bin_dir: Path,
    bundles: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Here]:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    made = Here(*served_cloud, tmp_path, bin_dir, bundles[0])
    yield made
    made.metadata.close()


def test_everything_goes_and_twice_is_once(worker: Here) -> None:
    (worker.bin_dir / "bridge").write_text("another plugin")
    (worker.bin_dir / ".floatip.1.new").write_text("what a killed installer left")
    worker.claim(State.GONE)
    before = worker.left()
    status, out, _ = worker.run("uninstall", "--dry-run")
    assert status == 0
    assert worker.left() == before
    assert all(line.startswith("would remove ") for line in out.splitlines())
    status, out, err = worker.run("uninstall")
    assert (status, err) == (0, "")
    assert f"removed {worker.bin_dir}/floatip\n" in out
    assert worker.left() == ["bin/bridge"]
    assert worker.run("uninstall") == (0, "nothing of cni-floatip is here\n", "")


def test_it_refuses_while_a_pod_has_its_address(worker: Here) -> None:
    worker.claim(State.HELD)
    before = worker.left()
    for options in ([], ["--dry-run"]):
        status, out, err = worker.run("uninstall", *options)
        assert (status, out) == (1, "")
        assert "pod core/upf-0 (net1 192.168.0.2) is still here" in err
        assert "--force" in err
        assert set(worker.left()) >= set(before)
    assert worker.route
    status, out, err = worker.run("uninstall", "--force")
    assert status == 0
    assert "pod core/upf-0" in err
    assert worker.left() == []
    assert worker.route  # the pod goes on working


def test_it_finishes_what_is_to_be_released(worker: Here) -> None:
    worker.claim(State.RELEASING)
    status, out, err = worker.run("uninstall", "--dry-run")
    assert (status, err) == (0, "")
    assert "would release the routes that pod core/upf-0 (net1 192.168.0.2) left\n" in out
    assert worker.route
    assert worker.run("uninstall")[0] == 0
    assert not worker.route
    assert worker.left() == []


@pytest.mark.parametrize("state", [State.STANDBY, State.ACTIVE])
def test_it_leaves_a_node_with_elected_pods(worker: Here, state: State) -> None:
    worker.claim(state, group="")
    status, _, err = worker.run("uninstall")
    assert status == 1
    assert "pod core/upf-0 (net1 192.168.0.2) is still here" in err
    assert worker.route


def test_it_leaves_the_route_of_an_elected_pod_that_ended_to_its_group(worker: Here) -> None:
    worker.claim(State.RELEASING, group="core")
    assert "would release" not in worker.run("uninstall", "--dry-run")[1]
    assert worker.run("uninstall")[0] == 0
    assert worker.route
    assert worker.left() == []


def test_it_refuses_when_ec2_does_not_let_it_finish(worker: Here) -> None:
    worker.claim(State.RELEASING)
    worker.ec2.faults.error("DeleteRoute", "UnauthorizedOperation", "no", times=50, status=403)
    status, _, err = worker.run("uninstall")
    assert status == 1
    assert "not released yet" in err
    assert "floatipctl gc" in err
    assert (worker.bin_dir / "floatip").exists()


@pytest.mark.parametrize("said", [{}, {"awaits_address": True}], ids=["held", "waiting for an address"])
def test_what_is_of_an_earlier_boot_is_nobodys(worker: Here, said: dict[str, Any]) -> None:
    """``awaits_address``: the pod has taken every address away, and may put one back while it is there."""
    state = State.GONE if said else State.HELD
    worker.claim(state, **said)
    status, _, err = worker.run("uninstall")
    assert status == 1
    assert "pod core/upf-0 (net1 192.168.0.2) is still here" in err
    worker.claim(state, boot="another", **said)
    assert worker.run("uninstall", "--dry-run")[0] == 0
    assert worker.run("uninstall")[0] == 0
    assert worker.left() == []


def test_a_del_in_the_spool_is_done_first(worker: Here) -> None:
    worker.claim(State.HELD)
    worker.delete()
    status, out, err = worker.run("uninstall", "--dry-run")
    assert (status, err) == (0, "")
    assert out.startswith("would do the DEL that waits in ")
    assert "would release the routes that pod core/upf-0 (net1 192.168.0.2) left\n" in out
    assert worker.route
    assert worker.run("uninstall")[0] == 0
    assert not worker.route
    assert worker.left() == []


def test_it_refuses_beside_an_agent(worker: Here) -> None:
    holder = (
        "import sys, time; from cni_floatip.edges.store import Store\n"
        "with Store(sys.argv[1], sleep=time.sleep, clock=time.monotonic).lock(0, as_agent=True) as alone:\n"
        "    print(alone, flush=True); sys.stdin.read()"
    )
    worker.claim(State.GONE)
    agent = subprocess.Popen(
        [sys.executable, "-c", holder, str(worker.root / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert agent.stdout
    assert agent.stdout.readline() == "True\n"
    try:
        status, out, err = worker.run("uninstall", "--force")
    finally:
        agent.communicate()
    assert (status, out) == (1, "")
    assert "a node agent uses" in err
    assert "uninstall the DaemonSet first" in err
    assert (worker.bin_dir / "floatip").exists()


def test_a_record_that_it_cannot_read_is_not_thrown_away(worker: Here) -> None:
    worker.claim(State.GONE)
    (record,) = (worker.root / "data" / "claims").glob("*.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"version": 3}))
    status, _, err = worker.run("uninstall")
    assert status == 1
    assert "written by a newer release" in err
    assert record.exists()


def test_only_what_is_ours_goes(worker: Here) -> None:
    worker.claim(State.GONE)
    (worker.root / "data" / "notes").write_text("an administrator's")
    (worker.root / "run" / "other.sock").write_text("")
    status, out, _ = worker.run("uninstall")
    assert status == 0
    assert f"left {worker.root}/data: Directory not empty" in out
    assert worker.left() == ["data", "data/notes", "run", "run/other.sock"]


def test_a_record_that_was_set_aside_may_be_a_pods(worker: Here) -> None:
    """Set aside by this call, or by an agent long ago."""
    worker.claim(State.HELD)
    (record,) = (worker.root / "data" / "claims").glob("*.json")
    record.write_text("{not json")
    for options in ([], ["--dry-run"], []):
        status, _, err = worker.run("uninstall", *options)
        assert status == 1
        assert f"{worker.root}/data/corrupt/{record.stem}." in err
        assert err.count("an unreadable record") == 1
    assert (worker.bin_dir / "floatip").exists()
    for lost in (worker.root / "data" / "corrupt").iterdir():
        lost.unlink()
    assert worker.run("uninstall")[0] == 0
    assert worker.left() == []


def test_a_del_for_it_releases_as_an_agent_would(worker: Here) -> None:
    worker.claim(State.HELD)
    (record,) = (worker.root / "data" / "claims").glob("*.json")
    record.write_text("{not json")
    table = worker.vpc.tables["a"]
    config(
        worker.root,
        allowedDestinations=[{"cidr": "192.168.0.0/24"}],
        allowedRouteTables={"ids": [table]},
    )
    (result,) = worker.ec2.client().describe_network_interfaces(NetworkInterfaceIds=[worker.vpc.enis["a"]])[
        "NetworkInterfaces"
    ]
    prev = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "mac": result["MacAddress"], "sandbox": "/run/netns/x"}],
        "ips": [{"address": "192.168.0.2/28", "interface": 0}],
    }
    worker.delete(prevResult=prev, routeTables={"ids": [table]})
    assert worker.run("uninstall")[0] == 0
    assert not worker.route
    assert worker.left() == []


def test_a_del_that_cannot_be_done_is_not_thrown_away(worker: Here) -> None:
    worker.claim(State.GONE)
    worker.delete()
    (waiting,) = (worker.root / "data" / "spool").iterdir()
    (worker.root / "data" / "spool" / "other.del").mkdir()
    status, _, err = worker.run("uninstall")
    assert status == 1
    assert f"1 DEL in {worker.root}/data/spool cannot be performed" in err
    assert not waiting.exists()


def test_a_del_of_what_was_never_claimed_is_no_obstacle(worker: Here) -> None:
    worker.delete()
    assert worker.run("uninstall")[0] == 0
    assert worker.left() == []


def test_a_mistyped_configuration_is_not_taken_for_another(worker: Here) -> None:
    """Its directories would be the default ones, with no record of the pods that are here."""
    worker.claim(State.HELD)
    path, worker.config = worker.config, worker.root / "confg.json"
    for text in (None, "{", '{"dataDir": 1}'):
        if text:
            worker.config.write_text(text)
        status, out, err = worker.run("uninstall")
        assert (status, out) == (1, "")
        assert str(worker.config) in err
        assert (worker.bin_dir / "floatip").exists()
    worker.config.unlink()
    worker.config = path
    assert "is still here" in worker.run("uninstall")[2]


def test_it_waits_for_a_call_that_is_under_way(worker: Here) -> None:
    """A call in direct mode has the data directory alone."""
    worker.claim(State.GONE)
    holder = (
        "import sys, time; from cni_floatip.edges.store import Store\n"
        "with Store(sys.argv[1], sleep=time.sleep, clock=time.monotonic).lock(0) as held:\n"
        "    print(held, flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    call = subprocess.Popen(
        [sys.executable, "-c", holder, str(worker.root / "data")], stdin=pipe, stdout=pipe, text=True
    )
    assert call.stdout
    assert call.stdout.readline() == "True\n"
    argv = command("uninstall", worker.bin_dir, "--config", worker.config)
    uninstaller = subprocess.Popen(argv, env=worker.environ, stdout=pipe, text=True)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            uninstaller.wait(3)
        assert (worker.bin_dir / "floatip").exists()
    finally:
        call.communicate()
        uninstaller.communicate(timeout=30)
    assert uninstaller.returncode == 0
    assert worker.left() == []


def test_what_that_call_claims_is_no_more_removed_than_what_was_there(worker: Here) -> None:
    """Also where nothing had ever been claimed before."""
    (worker.root / "data").mkdir(exist_ok=True)
    assert not worker.store.exists()
    argv = command("uninstall", worker.bin_dir, "--config", worker.config)
    pipe = subprocess.PIPE
    with worker.store.lock(0) as held:
        assert held
        uninstaller = subprocess.Popen(argv, env=worker.environ, stdout=pipe, stderr=pipe, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            uninstaller.wait(3)
        worker.claim(State.HELD)
    _, err = uninstaller.communicate(timeout=30)
    assert "is still here" in err
    assert uninstaller.returncode == 1
    assert (worker.bin_dir / "floatip").exists()


@pytest.mark.needs("root", "unshare", "nsenter")
def test_a_full_disk_keeps_nobody_from_making_room(worker: Here, mounts: Mounts) -> None:
    """What is to be released is, though that cannot be recorded any more."""
    data = worker.root / "data"
    data.mkdir()
    mounts.mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", data)
    path = mounts.outside(data)
    worker.store = Store(str(path), sleep=time.sleep, clock=time.monotonic)
    worker.claim(State.RELEASING)
    with contextlib.suppress(OSError), (path / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    done = mounts.run(command("uninstall", worker.bin_dir, "--config", worker.config), worker.environ)
    assert done.returncode == 0, done.stderr
    assert not worker.route
    assert not (worker.bin_dir / "floatip").exists()
