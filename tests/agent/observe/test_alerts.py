"""The alerts of the documents over scenes: they fire while an address is dead, to its end, and else never."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cni_floatip.agent.observe.metrics import Metrics
from cni_floatip.agent.report import show
from cni_floatip.model.values import RouteTarget
from tests.agent.observe.prometheus import Alert, Page, documented, scraped
from tests.support.simulated_cluster import FLOATING, SimulatedCluster, SimulatedNode

ALERTS = list(documented())
SCRAPE_SECONDS = 15
NOTICED_SECONDS = 200
"""Two minutes that an alert waits for, and the longest gap between two looks."""

Scrapes = list[tuple[float, Page]]


class Scraped:
    """A cluster of which node a is scraped while time passes."""

    def __init__(self, directory: Path) -> None:
        self.cluster = SimulatedCluster(directory)
        self.a, self.b = self.cluster.nodes.values()
        self.metrics = Metrics("0")
        self.metrics.ready(True)
        self.counted = 0
        self.scrapes: Scrapes = []

    def pass_time(self, seconds: float) -> tuple[float, float]:
        """Let so much time pass; return from when until when that was."""
        began = self.cluster.now()
        for _ in range(int(seconds / SCRAPE_SECONDS)):
            self.cluster.pass_time(SCRAPE_SECONDS)
            show(self.metrics, self.a.keeper, self.a.claims.all()[0])
            for _ in range(self.a.superseded - self.counted):
                self.metrics.superseded_live()
            self.counted = self.a.superseded
            self.scrapes.append((self.cluster.now(), scraped(self.metrics.page().body)))
        return began, self.cluster.now()

    def fire(self, began: float = 0.0, ended: float = 1e12) -> dict[str, int]:
        """Return how often each alert fired within that time."""
        fired = {
            alert.name: [at for at in alert.fires(self.scrapes) if began < at <= ended] for alert in ALERTS
        }
        return {name: len(times) for name, times in fired.items() if times}


@pytest.fixture
def scraped_cluster(tmp_path: Path) -> Scraped:
    return Scraped(tmp_path)


def steal(scene: Scraped) -> None:
    scene.cluster.ec2.alive.add("eni-thief")
    scene.cluster.ec2.tables["rtb-1"][FLOATING] = RouteTarget("eni-thief", is_eni=True)


def block(scene: Scraped) -> None:
    scene.cluster.ec2.tables["rtb-1"][FLOATING] = RouteTarget("igw-1", is_eni=False)


def remove(scene: Scraped) -> None:
    """Delete the route, and let nobody create it again."""
    scene.cluster.ec2.refused.add("create")
    del scene.cluster.ec2.tables["rtb-1"][FLOATING]


def detach(scene: Scraped) -> None:
    scene.a.enis = scene.a.enis[1:]
    scene.cluster.ec2.alive.discard("eni-a")


def stop(scene: Scraped) -> None:
    """Our ENI is there and its route is a blackhole: the instance is being stopped."""
    scene.cluster.ec2.alive.discard("eni-a")


@pytest.mark.one_in(3)
@pytest.mark.parametrize("harm", [steal, block, remove, detach, stop])
def test_a_dead_address_is_alerted_on_to_the_end(
    scraped_cluster: Scraped, harm: Callable[[Scraped], None]
) -> None:
    scene = scraped_cluster
    scene.a.add()
    scene.pass_time(600)
    harm(scene)
    scene.pass_time(NOTICED_SECONDS)
    began, ended = scene.pass_time(3600)
    fired = scene.fire(began, ended)
    assert fired.pop("FloatingAddressNotServed") == 3600 / SCRAPE_SECONDS
    owners = fired.pop("FloatingAddressHasTwoOwners", 0)
    assert owners == (3600 / SCRAPE_SECONDS if harm is steal else 0)
    assert fired == {}
    scene.cluster.ec2.refused.clear()
    scene.cluster.ec2.alive.add("eni-a")
    scene.a.enis = ("eni-a", "eni-a2")
    scene.cluster.ec2.tables["rtb-1"].pop(FLOATING, None)
    scene.pass_time(NOTICED_SECONDS)
    assert scene.fire(*scene.pass_time(600)) == {}


def test_ordinary_moves_alert_nobody(scraped_cluster: Scraped) -> None:
    """Also not while the claim of a pod that has moved away waits on its node for its grace."""
    scene, nodes = scraped_cluster, scraped_cluster.cluster.nodes
    scene.cluster.ec2.stale = 14
    here: SimulatedNode = nodes["a"]
    pod = here.add()
    for target in "baba":
        scene.pass_time(300)
        here.delete(pod)
        scene.pass_time(30)
        here = nodes[target]
        pod = here.add()
    del scene.cluster.ec2.tables["rtb-1"][FLOATING]  # a late delete of another's
    scene.pass_time(600)
    assert scene.cluster.leads() == "eni-a"
    here.delete(pod)
    scene.pass_time(1800)
    assert scene.fire() == {}


def test_a_node_that_cannot_see_is_alerted_on(scraped_cluster: Scraped) -> None:
    scene = scraped_cluster
    scene.a.add()
    scene.pass_time(600)
    scene.cluster.ec2.down = True
    scene.pass_time(600)
    began, ended = scene.pass_time(1800)
    assert scene.fire(began, ended) == {"FloatipAgentBlind": 1800 / SCRAPE_SECONDS}
    scene.cluster.ec2.down = False
    scene.pass_time(600)
    assert scene.fire(*scene.pass_time(600)) == {}


def test_an_alert_on_a_counter_would_end_before_the_outage(scraped_cluster: Scraped) -> None:
    """What the documents said before: this is why they say it no more, and that the evaluator can tell."""
    scene = scraped_cluster
    scene.a.add()
    scene.pass_time(600)
    steal(scene)
    scene.pass_time(1800)
    old = Alert("old", "increase(floatip_superseded_live_total[10m]) > 0", 0, "here")
    new = Alert("new", 'floatip_routes{state="superseded"} > 0', 120, "here")
    ended = scene.cluster.now()
    assert 0 < max(old.fires(scene.scrapes)) < ended - 1000
    assert max(new.fires(scene.scrapes)) == ended
