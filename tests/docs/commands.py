"""What can be said of a documented command without running it: the programs we know, and their commands."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from tests.docs.pages import ROOT


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


KUBECTL = _words(
    "annotate api-resources apply auth cluster-info config cordon cp create debug delete describe diff drain"
    " edit events exec explain expose get label logs patch port-forward replace rollout run scale set taint"
    " top uncordon version wait"
)
HELM = _words(
    "dependency get history install lint list package pull push registry repo rollback search show status"
    " template test uninstall upgrade version"
)
EKSCTL = _words("create delete drain get scale set unset update upgrade utils version")
CUSTOM = {
    "cloudformation": {"deploy", "package"},
    "eks": {"update-kubeconfig", "get-token"},
    "ecr": {"get-login-password"},
    "configure": {"list", "get", "set"},
    "logs": {"tail"},
}
"""Commands of the AWS CLI that are no operation of the API."""
GLOBAL = {
    "cli-input-json",
    "endpoint-url",
    "no-cli-pager",
    "output",
    "profile",
    "query",
    "region",
    "no-paginate",
    "max-items",
    "debug",
    "generate-cli-skeleton",
}
CHART = ROOT / "install" / "helm" / "cni-floatip" / "values.yaml"
SEPARATORS = {"|", "||", "&&", ";", "&", "<", ">", ">>", "2>"}
BEFORE_A_COMMAND = _words("do then else if elif while until ! { time")


def simple(line: str) -> Iterator[list[str]]:
    """Yield the simple commands of one shell line; ValueError where it cannot be split."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for token in lexer:
        if token in SEPARATORS:
            yield words
            words = [] if token in {"|", "||", "&&", ";", "&"} else ["<file>"]
        else:
            words.append(token)
    yield words


def taken_out(line: str) -> tuple[str, list[str]]:
    """Return the line without its ``$(...)``, and what stood in them."""
    inner = []
    while (begin := line.find("$(")) >= 0:
        depth, end = 1, begin + 2
        while depth and end < len(line):
            depth += {"(": 1, ")": -1}.get(line[end], 0)
            end += 1
        inner.append(line[begin + 2 : end - (not depth)])
        line = line[:begin] + "SAID" + line[end:]
    return line, inner


def complaints(line: str) -> list[str]:
    """Say what is wrong with one documented line, for every program in it that we know."""
    outer, inner = taken_out(line)
    try:
        commands = [words for words in simple(outer) if words]
    except ValueError as e:
        return [f"{line}: cannot be split: {e}"]
    own = [f"{line}: {fault}" for words in commands for fault in _judge(words)]
    return [*own, *(fault for item in inner for fault in complaints(item))]


def _judge(words: list[str]) -> Iterator[str]:
    while words and (
        words[0] in BEFORE_A_COMMAND or re.fullmatch(r"[A-Za-z_]\w*(=.*|\(\))", words[0], re.DOTALL)
    ):
        words = words[1:]
    if not words:
        return
    program, rest = words[0].rpartition("/")[2], words[1:]
    if program in ("kubectl", "podman", "docker", "nerdctl", "buildah", "sudo", "watch") and "--" in rest:
        inner = rest.index("--")
        yield from _judge(rest[inner + 1 :])
        rest = rest[:inner]
    judge = {"floatipctl": _floatipctl, "kubectl": _kubectl, "helm": _helm, "aws": _aws, "eksctl": _eksctl}
    if program in judge:
        yield from judge[program](rest)


def floatipctl() -> dict[str, set[str]]:
    """Return the options of each command of ours."""
    from cni_floatip import cli

    results = {}
    for action in cli.parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, parser in action.choices.items():
                results[name] = {option for action in parser._actions for option in action.option_strings}
    return results


def _floatipctl(arguments: list[str]) -> Iterator[str]:
    from cni_floatip import cli

    output = io.StringIO()
    with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
        try:
            cli.parser().parse_args(arguments)
        except SystemExit as e:
            if e.code:
                yield output.getvalue().strip().splitlines()[-1]


def _first(arguments: list[str], with_value: set[str]) -> str:
    """The first word that is no option and no option's value."""
    words = iter(arguments)
    for word in words:
        if word in with_value:
            next(words, "")
        elif not word.startswith("-"):
            return word
    return ""


def _kubectl(arguments: list[str]) -> Iterator[str]:
    command = _first(arguments, {"-n", "--namespace", "--context", "--kubeconfig"})
    if command not in KUBECTL:
        yield f"kubectl has no {command!r}"


def _eksctl(arguments: list[str]) -> Iterator[str]:
    if _first(arguments, set()) not in EKSCTL:
        yield f"eksctl has no {_first(arguments, set())!r}"


def _helm(arguments: list[str]) -> Iterator[str]:
    command = _first(arguments, {"-n", "--namespace", "--kube-context"})
    if command not in HELM:
        yield f"helm has no {command!r}"
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        name, _, same = option.partition("=")
        if name in ("--set", "--set-string", "--set-json", "--set-file", "--set-literal"):
            text = same if "=" in option else value
            assignments = (
                [text] if name != "--set" and name != "--set-string" else re.split(r"(?<!\\),", text)
            )
            for assignment in assignments:
                yield from _value(assignment.partition("=")[0])


def _value(key: str) -> Iterator[str]:
    raw: Any = yaml.safe_load(CHART.read_text())
    for part in re.split(r"(?<!\\)\.", key):
        name = re.sub(r"\[\d+\]", "", part).replace("\\.", ".")
        if not raw or isinstance(raw, list):
            return  # what is empty by default takes what it is given: values.schema.json judges that
        if not isinstance(raw, dict) or name not in raw:
            yield f"the chart has no value {key}"
            return
        raw = raw[name]


def _aws(arguments: list[str]) -> Iterator[str]:
    service = _first(arguments, {"--region", "--profile", "--output", "--endpoint-url"})
    rest = arguments[arguments.index(service) + 1 :] if service else []
    operation = _first(rest, set())
    if operation in CUSTOM.get(service, ()):
        return
    known = _operations(service)
    if known is None:
        yield f"aws has no service {service!r}"
    elif operation == "wait":
        waiter = _first(rest[1:], set())
        if waiter not in _waiters(service):
            yield f"aws {service} wait has no {waiter!r}"
    elif operation not in known:
        yield f"aws {service} has no {operation!r}"
    else:
        given = {word[2:].partition("=")[0] for word in rest if word.startswith("--")}
        members = known[operation]
        for option in sorted(given - GLOBAL - members):
            if not (option.startswith("no-") and option[3:] in members):
                yield f"aws {service} {operation} has no --{option}"


@cache
def _operations(service: str) -> dict[str, set[str]] | None:
    """Command -> options of one service, from the SDK's own description of its API."""
    from botocore import xform_name
    from botocore.exceptions import UnknownServiceError
    from botocore.session import Session

    try:
        model = Session().get_service_model(service)
    except UnknownServiceError:
        return None
    results = {}
    for name in model.operation_names:
        shape = model.operation_model(name).input_shape
        members = {xform_name(member, "-") for member in shape.members} if shape else set()
        results[xform_name(name, "-")] = members
    return results


@cache
def _waiters(service: str) -> set[str]:
    from botocore import xform_name
    from botocore.session import Session

    return {xform_name(name, "-") for name in Session().get_waiter_model(service).waiter_names}
