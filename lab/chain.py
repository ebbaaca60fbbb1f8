"""A container runtime's half of CNI: runs a chain of plugins as libcni does, and remembers what ADD answered.

ADD runs the plugins in order and hands each one the result of the one before; DEL runs them in reverse with
the last result, as CHECK, GC and STATUS do in order (SPEC.md section 3, "Lifecycle & Ordering").
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.pod import Pod

REFERENCE_PLUGINS = (
    Path(__file__).parents[1] / ".cache" / "bin",  # where make builds what Debian has too old
    Path("/usr/lib/cni"),
    Path("/opt/cni/bin"),
)
Document = Mapping[str, Any]
Execute = Callable[[list[str], str, Mapping[str, str], float], "subprocess.CompletedProcess[str]"]


class PluginError(LabError):
    """A plugin answered with an error, or not as a plugin should. ``code`` is 0 where it gave none."""

    def __init__(self, plugin: str, verb: str, document: Document, stderr: str = "") -> None:
        self.plugin = plugin
        self.verb = verb
        self.code = int(document.get("code", 0))
        self.msg = str(document.get("msg", ""))
        self.details = str(document.get("details", ""))
        self.stderr = stderr
        text = f"{self.msg} ({self.details})" if self.details else self.msg
        super().__init__(
            f"{plugin} {verb}: code {self.code}: {text}" + (f"\n{stderr.strip()}" if stderr.strip() else "")
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of one plugin."""

    plugin: str
    verb: str
    began: float
    seconds: float
    status: int
    stdout: str
    stderr: str


def plugin_path() -> list[Path]:
    """Return where plugins are found: the reference plugins', and ours beside this interpreter."""
    return [p for p in REFERENCE_PLUGINS if p.is_dir()] + [Path(sys.executable).parent]


def find_plugin(kind: str, places: Iterable[Path] = ()) -> Path | None:
    """Return the plugin's executable."""
    result = shutil.which(kind, path=os.pathsep.join(map(str, places or plugin_path())))
    return Path(result) if result else None


