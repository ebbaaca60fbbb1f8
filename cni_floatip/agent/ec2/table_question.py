"""Which route tables a caller asks EC2 for, and what to ask for several callers at once.

Networks of one VPC often select its tables by different ids, or by different values of one tag. Then one
read with the values of both serves both, and no table is read that nobody asked for. Other filters stay
apart, unless one network asks for all tables of the VPC anyway: all may be many more than both select.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ...edges.ec2.client import MAX_VALUES
from ...model.values import RouteTable

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TableQuestion:
    """A DescribeRouteTables in the name of ``account``, with filters as ``destinations`` makes them.

    Those filters are ``vpc-id``, ``route-table-id``, ``tag-key`` and ``tag:KEY``. A table must match each of
    them, by one of its values (EC2 API reference, DescribeRouteTables).
    """

    account: Hashable
    filters: Mapping[str, frozenset[str]] = field(hash=False)

    @classmethod
    def of(cls, account: Hashable, filters: Mapping[str, Sequence[str]]) -> TableQuestion:
        """Return the question with these filters."""
        return cls(account, {name: frozenset(values) for name, values in filters.items()})

    @property
    def scope(self) -> Hashable:
        """Reads of one VPC may be joined; one that names no VPC is shared by equal questions alone."""
        vpc = self.filters.get("vpc-id")
        return self.account, vpc or tuple(sorted((name, *sorted(v)) for name, v in self.filters.items()))

    def joined(self, other: TableQuestion) -> TableQuestion | None:
        """Return the question whose answer holds the tables of both and no others; None: there is none."""
        if self._covers(other):
            return self
        if other._covers(self):
            return other
        mine, others = self.filters, other.filters
        if mine.keys() != others.keys() or sum(mine[name] != others[name] for name in mine) > 1:
            return None
        both = {name: values | others[name] for name, values in mine.items()}
        return TableQuestion(self.account, both) if sum(map(len, both.values())) <= MAX_VALUES else None

    def _covers(self, other: TableQuestion) -> bool:
        """Whether this question's answer holds every table of the other's."""
        return all(
            name in other.filters and other.filters[name] <= values for name, values in self.filters.items()
        )

    def arguments(self) -> dict[str, list[str]]:
        """Return the filters as ``Vpc.route_tables`` takes them."""
        return {name: sorted(values) for name, values in self.filters.items()}

    def select(self, tables: Iterable[RouteTable]) -> tuple[RouteTable, ...]:
        """Return those of ``tables`` that EC2 returns for this question."""
        return tuple(
            table for table in tables if all(_matches(table, *item) for item in self.filters.items())
        )


def _matches(table: RouteTable, name: str, values: Iterable[str]) -> bool:
    literal = {_ESCAPED.sub(r"\1", value) for value in values}
    match name:
        case "vpc-id":
            return table.vpc in literal
        case "route-table-id":
            return table.id in literal
        case "tag-key":
            return not literal.isdisjoint(table.tags)
    key = name.removeprefix("tag:")
    return key in table.tags and table.tags[key] in literal
