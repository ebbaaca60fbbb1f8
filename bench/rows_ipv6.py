"""Row 20: from a runtime's ADD to the first answer at a client, over IPv6 and IPv4, with real packets."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address

from bench.figure import Figure, Grid, Plot, say
from bench.running import Failed, interleaved
from lab.node import Node
from lab.vpc import FLOATING, FLOATING6
from lab.world import Lab

ADDRESSES: Mapping[str, IPv4Address | IPv6Address] = {"IPv4": FLOATING[2], "IPv6": FLOATING6[2]}
WITHIN = 10.0
"""Duplicate address detection takes up to two seconds, and the machine may be busy."""


def first_answer(rounds: int) -> Figure:
    """Row 20: one pod after the other, of either family in turn, asked by a client while its ADD runs."""
    rounds = max(3, min(rounds // 3, 9))
    say(f"20: ADD to the first answer over IPv4 and IPv6, {rounds} rounds")
    numbers = itertools.count()
    with Lab(azs=1, nodes_per_az=1, agents=True) as lab:
        (node,) = lab.nodes.values()
        kinds = {
            family: lambda address=address: _answered(lab, node, f"p{next(numbers)}", address)
            for family, address in ADDRESSES.items()
        }
        times = interleaved(kinds, rounds)
    answer = {family: [first for first, _ in pairs] for family, pairs in times.items()}
    added = {family: [ended for _, ended in pairs] for family, pairs in times.items()}
    median = {family: statistics.median(values) for family, values in answer.items()}
    ratio = median["IPv6"] / median["IPv4"]
    rows = [
        (
            family,
            _ms(statistics.median(added[family])),
            _ms(median[family]),
            _ms(min(answer[family])),
            _ms(max(answer[family])),
        )
        for family in ADDRESSES
    ]
    columns = ("", "the chain's ADD ms", "first answer ms", "the soonest ms", "the latest ms")
    bars = {
        "first answer": [(family, _ms(median[family])) for family in ADDRESSES],
        "the chain's ADD": [(family, _ms(statistics.median(added[family]))) for family in ADDRESSES],
    }
    return Figure(
        20,
        "from ADD to the first answer at a client: IPv6 / IPv4",
        f"{ratio:.2f}",
        "<= 1.2",
        ratio <= 1.2,
        {
            "from": "the begin of the chain's ADD; another plugin makes the interface before floatip's runs",
            "rounds": rounds,
        },
        limit="Where ADD does not skip duplicate address detection, an IPv6 address answers 1 to 2 s later.",
        grid=Grid(columns, rows),
        plots=[Plot("bars", "From ADD to the first answer", "ms (median)", bars)],
    )


def _answered(lab: Lab, node: Node, name: str, address: IPv4Address | IPv6Address) -> tuple[float, float]:
    """Add a pod, end it again; return the seconds to the first answer, and to the end of its ADD."""
    chain = lab.conflist([f"{address}/{address.max_prefixlen}"], name="first-answer")
    pod = node.pod(name)
    try:
        with lab.clients["vpc"].probe(address) as probe:
            began = time.monotonic()
            node.add(pod, chain)
            ended = time.monotonic()
            until = ended + WITHIN
            while pod.name not in probe.look()["by"] and time.monotonic() < until:
                time.sleep(0.01)
        first = probe.report.first_from(pod.name)
        node.delete(pod, chain)
    finally:
        node.remove_pod(pod)
    if first is None:
        raise Failed(f"{address} was not answered within {WITHIN:g} s after its ADD")
    return first - began, ended - began


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