class Runtime:
    """The runtime of one node. ``runs`` lists every execution, the newest last.

    ``places`` says where this node's plugins are; the first that has one wins.
    """

    def __init__(self, execute: Execute, places: Callable[[], Sequence[Path]] = plugin_path) -> None:
        self._execute = execute
        self._places = places
        self._results: dict[tuple[str, str, str], Document] = {}
        self._interfaces: dict[str, set[str]] = {}
        self.runs: list[Run] = []

    def add(self, pod: Pod, conflist: Document, ifname: str, **options: Any) -> dict[str, Any]:
        """Run the chain; return the last plugin's result."""
        self._interfaces.setdefault(pod.ns, set()).add(ifname)
        result: dict[str, Any] | None = None
        for entry in conflist["plugins"]:
            raw = self._run("ADD", conflist, entry, pod, ifname, result, **options)
            result = raw or result
        self._results[_key(pod, conflist, ifname)] = result or {}
        return result or {}

    def delete(
        self,
        pod: Pod,
        conflist: Document,
        ifname: str,
        *,
        prev_result: bool = True,
        netns: bool = True,
        **options: Any,
    ) -> None:
        """Run the chain backwards; without ``netns`` as when the sandbox is gone already."""
        key = _key(pod, conflist, ifname)
        known = self._results.get(key) if prev_result and _since(conflist, (0, 4, 0)) else None
        for entry in reversed(conflist["plugins"]):
            self._run("DEL", conflist, entry, pod, ifname, known, netns=netns, **options)
        self._results.pop(key, None)
        self._interfaces.get(pod.ns, set()).discard(ifname)

    def forget_interfaces(self, pod: Pod) -> frozenset[str]:
        """Return the interfaces that an ADD may have made in the pod and no DEL has removed, once."""
        return frozenset(self._interfaces.pop(pod.ns, ()))

    def check(self, pod: Pod, conflist: Document, ifname: str, **options: Any) -> None:
        """Ask every plugin whether what it did is still there."""
        known = self._results.get(_key(pod, conflist, ifname))
        for entry in conflist["plugins"]:
            self._run("CHECK", conflist, entry, pod, ifname, known, **options)

    def gc(self, conflist: Document, valid: Iterable[tuple[Pod, str]] | None, **options: Any) -> None:
        """Tell every plugin which attachments still exist. ``None`` leaves the list out."""
        extra: dict[str, Any] = {}
        if valid is not None:
            extra["cni.dev/valid-attachments"] = [
                {"containerID": pod.container_id, "ifname": ifname} for pod, ifname in valid
            ]
        for entry in conflist["plugins"]:
            self._run("GC", conflist, {**entry, **extra}, None, "", None, **options)

    def status(self, conflist: Document, **options: Any) -> None:
        """Ask every plugin whether it is ready for an ADD."""
        for entry in conflist["plugins"]:
            self._run("STATUS", conflist, entry, None, "", None, **options)

    def result(self, pod: Pod, conflist: Document, ifname: str) -> Document:
        """Return what ADD answered."""
        return self._results[_key(pod, conflist, ifname)]

    def _run(
        self,
        verb: str,
        conflist: Document,
        entry: Document,
        pod: Pod | None,
        ifname: str,
        previous: Document | None,
        *,
        netns: bool = True,
        runtime_config: Document | None = None,
        args: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> dict[str, Any]:
        config = _configuration(conflist, entry, previous, runtime_config or {})
        kind = str(config["type"])
        places = self._places()
        program = find_plugin(kind, places)
        if program is None:
            raise LabError(f"no plugin {kind!r} in {', '.join(map(str, places))}")
        # libcni always sets all six, empty where a verb has no use for one.
        variables = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod.container_id if pod else "",
            "CNI_NETNS": pod.netns if pod and netns else "",
            "CNI_IFNAME": ifname,
            "CNI_ARGS": _cni_args(pod, args or {}) if pod else "",
            "CNI_PATH": os.pathsep.join(map(str, places)),
        }
        began, clock = time.time(), time.perf_counter()
        done = self._execute([str(program)], json.dumps(config), {**variables, **(env or {})}, timeout)
        took = time.perf_counter() - clock
        self.runs.append(Run(kind, verb, began, took, done.returncode, done.stdout, done.stderr))
        try:
            answer = json.loads(done.stdout) if done.stdout.strip() else {}
        except json.JSONDecodeError as e:
            raise PluginError(kind, verb, {"msg": f"not JSON: {done.stdout!r}"}, done.stderr) from e
        if done.returncode:
            raise PluginError(kind, verb, answer or {"msg": f"exit status {done.returncode}"}, done.stderr)
        return dict(answer)


def _key(pod: Pod, conflist: Document, ifname: str) -> tuple[str, str, str]:
    return str(conflist["name"]), pod.container_id, ifname


def _since(conflist: Document, version: tuple[int, ...]) -> bool:
    """Say whether the list's version is new enough: DEL is given ``prevResult`` from 0.4.0 on."""
    return tuple(int(part) for part in str(conflist["cniVersion"]).split(".")) >= version


def _configuration(
    conflist: Document, entry: Document, previous: Document | None, runtime_config: Document
) -> dict[str, Any]:
    """Return what a plugin reads: its entry, the list's name and version, ``prevResult``, its capabilities.

    An entry may carry its own ``cniVersion``: Debian's reference plugins end at 1.0.0.
    """
    version = entry.get("cniVersion", conflist["cniVersion"])
    config = {**entry, "cniVersion": version, "name": conflist["name"]}
    given = {key: value for key, value in runtime_config.items() if entry.get("capabilities", {}).get(key)}
    if given:
        config["runtimeConfig"] = given
    if previous is not None:
        config["prevResult"] = {**previous, "cniVersion": version}
    return config


def _cni_args(pod: Pod, more: Mapping[str, str]) -> str:
    given = {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": pod.namespace,
        "K8S_POD_NAME": pod.name,
        "K8S_POD_INFRA_CONTAINER_ID": pod.container_id,
        **more,
    }
    return ";".join(f"{key}={value}" for key, value in given.items())
