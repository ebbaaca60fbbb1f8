"""Uninstalls the plugin from a node: removes its client, guards, claims and socket.

Unfinished work is finished first, as ``floatipctl gc`` would: DELs in the spool, routes that are to be
released. While any pod still has a claim, nothing is removed. A node with a running agent is left alone
altogether. Only names that are ours are removed; a directory is removed when nothing else is in it.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import installer, operations
from ..config.nodeconf import NodeConf
from ..edges import podnet
from ..edges.podnet import forwarding, guard
from ..edges.spool import NOTE, SUFFIX
from ..model.claim import Claim
from ..model.claim_state import State
from ..model.errors import CniError, TryAgain
from ..model.values import Attachment, Link
from ..operations.world import World
from .recovery import end_unanswered
from .spool import Spool
from .watch.history import NAME as APPEARANCES

OF_DATA = ("claims", "corrupt", APPEARANCES, "lock")
"""Our names in the data directory; the lock is held until then, so it is removed last."""
OF_SPOOL = (SUFFIX, NOTE, ".new")
"""The suffixes of our files in the spool."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Our files on this node, and the world to finish their work in."""

    policy: NodeConf
    world: World
    spool: Spool
    bin_dir: Path
    has_records: bool
    """Whether anything was ever recorded here."""

    @property
    def data(self) -> Path:
        return Path(self.policy.data_dir)

    @property
    def spool_dir(self) -> Path:
        return Path(self.policy.spool_dir)


def finish(here: Installation) -> list[str]:
    """Finish unfinished work; return what is left, a sentence each."""
    if not here.has_records:
        return []
    end_unanswered(here.world)
    here.spool.process_all()
    return operations.collect(here.world)


def under_way(here: Installation) -> list[str]:
    """Return what ``finish`` would do, a sentence each."""
    claims, _ = here.world.claims.all()
    ended = _will_end(here, claims)
    deserted = [claim for claim in claims if claim.attachment in ended or _is_deserted(claim)]
    return [
        *(f"would do the DEL that waits in {path}" for path in _spool_files(here)),
        *(f"would release the routes that {_who(claim)} left" for claim in deserted),
    ]


def obstacles(here: Installation, *, finished: bool = True) -> list[str]:
    """Return the reasons not to remove anything, a sentence each.

    Unless ``finished``, work that ``finish`` would do counts as done.
    """
    claims, problems = here.world.claims.all()
    results = [str(problem) for problem in problems if not problem.moved]  # records that were moved come next
    results += [
        f"{path}: an unreadable record, behind which a pod may be running. If no pod on this node has a"
        " floating IP, remove the file"
        for path in _lost(here)
    ]
    if not here.has_records:
        return results + [
            f"{link.name} has a metadata guard, so pods may have addresses here, but {here.data} has no "
            "record of any: run this with the configuration that the agent had"
            for link in _list_guarded_links()
        ]
    ended = set() if finished else _will_end(here, claims)
    for claim in claims:
        if claim.has_pod and claim.attachment not in ended:
            results.append(f"{_who(claim)} is still here: its runtime needs the client to remove it")
        elif finished and _is_deserted(claim):
            where = ", ".join(str(route.key) for route in claim.routes) or "routes unknown"
            results.append(
                f"{_who(claim)} has ended, but its routes are not released yet ({where}): floatipctl gc"
            )
    if finished and (spooled := len(_spool_files(here))):
        results.append(f"{spooled} DEL{'s' * (spooled != 1)} in {here.spool_dir} cannot be performed")
    return results


def _is_deserted(claim: Claim) -> bool:
    """Whether routes of a claim are to be released here. Those of an elected one are its group's."""
    return claim.state is State.RELEASING and not claim.elected


def _lost(here: Installation) -> list[Path]:
    """Return the records that were set aside and not replaced; a DEL that came would have replaced one."""
    return [
        path
        for path in _entries(here.data / "corrupt")
        if not (here.data / "claims" / f"{path.name.partition('.')[0]}.json").exists()
    ]


