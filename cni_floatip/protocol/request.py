"""Parses and validates one CNI call: environment and standard input.

Follows SPEC.md section 2 ("Execution Protocol") and, where that is silent, libcni's ``pkg/skel``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config.strict_json import load_json
from ..model.errors import DecodeFailure, IncompatibleVersion, InvalidConfig, InvalidEnvironment, short
from ..model.values import Attachment, PodIdentity
from ..model.versions import SUPPORTED, at_least


@dataclass(frozen=True, slots=True)
class Verb:
    """What a CNI command needs. ``since`` is the first version of the specification that has it."""

    required: tuple[str, ...] = ()
    since: str = "0.1.0"


VERBS: Mapping[str, Verb] = {
    "ADD": Verb(required=("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH")),
    "DEL": Verb(required=("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH")),
    "CHECK": Verb(required=("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"), since="0.4.0"),
    "GC": Verb(required=("CNI_PATH",), since="1.1.0"),
    "STATUS": Verb(required=("CNI_PATH",), since="1.1.0"),
    "VERSION": Verb(),
}

LARGEST = 65536
"""The most bytes of a floatip entry without ``prevResult``; the longest useful one has some thousands."""
LONGEST_NAME = 253
"""Characters of a network's name; that of a NetworkAttachmentDefinition has no more."""
LONGEST_VARIABLES = {"CNI_CONTAINERID": 255, "CNI_NETNS": 4095}
"""The most bytes of variables that the kernel limits (NAME_MAX, PATH_MAX)."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*\Z")


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed call. ``config`` is the network configuration as sent, not yet validated."""

    verb: str
    version: str
    attachment: Attachment
    netns: str
    config: Mapping[str, Any]
    pod: PodIdentity = field(default_factory=PodIdentity)
    netns_override: bool = False


def check_environment(environ: Mapping[str, str]) -> str:
    """Return the verb. Raises InvalidEnvironment that names every variable that is missing or malformed."""
    verb = environ.get("CNI_COMMAND", "")
    if verb not in VERBS:
        raise InvalidEnvironment(f"unknown CNI_COMMAND: {_quote(verb)}; known: {', '.join(VERBS)}")
    missing = [name for name in VERBS[verb].required if not environ.get(name)]
    if missing:
        raise InvalidEnvironment(f"required env variables [{','.join(missing)}] missing")
    faults = []
    if "CNI_CONTAINERID" in VERBS[verb].required and not _NAME.match(environ["CNI_CONTAINERID"]):
        faults.append(f"CNI_CONTAINERID {_quote(environ['CNI_CONTAINERID'])} has invalid characters")
    if verb in ("ADD", "CHECK"):
        faults += ifname_faults(environ["CNI_IFNAME"])
        if verb == "ADD" and not faults and not environ["CNI_IFNAME"].isprintable():
            faults.append(f"CNI_IFNAME {_quote(environ['CNI_IFNAME'])} has a control character")
        faults += [
            f"{name} {_quote(environ[name])} is longer than {most} bytes"
            for name, most in LONGEST_VARIABLES.items()
            if len(os.fsencode(environ[name])) > most
        ]
    if faults:
        raise InvalidEnvironment("; ".join(faults))
    return verb


def ifname_faults(name: str) -> list[str]:
    """The kernel's rules for an interface name (``dev_valid_name``).

    A DEL is exempt, because an error would keep the plugins before us from cleaning up.
    """
    if len(os.fsencode(name)) > 15:
        return [f"CNI_IFNAME {_quote(name)} is longer than 15 bytes"]
    if any("\ud800" <= char <= "\udfff" for char in name):
        return [f"CNI_IFNAME {_quote(name)} is not UTF-8"]  # it could not be recorded
    if name in (".", ".."):
        return [f"CNI_IFNAME may not be {_quote(name)}"]
    if any(char in "/:" or char.isspace() for char in name):
        return [f"CNI_IFNAME {_quote(name)} has a slash, a colon or white space"]
    return []


def parse(environ: Mapping[str, str], stdin: bytes) -> Request:
    """Validate one call (not VERSION) and return it as a Request.

    Raises InvalidEnvironment (4), DecodeFailure (6), IncompatibleVersion (1), InvalidConfig (7).
    """
    verb = check_environment(environ)
    config = load_json(stdin, "network configuration", cut=verb == "DEL")  # as with its CNI_IFNAME
    if not isinstance(config, dict):
        raise DecodeFailure(f"network configuration: expected a JSON object, found {type(config).__name__}")
    version = _version(verb, config)
    name = config.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        fault = "is missing" if name is None else f"{_quote(name)} has invalid characters"
        raise InvalidConfig(f"$.name: {fault}: a network needs a name of letters, digits, '_', '.' and '-'")
    if verb == "ADD" and len(name) > LONGEST_NAME:  # alone: what is there is checked and deleted as it is
        raise InvalidConfig(f"$.name: has {len(name)} characters; at most {LONGEST_NAME}")
    if verb == "ADD":
        _refuse_large(config)
    attachment = Attachment(name, environ.get("CNI_CONTAINERID", ""), environ.get("CNI_IFNAME", ""))
    return Request(
        verb=verb,
        version=version,
        attachment=attachment,
        netns=environ.get("CNI_NETNS", ""),
        config=config,
        pod=_identity(environ.get("CNI_ARGS", ""), strict=verb in ("ADD", "CHECK")),
        netns_override=environ.get("CNI_NETNS_OVERRIDE", "").upper() in ("1", "TRUE"),
    )


def _refuse_large(config: Mapping[str, Any]) -> None:
    """Raise InvalidConfig for an oversized entry: no network needs one, and each later reader pays for it."""
    size = len(json.dumps({key: value for key, value in config.items() if key != "prevResult"}))
    if size > LARGEST:
        raise InvalidConfig(f"$: the floatip entry has {size} bytes beside prevResult; at most {LARGEST}")


def _quote(value: object) -> str:
    return short(repr(value))


def _version(verb: str, config: Mapping[str, Any]) -> str:
    """Return ``cniVersion``; absent or empty means 0.1.0 (libcni ``version.ParseVersion``)."""
    version = config.get("cniVersion") or "0.1.0"
    if not isinstance(version, str):
        raise DecodeFailure(f"$.cniVersion: expected a string, found {_quote(version)}")
    since = VERBS[verb].since
    if since != "0.1.0":
        if not re.fullmatch(r"\d+\.\d+\.\d+", version):
            raise DecodeFailure(f"$.cniVersion: {_quote(version)} is not a version number")
        if not at_least(version, since):
            raise IncompatibleVersion(
                f"config version {_quote(version)} has no {verb}: it needs {since} or newer"
            )
    if version not in SUPPORTED:
        raise IncompatibleVersion(
            "incompatible CNI versions", f'config is "{short(version)}", plugin supports {list(SUPPORTED)}'
        )
    return version


def _identity(args: str, *, strict: bool) -> PodIdentity:
    """Read ``CNI_ARGS`` (``K=V;K=V``). Ignores unknown keys, as Kubernetes asks."""
    results: dict[str, str] = {}
    for pair in filter(None, args.split(";")):
        key, equals, value = pair.partition("=")
        if not equals and strict:
            raise InvalidEnvironment(f"CNI_ARGS: {_quote(pair)} is not of the form KEY=VALUE")
        results[key] = value
    return PodIdentity(
        namespace=results.get("K8S_POD_NAMESPACE", ""),
        name=results.get("K8S_POD_NAME", ""),
        uid=results.get("K8S_POD_UID", ""),
    )
