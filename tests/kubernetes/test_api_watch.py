"""The failover bench's watch of the API: changes arrive in order, by this machine's clock."""

from __future__ import annotations

import time

import pytest

from bench.api_watch import Watch
from lab.errors import LabError
from lab.kubernetes.cluster import Cluster
from lab.kubernetes.controlplane import ADMIN
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.manifests import pod
from tests.support.waiting import until

PODS = "/api/v1/namespaces/default/pods"


def a_watch(cluster: Cluster, path: str) -> Watch:
    control = cluster.control
    server = (control.endpoints[0].address, control.endpoints[0].port)
    token, authority = control.tokens[ADMIN], control.authority.certificate
    return Watch(cluster.kubectl.namespace, server, token, authority).of(path)


def test_the_life_of_a_pod_is_seen(cluster: Cluster, workloads: Kubectl) -> None:
    with a_watch(cluster, PODS) as watch:
        began = time.monotonic()
        workloads.apply(pod("brief"))
        watch.wait(lambda pods: "brief" in pods and pods["brief"].is_ready, "the pod is ready", 60)
        workloads("delete", "pod", "brief")
        watch.wait(lambda pods: "brief" not in pods, "the pod is gone", 60)
        events = watch.events(began)
        assert [events[0].kind, events[-1].kind] == ["ADDED", "DELETED"]
        assert events[0].at >= began
        assert [event.at for event in events] == sorted(event.at for event in events)
        bound = watch.first(lambda event: bool(event.node), began)
        leaving = watch.first(lambda event: event.is_leaving, began)
        assert bound is not None
        assert leaving is not None
        assert events[0].at <= bound.at < leaving.at < events[-1].at
        with pytest.raises(LabError, match="not within 0 s: pigs fly"):
            watch.wait(lambda pods: "pig" in pods, "pigs fly", 0)


def test_a_watch_that_is_refused_or_ended_is_an_error(cluster: Cluster) -> None:
    with pytest.raises(LabError, match="404"), a_watch(cluster, "/api/v1/nothing"):
        pass
    with a_watch(cluster, "/api/v1/nodes") as watch:
        until(lambda: set(watch.now()) == {"a1", "b1"}, watch.now)
    with pytest.raises(LabError, match="has ended"):
        watch.events()