def _will_end(here: Installation, claims: Sequence[Claim]) -> set[Attachment]:
    """Return claims that have not ended but will: a DEL waits, or evidence shows that the pod is gone."""
    evidence, deleted = operations.evidence_among(claims, here.world), here.spool.owners()
    return {
        claim.attachment
        for claim in claims
        if claim.has_pod
        if evidence(claim) or (claim.attachment.container, claim.attachment.ifname) in deleted
    }


def remove(here: Installation, *, dry_run: bool = False, guards: bool = True) -> Iterator[str]:
    """Remove everything; yield what was removed and what had to stay, a line each. Raises CniError.

    ``guards``: remove metadata guards too; a pod needs them as long as it lives.
    """
    did = "would remove" if dry_run else "removed"
    yield from (f"{did} {path}" for path in installer.remove_client(here.bin_dir, dry_run=dry_run))
    if guards:
        yield from _remove_guards(did, dry_run=dry_run)
    else:
        yield from (
            f"kept the metadata guard of {link.name}, because a pod may depend on it"
            for link in _list_guarded_links()
        )
    door = Path(here.policy.socket_path)
    spooled = [path for path in _entries(here.spool_dir) if path.suffix in OF_SPOOL or path.name == "corrupt"]
    data = [here.data / name for name in OF_DATA]
    for path in [door, *spooled, here.spool_dir, door.parent, *data, here.data]:
        if line := _remove(path, did, dry_run=dry_run, whole=path in data or path in spooled):
            yield line


def agent_is_here(policy: NodeConf) -> TryAgain:
    return TryAgain(
        f"a node agent uses {policy.data_dir}: uninstall the DaemonSet first (an agent may need half a"
        " minute to shut down)"
    )


def _spool_files(here: Installation) -> list[Path]:
    return [path for path in _entries(here.spool_dir) if path.suffix == SUFFIX]


def _entries(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(directory.iterdir())
    return []


def _who(claim: Claim) -> str:
    addresses = ", ".join(str(address.ip) for address in (*claim.addresses, *claim.watched))
    name = f"pod {claim.pod}" if claim.pod.name else f"container {claim.attachment.container}"
    return f"{name} ({claim.attachment.ifname} {addresses or 'no address'})"


def _list_guarded_links() -> Iterator[Link]:
    """Yield this host's interfaces that have a metadata guard."""
    for index, _ in socket.if_nameindex():
        with contextlib.suppress(CniError):  # gone meanwhile, or not readable for us
            if guard.is_left(link := podnet.host_link(index)):
                yield link


def _remove_guards(did: str, *, dry_run: bool) -> Iterator[str]:
    """Remove the metadata guards of this host's interfaces, their table, and the rules about forwarding."""
    for link in _list_guarded_links():
        try:
            if not dry_run:
                guard.remove(link)
            yield f"{did} the metadata guard of {link.name}"
        except CniError as e:
            yield f"left the metadata guard of {link.name}: {e}"
    try:
        for name in sorted(forwarding.names()):
            if not dry_run:
                forwarding.resume({name})
            yield f"{did} the rules that stop forwarding from {name}"
    except CniError as e:
        yield f"left the rules that stop forwarding: {e}"
    try:
        if guard.has_table():
            if not dry_run:
                guard.remove_table()
            yield f"{did} the nftables table netdev floatip"
    except CniError as e:
        yield f"left the nftables table netdev floatip: {e}"


def _remove(path: Path, did: str, *, dry_run: bool, whole: bool) -> str:
    """Remove one path; a directory with its contents only if ``whole``. Return the line to print."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return ""
    if dry_run:
        return f"{did} {path}"
    try:
        if not stat.S_ISDIR(mode):
            path.unlink()
        elif whole:
            shutil.rmtree(path)
        else:
            path.rmdir()
    except OSError as e:
        why = "a volume is mounted there" if path.is_mount() else e.strerror
        return f"left {path}: {why}"
    return f"{did} {path}"
