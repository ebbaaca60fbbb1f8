"""Formats the agent's status: a line for the agent, and one for each route.

Reads the document of ``agent.observe.status``, also one of another release; a missing value shows as "-".
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from ..edges.spool import sentence
from ..model.errors import CniError, printable

HEAD = (
    "POD",
    "INTERFACE",
    "ADDRESSES",
    "TABLE",
    "DESTINATION",
    "STATE",
    "LEADS TO",
    "SINCE",
    "LAST ERROR",
)
_HOME = "\x1b[H\x1b[J"


def text(document: Mapping[str, Any]) -> str:
    """Return the whole status, with a line at the end of each row."""
    rows = [row for claim in document.get("claims", ()) for row in _rows(claim)]
    table = "".join(f"{line}\n" for line in _columns([HEAD, *rows])) if rows else "no claims\n"
    lines = (*_agent(document), *_lost(document))
    return "".join(f"{printable(line)}\n" for line in lines) + table


def wrong(document: Mapping[str, Any]) -> bool:
    """Return whether anything in it wants a person: an address that is not served here, the agent, a pod, a
    look that failed, a bad file.
    """
    agent, claims = document.get("agent", {}), document.get("claims", ())
    if agent.get("unserved") or agent.get("problems") or agent.get("warnings") or document.get("records"):
        return True
    routes = (route for claim in claims for route in claim.get("routes", ()))
    return any(claim.get("podLost") for claim in claims) or any(route.get("error") for route in routes)


def show(ask: Callable[[], Mapping[str, Any]], *, as_json: bool, out: TextIO) -> int:
    """Print the status once; return the exit status. Raises what ``ask`` does."""
    document = ask()
    out.write(json.dumps(document, indent=2) + "\n" if as_json else text(document))
    return int(wrong(document))


def watch(
    ask: Callable[[], Mapping[str, Any]],
    seconds: float,
    *,
    as_json: bool,
    out: TextIO,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Print the status again and again, until interrupted. An agent that is away is waited for.

    On a terminal each takes the place of the one before; elsewhere they follow each other (JSON: in a line).
    """
    redraw = out.isatty() and not as_json
    try:
        for turn in itertools.count():
            shown = _once(ask, as_json=as_json)
            if redraw:
                shown = _HOME + _fitting(shown)
            elif turn and not as_json:
                shown = "\n" + shown
            out.write(shown)
            out.flush()
            sleep(seconds)
    except KeyboardInterrupt:
        if redraw:
            out.write("\n")
    return 0


def _once(ask: Callable[[], Mapping[str, Any]], *, as_json: bool) -> str:
    try:
        document = ask()
    except CniError as e:
        if as_json:
            return json.dumps({"error": str(e)}) + "\n"
        return f"floatipctl: {printable(str(e))}\n"
    return json.dumps(document) + "\n" if as_json else text(document)


def _fitting(shown: str) -> str:
    """Return what fits on the terminal: a line that wraps would push the first one out."""
    size = shutil.get_terminal_size()
    lines = shown.splitlines()
    room = max(2, size.lines - 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"({len(lines) - room + 1} more lines)"]
    return "".join(f"{line[: size.columns]}\n" for line in lines)


def _agent(document: Mapping[str, Any]) -> Iterator[str]:
    agent = document.get("agent", {})
    node = agent.get("node") or {}
    where = " ".join(filter(None, (agent.get("name"), node.get("instance"), node.get("region"))))
    yield (
        f"agent {agent.get('release', '-')}{where and f' on {where}'}, pid {agent.get('pid', '-')}, "
        f"since {agent.get('since') or '-'}: {'not ready' if agent.get('problems') else 'ready'}"
        f"{_served(agent)}"
    )
    for claim in document.get("claims", ()):
        yield from (f"  {_of(claim)}: {_why(address)}" for address in claim.get("unserved", ()))
    yield from (f"  {problem}" for problem in (*agent.get("problems", ()), *agent.get("warnings", ())))
    if spooled := agent.get("spooled"):
        yield f"  {spooled} DEL{'s' * (spooled != 1)} in the spool"
    for claim in document.get("claims", ()):
        if files := claim.get("spooled"):
            yield f"  {_of(claim)}: {sentence(files)}"
    for record in document.get("records", ()):
        yield f"  {record.get('path')}: {record.get('reason')}"


def _lost(document: Mapping[str, Any]) -> Iterator[str]:
    """Say which pods are not as ADD left them, in lines of their own: a table has no room for that."""
    for claim in document.get("claims", ()):
        if lost := claim.get("podLost"):
            what = "; ".join(lost.get("what", ()))
            yield f"  {_of(claim)} {claim.get('ifname', '-')}: since {lost.get('since') or '-'}: {what}"
    yield ""


def _served(agent: Mapping[str, Any]) -> str:
    unserved, count = agent.get("unserved"), agent.get("addresses")
    if not unserved:
        return ""
    return f"; {unserved} of {count} addresses {'is' if unserved == 1 else 'are'} not served here"


def _why(address: Mapping[str, Any]) -> str:
    """Say what an address suffers, and in how many of its tables."""
    suffered = list(address.get("tables", {}).values())
    counts = (f"{why} in {suffered.count(why)}" for why in dict.fromkeys(suffered))
    count = address.get("of", len(suffered))
    return f"{address.get('address')}: {', '.join(counts)} of {count} table{'s' * (count != 1)}"


def _of(claim: Mapping[str, Any]) -> str:
    pod = claim.get("pod", {})
    name = f"{pod.get('namespace')}/{pod['name']}" if pod.get("name") else claim.get("containerId", "")[:12]
    return name or "-"


def _rows(claim: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    addresses = ",".join((*claim.get("addresses", ()), *claim.get("watched", ())))
    first = (_of(claim), claim.get("ifname", "-"), addresses or "-")
    routes = claim.get("routes", ())
    if not routes:
        unknown = "routes unknown (its record was lost)" if claim.get("routesUnknown") else ""
        yield (*first, "-", "-", claim.get("state", "-"), "-", claim.get("created") or "-", unknown)
    for route in routes:
        observed = route.get("seen") or {}
        yield (
            *first,
            route.get("table", "-"),
            route.get("destination", "-"),
            route.get("outage") or route.get("state", "-"),
            _target(observed, claim.get("eni", "")),
            observed.get("since") or "-",
            route.get("error", ""),
        )


def _target(observed: Mapping[str, Any], eni: str) -> str:
    if not observed:
        return "not seen yet"
    target = observed.get("target")
    return f"{target} (here)" if target and target == eni else target or "nowhere"


def _columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(HEAD))]
    for row in shown:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def write_status(ask: Callable[[], Mapping[str, Any]], seconds: float | None, *, as_json: bool) -> int:
    """Print to standard output, once or (``seconds``) again and again; return the exit status."""
    if seconds is None:
        return show(ask, as_json=as_json, out=sys.stdout)
    return watch(ask, seconds, as_json=as_json, out=sys.stdout)
