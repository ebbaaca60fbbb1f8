"""The alerts that the documents give, and what Prometheus would make of them over pages that were scraped.

The evaluator knows what these expressions use, and refuses what it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.docs.pages import pages

UNITS = {"s": 1, "m": 60, "h": 3600}
COMPARE = {"==": float.__eq__, ">": float.__gt__}
EXPRESSION = re.compile(
    r"(?:(?P<time>time\(\) - )|(?P<increase>increase\())?"
    r"(?P<name>floatip_\w+)(?:\{(?P<labels>[^}]*)\})?(?:\[(?P<range>\d+[smh])\]\))?"
    r" (?P<compare>==|>) (?P<value>[\d.]+)"
)

Series = frozenset[tuple[str, str]]
Page = dict[tuple[str, Series], float]


def seconds(text: str) -> float:
    return float(text[:-1]) * UNITS[text[-1]]


def scraped(body: bytes) -> Page:
    """Return a page as series with their values."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


@dataclass(frozen=True)
class Alert:
    """One rule: it fires while its expression is true, once that has been so for ``lasting`` seconds."""

    name: str
    expression: str
    lasting: float
    where: str

    def fires(self, scrapes: Sequence[tuple[float, Page]]) -> list[float]:
        """Return at which of the scrapes' times it fires."""
        begun: dict[Series, float] = {}
        results = []
        for number, (at, _) in enumerate(scrapes):
            true = self._true(scrapes[: number + 1])
            begun = {series: begun.get(series, at) for series in true}
            if any(at - since >= self.lasting for since in begun.values()):
                results.append(at)
        return results

    def _true(self, scrapes: Sequence[tuple[float, Page]]) -> set[Series]:
        parts = EXPRESSION.fullmatch(self.expression)
        assert parts, f"{self.where}: {self.expression}: an expression that this test does not know"
        wanted = set(re.findall(r'(\w+)="([^"]*)"', parts["labels"] or ""))
        compare, limit = COMPARE[parts["compare"]], float(parts["value"])
        at, page = scrapes[-1]
        results = {s: v for (name, s), v in page.items() if name == parts["name"] and wanted <= s}
        assert results or "address" in parts["name"], (
            f"{self.where}: {parts['name']}: there is no such series"
        )
        if parts["time"]:
            results = {series: at - value for series, value in results.items()}
        if parts["increase"]:
            past = next(page for when, page in scrapes if at - when <= seconds(parts["range"]))
            results = {s: value - past.get((parts["name"], s), 0.0) for s, value in results.items()}
        return {series for series, value in results.items() if compare(float(value), limit)}


def documented() -> Iterable[Alert]:
    """Return every alert in the documents."""
    for page in pages().values():
        for block in page.blocks:
            if block.info != "yaml" or "alert:" not in block.text:
                continue
            for group in yaml.safe_load(block.text)["groups"]:
                for rule in group["rules"]:
                    yield Alert(rule["alert"], rule["expr"], seconds(rule.get("for", "0s")), str(block))
