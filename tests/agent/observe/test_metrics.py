"""The agent's metrics, read back with the library's own parser."""

from __future__ import annotations

import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cni_floatip.agent.observe.metrics import MOST_ADDRESSES, BoundedLabel, Metrics
from cni_floatip.agent.observe.outages import ClaimedAddress
from cni_floatip.agent.observe.recorder import NullRecorder, Recorder
from cni_floatip.model.claim_state import State
from cni_floatip.model.values import PodIdentity
from cni_floatip.rules.reconcile import Outage
from tests.support.claims import a_claim


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


def samples(metrics: Metrics) -> dict[str, float]:
    """Return every sample as ``name{a=b,c=d}``, labels in order."""
    results = {}
    for family in text_string_to_metric_families(metrics.page().body.decode()):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            key = sample.name + (f"{{{labels}}}" if labels else "")
            assert key not in results
            results[key] = sample.value
    return results


def test_each_count_arrives_where_its_name_says(metrics: Metrics) -> None:
    recorder: Recorder = metrics
    recorder.call("ADD", "ok", 0.3)
    recorder.call("ADD", "11", 20)
    recorder.ec2("CreateRoute", "ok", 0.04)
    recorder.ec2("CreateRoute", "RequestLimitExceeded", 0.04)
    recorder.throttled("CreateRoute")
    recorder.repaired("route")
    recorder.superseded_live()
    recorder.absent_fresh()
    recorder.spooled(7)
    metrics.unguarded(2)
    metrics.incomplete_pods(3)
    recorder.watch("appeared")
    metrics.claims({"held": 3, "releasing": 1})
    results = samples(metrics)
    output = {
        "floatip_cni_requests_total{outcome=ok,verb=ADD}": 1,
        "floatip_cni_requests_total{outcome=11,verb=ADD}": 1,
        "floatip_cni_request_duration_seconds_count{verb=ADD}": 2,
        "floatip_cni_request_duration_seconds_sum{verb=ADD}": 20.3,
        "floatip_cni_request_duration_seconds_bucket{le=0.25,verb=ADD}": 0,
        "floatip_cni_request_duration_seconds_bucket{le=0.5,verb=ADD}": 1,
        "floatip_ec2_requests_total{action=CreateRoute,outcome=ok}": 1,
        "floatip_ec2_requests_total{action=CreateRoute,outcome=RequestLimitExceeded}": 1,
        "floatip_ec2_request_duration_seconds_count{action=CreateRoute}": 2,
        "floatip_ec2_throttled_total{action=CreateRoute}": 1,
        "floatip_repairs_total{what=route}": 1,
        "floatip_superseded_live_total": 1,
        "floatip_routes_found_absent_total": 1,
        "floatip_spool_length": 7,
        "floatip_unguarded_interfaces": 2,
        "floatip_incomplete_pods": 3,
        "floatip_watch_events_total{what=appeared}": 1,
        "floatip_watch_events_total{what=overrun}": 0,
        "floatip_claims{state=held}": 3,
        "floatip_claims{state=releasing}": 1,
        "floatip_claims{state=gone}": 0,
    }
    assert {name: results.get(name) for name in output} == output


def test_zeros_are_there_from_the_start(metrics: Metrics) -> None:
    results = samples(metrics)
    assert results["floatip_superseded_live_total"] == 0
    assert results["floatip_cni_requests_total{outcome=ok,verb=DEL}"] == 0
    assert {f"floatip_claims{{state={state.value}}}" for state in State} <= set(results)
    assert not [name for name in results if "_created" in name]


def test_a_state_without_claims_falls_back_to_zero(metrics: Metrics) -> None:
    metrics.claims({"held": 3})
    metrics.claims({"gone": 1})
    results = samples(metrics)
    assert (results["floatip_claims{state=held}"], results["floatip_claims{state=gone}"]) == (0, 1)


def address(name: str, pod: str, outage: Outage | None = None, container: str = "c" * 64) -> ClaimedAddress:
    claim = a_claim(container=container, pod=PodIdentity("core" if pod else "", pod, ""))
    return ClaimedAddress(name, claim, ("rtb-a",), {"rtb-a": outage} if outage else {})


def served(metrics: Metrics) -> dict[str, float]:
    result = samples(metrics).items()
    return {
        name[len("floatip_address_served") :]: v for name, v in result if name.startswith("floatip_address_s")
    }


