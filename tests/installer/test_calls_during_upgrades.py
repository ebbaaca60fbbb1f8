"""Install, upgrade, downgrade and repair while a runtime makes calls without a pause: none fails.

The calls go through the really installed client to the real agent of a lab node. One condition cannot be had
otherwise: while the visible file is *gone* nobody can run it. A call that meets that moment is made again, as
kubelet does, and succeeds once the agent has put the file back.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cni_floatip import __version__, installer
from lab.agent import PROGRAM
from lab.world import Lab
from tests.faults_agent.dying_agents import Served
from tests.installer.plugin_directories import NEWER
from tests.support.samples import sampled
from tests.support.two_nodes import Answer, Attachment, Scene
from tests.support.waiting import until

pytestmark = [pytest.mark.lab(nodes_per_az=1), pytest.mark.needs("tc")]


NEWER_AGENT = Path(__file__).with_name("newer_agent.py")
PODS = 10
AGAIN_SECONDS = 15.0
"""Within which a repair must be done on however busy a machine; it takes one or two."""


@pytest.fixture(scope="module")
def upgraded_node(lab: Lab, bundles: tuple[Path, Path]) -> Node:
    return Node(lab, bundles)


class Node:
    """A lab node, and the two releases that come and go on it."""

    def __init__(self, lab: Lab, bundles: tuple[Path, Path]) -> None:
        self.node = lab.nodes["a1"]
        self.scene = Scene(lab)
        self.place = Served(lab, self.node, "agent")
        self.bin_dir = self.node.bin_dir
        self.bin_dir.mkdir()
        newer = [sys.executable, str(NEWER_AGENT), NEWER]
        self._ways = {__version__: ([str(PROGRAM)], bundles[0]), NEWER: (newer, bundles[1])}

    def install(self, release: str) -> None:
        program, bundle = self._ways[release]
        where = ["--bin-dir", str(self.bin_dir), "--bundle", str(bundle)]
        done = self.node.run([*program, "install-client", *where])
        assert done.returncode == 0, done.stderr

    def start_agent(self, release: str) -> None:
        program, bundle = self._ways[release]
        where = ["--bin-dir", str(self.bin_dir), "--bundle", str(bundle)]
        self.node.agent.command = [*program, "agent", *where]
        self.node.start_agent()
        self.node.agent.wait_ready()

    def stop_agent(self) -> None:
        """Stop the agent if one runs, perhaps the one that an earlier test left."""
        if self.node.agent.is_running:
            self.node.stop_agent()

    def release(self) -> str:
        try:
            return installer.read_installed(self.bin_dir).release
        except installer.Unsound as e:
            return str(e)

    def records(self) -> dict[str, bytes]:
        """Return the claim files that the newer release wrote."""
        paths = (self.place.data / "claims").glob("*.json")
        results = {path.name: path.read_bytes() for path in paths}
        return {name: record for name, record in results.items() if b'"version": 3' in record}

    def repairs(self) -> float:
        return self.node.agent.metrics()["floatip_client_repairs_total"]

    def logged_repairs(self) -> int:
        """Return how many repairs the log of all agents of this node tells of."""
        lines = self.node.agent.said()
        return len([line for line in lines if ": repaired, release" in line.get("msg", "")])

    def has_repaired(self, times: int, release: str) -> bool:
        return self.repairs() == times and self.release() == release


class Runtime:
    """Pods whose runtime adds and deletes them without end, ``per_second`` calls in all."""

    def __init__(self, node: Node, per_second: int) -> None:
        self._per_second = per_second
        self.pods = [
            node.scene.attach(node.place, f"192.168.0.{n}/24", tables=("a",)) for n in range(2, 2 + PODS)
        ]
        self.calls = 0
        self.wrong: list[str] = []
        self.again: list[float] = []
        """How long the calls took that could not be run at first."""
        self.forgiving = False
        """Whether a client that cannot be run is tried again, for now."""
        self._over = threading.Event()

    def __enter__(self) -> Runtime:
        self._threads = [threading.Thread(target=self._live, args=(n,)) for n in range(PODS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _live(self, number: int) -> None:
        period = PODS / self._per_second
        self._over.wait(number * period / PODS)
        due = time.monotonic()
        while not self._over.is_set():
            pod = self.pods[number].again()
            for call in (pod.add, pod.delete):
                self._make(call, pod)
                due = max(due + period, time.monotonic() - period)
                self._over.wait(max(0.0, due - time.monotonic()))

    def _make(self, call: Callable[[], Answer], pod: Attachment) -> None:
        began, tried = time.monotonic(), 0
        while True:
            text = ""
            try:
                answer = call()
                if answer.code:
                    text = str(answer)
            except OSError as e:
                text = str(e)
            tried += 1
            if not text:
                self.calls += 1
                if tried > 1:
                    self.again.append(time.monotonic() - began)
                return
            if not self.forgiving or time.monotonic() > began + AGAIN_SECONDS:
                self.wrong.append(f"{call.__name__} {pod.container}: {text}")
                return
            time.sleep(0.25)

    def go_on(self) -> None:
        """Let calls come in while nothing changes: one of each pod, say."""
        enough = self.calls + PODS
        until(lambda: self.calls >= enough or self.wrong)


@pytest.mark.parametrize("per_second", sampled("test_not_one_call_fails", [5, 20], [5]))
def test_not_one_call_fails(upgraded_node: Node, per_second: int) -> None:
    upgraded_node.stop_agent()
    upgraded_node.install(__version__)
    upgraded_node.start_agent(__version__)
    began, before = time.monotonic(), upgraded_node.logged_repairs()
    with Runtime(upgraded_node, per_second) as runtime:
        runtime.go_on()
        upgraded_node.install(__version__)  # again

        upgraded_node.install(NEWER)
        assert upgraded_node.release() == NEWER
        runtime.go_on()  # the older agent leaves it alone
        assert upgraded_node.release() == NEWER
        upgraded_node.stop_agent()
        upgraded_node.start_agent(NEWER)
        runtime.go_on()

        upgraded_node.install(__version__)
        upgraded_node.stop_agent()
        upgraded_node.start_agent(__version__)  # meets claims that the newer one wrote
        runtime.go_on()
        assert upgraded_node.release() == __version__
        assert runtime.wrong == []
        assert runtime.again == []

        runtime.forgiving = True
        for damaged, damage in enumerate((remove_client, remove_interpreter, cut_client), 1):
            damage(upgraded_node.bin_dir)
            until(partial(upgraded_node.has_repaired, damaged, __version__))
            runtime.go_on()
    seconds = time.monotonic() - began
    assert runtime.wrong == []
    print(f"{runtime.calls} calls in {seconds:.1f} s, made again {sorted(runtime.again)}")  # noqa: T201
    assert upgraded_node.repairs() == 3
    assert upgraded_node.logged_repairs() == before + 3


def remove_client(bin_dir: Path) -> None:
    (bin_dir / "floatip").unlink()


def remove_interpreter(bin_dir: Path) -> None:
    installer.read_installed(bin_dir).interpreter.unlink()


def cut_client(bin_dir: Path) -> None:
    path = bin_dir / "floatip"
    with contextlib.suppress(OSError):
        path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.thorough(sample="test_not_one_call_fails[5]")
def test_claims_of_the_newer_release_are_kept_and_reported_and_del_works(upgraded_node: Node) -> None:
    upgraded_node.stop_agent()
    upgraded_node.install(NEWER)
    upgraded_node.start_agent(NEWER)
    pod = upgraded_node.scene.attach(upgraded_node.place, "192.168.0.100/24", tables=("a",))
    assert pod.add().code == 0
    assert (written := upgraded_node.records())
    upgraded_node.node.agent.kill()
    upgraded_node.install(__version__)
    upgraded_node.start_agent(__version__)
    output = [line["msg"] for line in upgraded_node.node.agent.said() if line.get("level") == "warning"]
    assert any("written by a newer release (version 3)" in sentence for sentence in output)
    shown = upgraded_node.node.run([str(PROGRAM), "status"])
    assert "written by a newer release (version 3)" in shown.stdout
    assert pod.delete().code == 0
    assert "a1 eth1" in upgraded_node.scene.routes("192.168.0.100/32")["a"]
    assert pod.again().add().code == 0
    upgraded_node.node.agent.kill()
    assert written.items() <= upgraded_node.records().items()
    upgraded_node.start_agent(NEWER)
    assert upgraded_node.node.agent.is_ready


def test_a_client_that_cannot_be_repaired_is_seen(upgraded_node: Node) -> None:
    if not upgraded_node.node.agent.is_running:
        upgraded_node.install(__version__)
        upgraded_node.start_agent(__version__)
    path = upgraded_node.bin_dir / "floatip"
    path.unlink()
    path.mkdir()
    until(lambda: upgraded_node.node.agent.readiness()[0] == 503)
    assert "the client cannot be used" in upgraded_node.node.agent.readiness()[1]
    shown = upgraded_node.node.run([str(PROGRAM), "status"])
    assert shown.returncode == 1
    assert f"{path} is a directory" in shown.stdout
    path.rmdir()
    until(lambda: upgraded_node.node.agent.is_ready)
