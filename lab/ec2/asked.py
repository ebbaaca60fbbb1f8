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
ROLE = re.compile(r"arn:[a-z-]+:iam::(\d{12}):role/.+")
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
    match = CREDENTIAL.search(request.headers.get("authorization", ""))
    if match:
        return "sts" if match[2] == "sts" else "ec2"
    return "sts" if b"Version=2011-06-15" in request.body else "ec2"


def understand(caller: str, request: Request, account_of: Callable[[str], str]) -> Asked:
    """Return what a request asks for; ``account_of`` knows whose access key it is signed with."""
    form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    if request.method != "POST" or "Action" not in form:
        raise Refusal("MissingAction", "The request must contain the parameter Action")
    which, action = service(request), form["Action"]
    match = CREDENTIAL.search(request.headers.get("authorization", ""))
    if match:
        account = account_of(match[1])
    elif which == "sts" and action == "AssumeRoleWithWebIdentity":
        account = _of_web_identity(form)
    else:
        raise Refusal("AuthFailure", "AWS was not able to validate the provided access credentials")
    return Asked(caller, account, which, action, wire.parse(which, action, form), request)


def _of_web_identity(form: Mapping[str, str]) -> str:
    """Return the account of the role that a web identity asks for: a request that nobody signs (STS API)."""
    if form.get("WebIdentityToken", "").count(".") != 2:  # a JWT has three parts
        raise Refusal("InvalidIdentityToken", "No OpenIDConnect provider found in your account", 400)
    role = ROLE.fullmatch(form.get("RoleArn", ""))
    if not role:
        raise Refusal("ValidationError", f"{form.get('RoleArn')} is invalid", 400)
    return role[1]
