"""EventBridge's event patterns as far as ours use them: does an event match?

"Creating Amazon EventBridge event patterns": every field of a pattern must match, by any of the values in its
list; ``$or`` matches by any of its parts. A field that the event does not have matches ``{"exists": false}``
alone, so it is not "anything but" something. What is not modelled is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.ec2.journal import Call

ABSENT = object()
ROUTES = ("CreateRoute", "ReplaceRoute", "DeleteRoute")


def matches(pattern: Mapping[str, Any], event: Any) -> bool:
    return all(_part(name, wanted, event) for name, wanted in pattern.items())


def _part(name: str, wanted: Any, event: Any) -> bool:
    if name == "$or":
        return any(matches(item, event) for item in wanted)
    result = event.get(name, ABSENT) if isinstance(event, Mapping) else ABSENT
    if isinstance(wanted, Mapping):
        return matches(wanted, result)
    return any(_value(item, result) for item in wanted)


def _value(wanted: Any, result: Any) -> bool:
    if isinstance(wanted, str):
        return bool(result == wanted)
    ((operator, operand),) = wanted.items()
    if operator == "exists":
        return (result is not ABSENT) is operand
    assert operator == "anything-but", f"not modelled: {operator}"
    if isinstance(operand, str):
        return result is not ABSENT and result != operand
    return isinstance(result, str) and not any(_is(item, result) for item in _several(operand))


def _several(operand: Any) -> Sequence[tuple[str, str]]:
    ((operator, texts),) = operand.items()
    return [(operator, text) for text in ([texts] if isinstance(texts, str) else texts)]


def _is(wanted: tuple[str, str], result: str) -> bool:
    operator, text = wanted
    return {"prefix": result.startswith, "suffix": result.endswith}[operator](text)


def event(call: Call, region: str, **changed: Any) -> dict[str, Any]:
    """Return what CloudTrail tells EventBridge of a call, as far as patterns look at it."""
    parameters = {name[0].lower() + name[1:]: value for name, value in call.params.items()}
    return {
        "source": "aws.ec2",
        "detail-type": "AWS API Call via CloudTrail",
        "account": call.account,
        "region": region,
        "detail": {
            "eventSource": "ec2.amazonaws.com",
            "eventName": call.action,
            "userAgent": call.program,
            "requestParameters": parameters,
            **({} if call.outcome == "ok" else {"errorCode": f"Client.{call.outcome}"}),
            **changed,
        },
    }