def test_an_address_has_a_series_as_long_as_it_is_there(metrics: Metrics) -> None:
    metrics.addresses([address("192.168.0.2", "web"), address("192.168.0.3", "", Outage.ABSENT)])
    assert served(metrics) == {
        "{address=192.168.0.2,namespace=core,pod=web}": 1,
        f"{{address=192.168.0.3,namespace=,pod={'c' * 12}}}": 0,
    }
    metrics.addresses([address("192.168.0.2", "web", Outage.SUPERSEDED)])
    assert served(metrics) == {"{address=192.168.0.2,namespace=core,pod=web}": 0}
    metrics.addresses([])
    assert served(metrics) == {}


def test_a_pod_with_two_claims_for_an_address_is_served_by_one(metrics: Metrics) -> None:
    two = [address("192.168.0.2", "web", Outage.SUPERSEDED, "a"), address("192.168.0.2", "web", None, "b")]
    for order in (two, two[::-1]):
        metrics.addresses(order)
        assert list(served(metrics).values()) == [1]


def test_of_too_many_addresses_those_that_are_not_served_are_shown(metrics: Metrics) -> None:
    many = [address(f"192.168.{n // 250}.{n % 250}", "x" * 400) for n in range(3000)]
    metrics.addresses([*many, address("192.168.99.1", 'we"b\n', Outage.ABSENT)])
    results = served(metrics)
    assert len(results) == MOST_ADDRESSES
    assert [name for name, value in results.items() if not value] == [
        '{address=192.168.99.1,namespace=core,pod=we"b\n}'
    ]
    assert max(map(len, results)) < 400


def test_ready_and_the_last_look_are_gauges(metrics: Metrics) -> None:
    results = samples(metrics)
    assert (results["floatip_ready"], results["floatip_last_look_timestamp_seconds"]) == (0, 0)
    metrics.ready(True)
    metrics.looked(1_700_000_000.5)
    results = samples(metrics)
    assert (results["floatip_ready"], results["floatip_last_look_timestamp_seconds"]) == (1, 1_700_000_000.5)


def test_the_process_and_the_build_show_themselves(metrics: Metrics) -> None:
    results = samples(metrics)
    assert results["process_resident_memory_bytes"] > 1e6
    assert results["process_open_fds"] > 2
    assert results["floatip_threads"] == threading.active_count()
    assert [value for name, value in results.items() if name.startswith("floatip_build_info")] == [1]
    assert "version=1.2.3" in next(name for name in results if name.startswith("floatip_build_info"))


def test_labels_from_outside_stay_few(metrics: Metrics) -> None:
    before = len(samples(metrics))
    for n in range(2000):
        metrics.call(f"VERB{n}", f"code{n}", 0.1)
        metrics.ec2(f"Action{n}", f"Error.{n}", 0.1)
        metrics.throttled(f"Action{n}")
        metrics.repaired(f"what{n}")
        metrics.watch(f"what{n}")
    results = samples(metrics)
    assert results["floatip_watch_events_total{what=other}"] == 2000
    assert sum(v for k, v in results.items() if k.startswith("floatip_ec2_requests_total")) == 2000
    assert len(results) - before < 1000


@pytest.mark.parametrize("value", ["", 'a"b', "a\nb", "é", "x" * 65, "a b"])
def test_a_label_that_is_not_plain_is_other(value: str) -> None:
    assert BoundedLabel(4)(value) == "other"


def test_what_is_cheaper_to_count_on_demand_is_counted_before_each_page(metrics: Metrics) -> None:
    counts = iter([1, 2])
    metrics.before_page(lambda: metrics.claims({"held": next(counts)}))
    assert samples(metrics)["floatip_claims{state=held}"] == 1
    assert samples(metrics)["floatip_claims{state=held}"] == 2


def test_two_agents_in_one_process_count_for_themselves(metrics: Metrics) -> None:
    other = Metrics("1.2.3")
    other.superseded_live()
    assert samples(metrics)["floatip_superseded_live_total"] == 0
    assert samples(other)["floatip_superseded_live_total"] == 1


def test_counting_from_many_threads_loses_nothing(metrics: Metrics) -> None:
    def count() -> None:
        for n in range(200):
            metrics.call("ADD", "ok", n / 100)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert samples(metrics)["floatip_cni_requests_total{outcome=ok,verb=ADD}"] == 1600


def test_who_counts_nothing_takes_the_same_calls() -> None:
    own = {name for name in vars(Recorder) if not name.startswith("_")}
    assert own == {name for name in vars(NullRecorder) if not name.startswith("_")}
    assert own <= set(vars(Metrics))
