"""The agent's Prometheus metrics. The only module that imports prometheus_client.

Names follow the field: ``_total`` counts up, ``_seconds`` are seconds. Label values come from outside (an
AWS error code, a verb), so each label has a limited number of values, and the rest is "other".
"""

from __future__ import annotations

import platform
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily

from ...model.claim_state import State
from ...rules.reconcile import Outage
from .http_server import Answer
from .outages import ClaimedAddress

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every scraper reads; no name here needs a newer one."""

REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
GAP_BUCKETS = (0.3, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 5, 10)
EC2_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS")
ROLES = ("active", "offered", "standby", "contested", "unknown")
MOVES = ("death", "free", "replaced", "terminating", "gone", "unready", "ec2-lost", "level", "zone", "move")
WATCHED = ("appeared", "vanished", "refused", "limited", "overrun")

MOST_ADDRESSES = 1000
"""Series of ``floatip_address_served``; a node has a few hundred pods at most."""
LONGEST_LABEL = 253
"""Characters: no name in Kubernetes has more."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class BoundedLabel:
    """Bounds a label: the ``known`` values, and plain ones up to ``most`` in all; else "other"."""

    def __init__(self, most: int, known: Iterable[str] = ()) -> None:
        self._known = set(known)
        self._most = max(most, len(self._known))
        self._adding = threading.Lock()

    def __call__(self, value: object) -> str:
        """Return ``value`` or "other"."""
        text = str(value)
        if text in self._known:
            return text
        if not _PLAIN.fullmatch(text):
            return "other"
        with self._adding:
            if len(self._known) >= self._most:
                return "other"
            self._known.add(text)
            return text


class _Requests:
    """The metrics of CNI calls, and of requests to EC2 and STS."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._verb = BoundedLabel(0, (*VERBS, "VERSION", "status"))
        self._outcome = BoundedLabel(32, ("ok", "cancelled"))
        self._action = BoundedLabel(24)
        self._ec2_outcome = BoundedLabel(48, ("ok",))
        self._calls = Counter(
            "floatip_cni_requests", "CNI calls that have ended.", ("verb", "outcome"), registry=registry
        )
        self._call_seconds = Histogram(
            "floatip_cni_request_duration_seconds",
            "How long CNI calls took.",
            ("verb",),
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self._ec2 = Counter(
            "floatip_ec2_requests", "Requests to EC2 and STS.", ("action", "outcome"), registry=registry
        )
        self._ec2_seconds = Histogram(
            "floatip_ec2_request_duration_seconds",
            "How long requests to EC2 and STS took.",
            ("action",),
            buckets=EC2_BUCKETS,
            registry=registry,
        )
        self._throttled = Counter(
            "floatip_ec2_throttled",
            "Requests that AWS refused because the account's request rate limit was exhausted.",
            ("action",),
            registry=registry,
        )
        for verb in VERBS:
            self._calls.labels(verb, "ok")

    def call(self, verb: str, outcome: str, seconds: float) -> None:
        verb = self._verb(verb)
        self._calls.labels(verb, self._outcome(outcome)).inc()
        self._call_seconds.labels(verb).observe(seconds)

    def ec2(self, action: str, outcome: str, seconds: float) -> None:
        action = self._action(action)
        self._ec2.labels(action, self._ec2_outcome(outcome)).inc()
        self._ec2_seconds.labels(action).observe(seconds)

    def throttled(self, action: str) -> None:
        self._throttled.labels(self._action(action)).inc()


class _Elections:
    """The metrics of elected claims; a group's are shown only where there are elections."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._why = BoundedLabel(0, MOVES)
        self._moves = Counter(
            "floatip_election_moves",
            "Groups whose active pod became one of this node, by the reason.",
            ("why",),
            registry=registry,
        )
        self._contested = Counter(
            "floatip_election_contested",
            "Elected routes here that another writer keeps taking, because an address has two owners.",
            registry=registry,
        )
        self._groups = Gauge(
            "floatip_election_groups", "Groups with pods of this node.", ("role",), registry=registry
        )
        self._gaps = Histogram(
            "floatip_election_renewal_gap_seconds",
            "How long it took from one renewal of this node's Lease to the next.",
            buckets=GAP_BUCKETS,
            registry=registry,
        )
        self._proof_age = Gauge(
            "floatip_election_proof_age_seconds",
            "How long ago the oldest proof began by which a pod of this node counts as active; 0: none is.",
            registry=registry,
        )
        for why in MOVES:
            self._moves.labels(why)

    def moved(self, why: str) -> None:
        self._moves.labels(self._why(why)).inc()

    def contested(self) -> None:
        self._contested.inc()

    def renewed(self, gap: float) -> None:
        self._gaps.observe(gap)

    def show(self, by_role: Mapping[str, int], proof_age: float) -> None:
        for role in ROLES:
            self._groups.labels(role).set(by_role.get(role, 0))
        self._proof_age.set(proof_age)


