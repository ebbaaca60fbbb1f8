"""One call as it was asked: by whom, in which account, what."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from lab.ec2 import wire
from lab.ec2.refusal import Refusal
from lab.webserver import Request

CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/[^/]*/[^/]*/([^/]*)/")
READS = ("Describe", "Get", "Search", "List")


@dataclass(frozen=True, slots=True)
class Asked:
    """One call, understood."""

    caller: str
    account: str
    service: str
    action: str
    params: Mapping[str, Any]
    request: Request

    @property
    def reads(self) -> bool:
        """Say whether the call leaves EC2 as it is."""
        return self.service != "ec2" or self.action.startswith(READS)


def service(request: Request) -> str:
    """Return which service a request is for: the signature says so, else the API version."""
    found = CREDENTIAL.search(request.headers.get("authorization", ""))
    if found:
        return "sts" if found[2] == "sts" else "ec2"
    return "sts" if b"Version=2011-06-15" in request.body else "ec2"


def understand(caller: str, request: Request, account_of: Callable[[str], str]) -> Asked:
    """Return what a request asks for; ``account_of`` knows whose access key it is signed with."""
    form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    if request.method != "POST" or "Action" not in form:
        raise Refusal("MissingAction", "The request must contain the parameter Action")
    found = CREDENTIAL.search(request.headers.get("authorization", ""))
    if not found:
        raise Refusal("AuthFailure", "AWS was not able to validate the provided access credentials")
    which, action = service(request), form["Action"]
    return Asked(caller, account_of(found[1]), which, action, wire.parse(which, action, form), request)
