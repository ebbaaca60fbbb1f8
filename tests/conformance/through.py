"""The executable that a cluster runs: the installed client on each node of the lab, and the agent behind it.

A test speaks to it as to direct mode. What direct mode reads at each call (the node configuration, where AWS
is) the agent reads when it starts, so it is started again before a call where that has changed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab import agent
from lab.errors import LabError
from lab.node import Node
from lab.world import Lab
from tests.support.waiting import until

NOT_NOW = ("not released yet", "cannot read the route tables", "cannot release")
"""What the agent says of a release that is left for later."""

HASTENED = {
    "cni_floatip.agent.keeper.loop.SPACING_SECONDS": 0.1,  # between two looks; most tests would wait for it
    "cni_floatip.agent.keeper.loop.LOOKS_AFTER_ADD": [],  # so that no look comes between a change and CHECK
}
"""What differs from the product: when the keeper looks, which ``tests/agent/keeper`` is about."""

PODS_LEFT_ALONE = {
    "cni_floatip.agent.watch.watched_pods.FIRST_SECONDS": 3600,
    "cni_floatip.agent.watch.watched_pods.SETTLE_SECONDS": 3600,
    "cni_floatip.agent.watch.watched_pods.APART_SECONDS": 3600,
}
"""When the agent looks into pods, so that CHECK finds what a test has changed there."""

DIRECT_ONLY = {
    "test_S04_status_creates_nothing": "an agent makes its directories when it starts",
    # Direct mode as such.
    "test_an_agent_has_the_node": "refuses beside an agent; here the agent is who answers",
    "test_keep_leaves_the_route_and_ends_the_claim[default]": "`release` is the default with an agent",
    "test_G05_direct_mode_keeps_routes_by_default": "`release` is the default with an agent",
    "test_D08_ec2_is_out_of_reach": "the next call works off what is left; here the keeper does",
    "test_D12_without_a_policy_it_knows_of_nothing": "the agent has read its policy when it started",
    "test_D12_of_a_policy_with_faults_its_directories_are_believed": "DEL waits for an agent in the spool",
    "test_D07_on_a_node_where_nothing_was_ever_added": "an agent has made its data directory when it started",
    # The client's end is not the end of the work: see test_through_agent.
    "test_P13_killed_between_its_writes_and_cleaned_by_del": "a dead client's ADD is taken back at once",
    "test_P13_killed_and_its_last_write_lands_after_del": "the keeper looks by itself at what lands late",
    # The node configuration is the agent's: without a sound one there is no agent to answer.
    "test_S03_the_node_configuration_is_missing_or_wrong": "the agent does not start: STATUS is 50 for that",
    "test_without_a_sound_policy_nothing_is_allowed": "the agent does not start: ADD is 11",
    "test_S03_the_data_directory_cannot_be_used": "the agent does not start: STATUS is 50 for that",
    "test_S03_everything_that_is_missing_is_named": "the agent does not start: STATUS is 50 for that",
    "test_S03_metadata_is_away": "the agent says that there are no credentials",
    # EC2 comes after the answer.
    "test_G06_it_goes_on_after_an_error_and_reports_them_all": "GC leaves EC2 to the keeper",
    # What is inside the process of direct mode.
    "test_P08_P09_what_a_library_prints_goes_to_stderr": "no library runs in the client",
    "test_P11_an_uncaught_exception_is_error_999_and_its_traceback_stays_off_stdout": "a changed direct mode",
    "test_S04_status_is_cheap": "the agent asks metadata by itself",
}
"""Tests that hold direct mode to something that client and agent do otherwise, by design."""


class Agents:
    """The lab's agents, for one test after another."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.hastened = HASTENED | PODS_LEFT_ALONE
        """What differs from the product in an agent that is started from now on."""
        self._started_with: dict[str, tuple[str, dict[str, str]]] = {}
        self._logged: dict[str, int] = {}
        self._starting = threading.Lock()
        for node in lab.nodes.values():
            node.install_client()

    def client(self, node: Node) -> Path:
        """Return the executable that the node's runtime starts."""
        return node.bin_dir / "floatip"

    def prepare(self, node: Node, environ: Mapping[str, str]) -> None:
        """See that the agent runs with the node's configuration of now, and knows AWS as ``environ`` does."""
        if environ.get("CNI_COMMAND") == "VERSION" or "FLOATIP_CONFIG" not in environ:
            return  # the client answers by itself
        with self._starting:
            self._prepare(node, environ)

    def _prepare(self, node: Node, environ: Mapping[str, str]) -> None:
        log = node.agent.log_file
        self._logged[node.name] = log.stat().st_size if log.exists() else 0
        aws = {name: value for name, value in environ.items() if name.startswith(("AWS_", "FLOATIP_"))}
        path = Path(environ.get("FLOATIP_CONFIG", node.env["FLOATIP_CONFIG"]))
        text = path.read_text() if path.exists() else ""
        aws[agent.HASTENED] = json.dumps(self.hastened)
        if node.agent.is_running and self._started_with.get(node.name) == (text, aws):
            return
        node.agent.kill()
        self._started_with[node.name] = (text, aws)
        with contextlib.suppress(LabError):  # it refuses its configuration: the client finds nobody
            node.start_agent(env=aws)
            until(lambda: node.agent.is_ready or "no AWS credentials" in self.told(node))

    def rest(self, node: Node, environ: Mapping[str, str]) -> None:
        """Start the agent and wait for its first look: the next one comes in most of a minute."""
        node.agent.kill()
        began = time.time()
        self.prepare(node, environ)

        def has_looked() -> bool:
            calls = self.lab.ec2.journal.of(caller=node.name)
            actions = [call.action for call in calls if call.at > began and call.outcome == "ok"]
            _, routes, after = "\n".join(actions).partition("DescribeRouteTables")
            return routes != "" and "DescribeNetworkInterfaces" in after  # source/dest checks come last

        until(has_looked)

    def told(self, node: Node) -> str:
        """Return what the agent has written since it was last prepared for a call."""
        if not node.agent.log_file.exists():
            return ""
        with node.agent.log_file.open("rb") as log:
            log.seek(self._logged.get(node.name, 0))
            return log.read().decode(errors="replace")

    @contextlib.contextmanager
    def offline(self, node: Node) -> Iterator[None]:
        """The node while its agent does not run; the next call finds one that has just started."""
        node.agent.kill()
        yield

    def settle(self, node: Node) -> None:
        """Let the keeper release what is to be released, or say why it cannot."""

        def has_settled() -> bool:
            if not (node.agent.is_running and _releasing(node)):
                return True
            sentence = self.told(node)
            return any(why in sentence for why in NOT_NOW)

        until(has_settled)

    def forget(self, node: Node) -> None:
        """Make the node's disk new. An agent that knows of no claim goes on: to start one takes a while."""
        if any((node.data_dir / "claims").glob("*")) or not node.agent.is_running:
            node.agent.kill()
            shutil.rmtree(node.data_dir, ignore_errors=True)
            shutil.rmtree(node.agent.spool, ignore_errors=True)
            node.data_dir.mkdir()

    def close(self) -> None:
        """Leave the nodes to direct mode."""
        for node in self.lab.nodes.values():
            node.agent.kill()
            shutil.rmtree(node.bin_dir)
            shutil.rmtree(node.data_dir, ignore_errors=True)
            node.data_dir.mkdir()


def _releasing(node: Node) -> bool:
    for path in (node.data_dir / "claims").glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # gone meanwhile, or corrupt
            claim = json.loads(path.read_text())
            if claim["unresolved"] or any(route["state"] == "releasing" for route in claim["routes"]):
                return True
    return False