class Metrics:
    """A ``Recorder`` that keeps its counts in a registry of its own, and the page that shows it."""

    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a needless second series for each
        registry = self._registry = CollectorRegistry()
        self._before: list[Callable[[], object]] = []
        self._requests = _Requests(registry)
        self._what = BoundedLabel(16)
        self._watched = BoundedLabel(0, WATCHED)
        self._claims = Gauge("floatip_claims", "Claims of this node.", ("state",), registry=registry)
        self._routes = Gauge(
            "floatip_routes",
            "VPC routes of this node's claims; one that does not serve a live claim has its outage as state.",
            ("state",),
            registry=registry,
        )
        self._served = _Served()
        registry.register(self._served)
        self._last_look = Gauge(
            "floatip_last_look_timestamp_seconds",
            "When the keeper last saw all route tables of this node's claims; 0: never yet.",
            registry=registry,
        )
        self._ready = Gauge(
            "floatip_ready", "Whether the agent is ready, as /readyz says.", registry=registry
        )
        self._repairs = Counter("floatip_repairs", "Repairs by the keeper.", ("what",), registry=registry)
        self._client_repairs = Counter(
            "floatip_client_repairs",
            "Repairs of the client's files after somebody removed or damaged them.",
            registry=registry,
        )
        self._superseded = Counter(
            "floatip_superseded_live",
            "Routes of live pods of this node that another writer has taken, because an address has two"
            " owners.",
            registry=registry,
        )
        self._absent = Counter(
            "floatip_routes_found_absent",
            "Routes that a read missed right after they were written: normal in small numbers.",
            registry=registry,
        )
        self._unguarded = Gauge(
            "floatip_unguarded_interfaces", "ENIs in use without a sound metadata guard.", registry=registry
        )
        self._incomplete = Gauge(
            "floatip_incomplete_pods",
            "Live pods that lack something that ADD configured and that the agent cannot restore.",
            registry=registry,
        )
        self._spool = Gauge("floatip_spool_length", "DELs that wait in the spool.", registry=registry)
        self._watch = Counter(
            "floatip_watch_events", "What happened to watched addresses.", ("what",), registry=registry
        )
        self._elections = _Elections(registry)
        _show_process(registry, version)
        self._begin()

    def _begin(self) -> None:
        """Show zeros from the start: a rate over a series that has just appeared misses its first event."""
        self.claims({})
        self.routes({})
        for what in WATCHED:
            self._watch.labels(what)

    # -- Recorder -------------------------------------------------------------------------------------

    def call(self, verb: str, outcome: str, seconds: float) -> None:
        """Count a CNI call."""
        self._requests.call(verb, outcome, seconds)

    def ec2(self, action: str, outcome: str, seconds: float) -> None:
        """Count a request to EC2 or STS."""
        self._requests.ec2(action, outcome, seconds)

    def throttled(self, action: str) -> None:
        """Count a request that was throttled."""
        self._requests.throttled(action)

    def repaired(self, what: str) -> None:
        """Count a repair."""
        self._repairs.labels(self._what(what)).inc()

    def client_repaired(self) -> None:
        """Count a repair of the client's files."""
        self._client_repairs.inc()

    def superseded_live(self) -> None:
        """Count a live pod's route that another writer took."""
        self._superseded.inc()

    def absent_fresh(self) -> None:
        """Count a fresh route that was absent."""
        self._absent.inc()

    def unguarded(self, n: int) -> None:
        """Show how many ENIs in use are not guarded as they should be."""
        self._unguarded.set(n)

    def incomplete_pods(self, n: int) -> None:
        """Show how many live pods are not as ADD left them."""
        self._incomplete.set(n)

    def spooled(self, n: int) -> None:
        """Show the length of the spool."""
        self._spool.set(n)

    def watch(self, what: str) -> None:
        """Count something about watched addresses."""
        self._watch.labels(self._watched(what)).inc()

    def moved(self, why: str) -> None:
        """Count a group that became active here."""
        self._elections.moved(why)

    def contested(self) -> None:
        """Count an elected route that another writer keeps taking."""
        self._elections.contested()

    def renewed(self, gap: float) -> None:
        """Count a renewal of this node's Lease."""
        self._elections.renewed(gap)

    def groups(self, by_role: Mapping[str, int], proof_age: float) -> None:
        """Show in which roles this node's groups are, and how old the oldest proof of an active is."""
        self._elections.show(by_role, proof_age)

    def claims(self, by_state: Mapping[str, int]) -> None:
        """Show how many claims are in each state."""
        for state in State:
            self._claims.labels(state.value).set(by_state.get(state.value, 0))

    def routes(self, by_state: Mapping[str, int]) -> None:
        """Show how many routes are in each state, or have which outage."""
        for state in dict.fromkeys(item.value for item in (*State, *Outage)):
            self._routes.labels(state).set(by_state.get(state, 0))

    def addresses(self, addresses: Iterable[ClaimedAddress]) -> None:
        """Show which addresses of this node's pods are served."""
        self._served.show(addresses)

    def looked(self, at: float) -> None:
        """Show when a look was last complete."""
        self._last_look.set(at)

    def ready(self, ready: bool) -> None:
        """Show whether the agent is ready."""
        self._ready.set(ready)

    # -- the page -------------------------------------------------------------------------------------

    def before_page(self, refresh: Callable[[], object]) -> None:
        """Call ``refresh`` before each page, for values that are cheaper to count on demand."""
        self._before.append(refresh)

    def page(self) -> Answer:
        """Return everything in the text format."""
        for refresh in self._before:
            refresh()
        return Answer(200, generate_latest(self._registry), CONTENT_TYPE)


