"""IAM as far as our policies use it: who may do what, decided from the JSON that is shipped.

"Policy evaluation logic", IAM User Guide: nothing is allowed that no statement allows, and an explicit deny
beats every allow. Within a statement, action and resource must match, and all of the conditions must hold: a
key that the request does not carry fulfils none of the operators here, and neither does a value with a policy
variable that it does not carry. A session policy gives nothing: what it and the role's policies both allow is
allowed. What is not modelled (NotAction, variables elsewhere, other operators) is refused, so that no policy
passes because it was not understood.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parents[2] / "install" / "iam"
PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9-]*>")
VARIABLE = re.compile(r"\$\{(aws:PrincipalTag/[^}*?$]+)\}")
KEYS = {"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}


@dataclass(frozen=True)
class Request:
    """One permission that one API call needs. ``output``: the call, for whoever reads a failure."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)
    principal: str = ""
    said: str = ""

    def __str__(self) -> str:
        return f"{self.action} on {self.resource} with {dict(self.context)} ({self.said})"


@dataclass(frozen=True)
class Statement:
    """One statement. ``resources`` is empty in a trust policy, ``principals`` in an identity's."""

    sid: str
    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    principals: tuple[str, ...]
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...]

    def matches(self, request: Request) -> bool:
        return (
            any(like(action.lower(), request.action.lower()) for action in self.actions)
            and (not self.resources or any(like(resource, request.resource) for resource in self.resources))
            and (not self.principals or request.principal in self.principals)
            and all(
                key in request.context
                and OPERATORS[operator](_filled(values, request.context), request.context[key])
                for operator, key, values in self.conditions
            )
        )


def _filled(values: tuple[str, ...], context: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values with their variables replaced, without those that the request has no value for."""
    known = [value for value in values if all(name in context for name in VARIABLE.findall(value))]
    return tuple(VARIABLE.sub(lambda match: context[match[1]], value) for value in known)


@dataclass(frozen=True)
class Policy:
    """A policy document, its placeholders filled in."""

    statements: tuple[Statement, ...]

    def allows(self, request: Request) -> bool:
        matching = [statement for statement in self.statements if statement.matches(request)]
        return bool(matching) and all(statement.allows for statement in matching)

    def __or__(self, other: Policy) -> Policy:
        """Return what both together give, as two policies of one role do."""
        return Policy(self.statements + other.statements)

    def without(self, statement: Statement) -> Policy:
        return Policy(tuple(item for item in self.statements if item != statement))

    def smaller(self) -> Iterator[tuple[str, Policy]]:
        """Yield what is left without one statement, one action, one resource, each with what was taken."""
        for at, statement in enumerate(self.statements):
            yield statement.sid, self.without(statement)
            lists: tuple[tuple[str, Sequence[str]], ...] = (
                ("actions", statement.actions),
                ("resources", statement.resources),
            )
            for name, values in lists:
                for value in values if len(values) > 1 else ():
                    left = tuple(item for item in values if item != value)
                    fields: dict[str, Any] = {name: left}
                    changed = replace(statement, **fields)
                    yield (
                        f"{statement.sid}: {value}",
                        Policy((*self.statements[:at], changed, *self.statements[at + 1 :])),
                    )


@dataclass(frozen=True)
class Session:
    """What a session may that was begun with a session policy."""

    role: Policy
    policy: Policy

    def allows(self, request: Request) -> bool:
        return self.role.allows(request) and self.policy.allows(request)


def read(name: str, **values: str) -> Policy:
    """Return a policy of ``install/iam``; ``ROUTE_TABLE_1`` fills ``<ROUTE-TABLE-1>``."""
    text = (SHIPPED / f"{name}.json").read_text()
    for key, value in values.items():
        text = text.replace(f"<{key.replace('_', '-')}>", value)
    left = set(PLACEHOLDER.findall(text))
    assert not left, f"{name}.json: nothing is given for {sorted(left)}"
    return parse(json.loads(text))


def parse(document: Mapping[str, Any]) -> Policy:
    assert document["Version"] == "2012-10-17"
    return Policy(tuple(_statement(item) for item in document["Statement"]))


def _statement(output: Mapping[str, Any]) -> Statement:
    assert set(output) <= KEYS, f"not modelled: {set(output) - KEYS}"
    elsewhere = {key: value for key, value in output.items() if key != "Condition"}
    assert "${" not in json.dumps(elsewhere), "not modelled: policy variables but in conditions"
    assert "${" not in VARIABLE.sub("", json.dumps(output)), "not modelled: this policy variable"
    assert "Resource" in output or "Principal" in output  # a policy of a resource has both
    conditions = [
        (operator, key, _several(values))
        for operator, keys in output.get("Condition", {}).items()
        for key, values in keys.items()
    ]
    assert {operator for operator, _, _ in conditions} <= set(OPERATORS)
    return Statement(
        sid=output["Sid"],
        allows={"Allow": True, "Deny": False}[output["Effect"]],
        actions=_several(output["Action"]),
        resources=_several(output.get("Resource", ())),
        principals=tuple(p for kind in output.get("Principal", {}).values() for p in _several(kind)),
        conditions=tuple(conditions),
    )


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def like(pattern: str, text: str) -> bool:
    """Match as IAM does: ``*`` any characters, ``?`` one, all else literally."""
    return _wildcards(pattern).fullmatch(text) is not None


@cache
def _wildcards(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


OPERATORS: Mapping[str, Callable[[tuple[str, ...], str], bool]] = {
    "StringEquals": lambda values, result: result in values,
    "StringLike": lambda values, result: any(like(value, result) for value in values),
    "ArnEquals": lambda values, result: any(like(value, result) for value in values),
}