class _Served:
    """``floatip_address_served``: one series for each address that exists, and no others.

    Beyond ``MOST_ADDRESSES``, addresses that are not served come first.
    """

    def __init__(self) -> None:
        self._values: Mapping[tuple[str, ...], bool] = {}

    def show(self, addresses: Iterable[ClaimedAddress]) -> None:
        results: dict[tuple[str, ...], bool] = {}
        for address in addresses:
            pod = address.claim.pod
            names = (address.name, pod.name or address.claim.attachment.container[:12], pod.namespace)
            labels = tuple(name[:LONGEST_LABEL] for name in names)
            # A pod whose sandbox was replaced may have two claims for a while: one that is served is enough.
            results[labels] = results.get(labels, False) or not address.outages
        shown = sorted(results.items(), key=lambda item: item[1])[:MOST_ADDRESSES]
        self._values = dict(shown)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "floatip_address_served",
            "Whether every route table sends the address of a pod of this node to this node, as last read.",
            labels=("address", "pod", "namespace"),
        )
        for labels, served in self._values.items():
            family.add_metric(labels, float(served))
        yield family


def _show_process(registry: CollectorRegistry, version: str) -> None:
    Gauge("floatip_threads", "Threads of the agent.", registry=registry).set_function(threading.active_count)
    Gauge("floatip_build_info", "Always 1.", ("version", "python"), registry=registry).labels(
        version, platform.python_version()
    ).set(1)
    ProcessCollector(registry=registry)
