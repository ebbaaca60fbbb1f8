"""Mistakes that a test must notice: ``make mutants`` plants each in a copy and runs the tests named for it.

A row is data: the module, the text that is there exactly once, what it becomes, what that breaks, and where
it should be noticed. A row whose text is not found exactly once is an error: bring the row up to date. So is
one whose tests fail without the mistake. Exit status 0 means that no mistake survived.

    python tests/mutants.py [-k TEXT]        those whose name or module contains TEXT
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300
"""A run that takes longer is no answer: perhaps the machine is busy."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. ``module``: of the package, or a file's path. ``tests`` are what pytest is called with."""

    name: str
    module: str
    there: str
    becomes: str
    breaks: str
    tests: str

    @property
    def file(self) -> str:
        """Return where its place is, from the root of the project."""
        return self.module if "." in self.module else f"cni_floatip/{self.module}.py"


KEEPING = "tests/rules/test_reconcile.py"
KEEPER = "tests/agent/keeper/test_loop.py"
CUT_OFF = "tests/agent/keeper/test_detached_eni.py"
ORDER = "tests/agent/keeper/test_repair_order.py"
OUTAGES = "tests/agent/observe/test_outages.py"
PROMISES = "tests/agent/keeper/test_promises.py"
COST = "tests/agent/keeper/test_cost_of_a_look.py"
DELETED = "tests/operations/test_concurrent_delete.py"
WAITING = "tests/agent/test_cancelled_waits.py"
ONE_AT_A_TIME = "tests/faults/test_one_at_a_time.py"
CHART = "install/helm/cni-floatip/templates/_helpers.tpl"
PODSIDE = "tests/operations/test_pod_side.py"
PODSIDES = "tests/agent/watch/test_pod_sides.py"
ADDRESSES = "tests/doctor/test_addresses.py"

MUTANTS = (
    Mutant(
        "IPv6 host bits",
        "validate/ipam",
        'if to.version == 4 and str(ip_interface(route["dst"]).ip)',
        'if str(ip_interface(route["dst"]).ip)',
        "validate refuses a chain that works: the kernel masks IPv6 destinations",
        "tests/validate/test_chain.py",
    ),
    Mutant(
        "IPv6 route to a gateway",
        "validate/ipam",
        "links.setdefault((6, to.prefixlen), set()).add(bits)",
        "pass",
        "validate refuses a chain that works: a route puts its gateway on the link",
        "tests/validate/test_chain.py",
    ),
    Mutant(
        "chained ipvlan",
        "validate/other_plugins",
        "return path[-1] != 0",
        "return False",
        "validate refuses an ipvlan that has its master from the plugin before it",
        "tests/validate/test_networks.py",
    ),
    Mutant(
        "deep DEL",
        "protocol/request",
        'cut=verb == "DEL")',
        "cut=False)",
        "a network that is nested deeply keeps its pods from ending",
        "tests/conformance/test_odd_input.py",
    ),
    Mutant(
        "long label",
        "validate/documents",
        "name if len(name) <= LONGEST_NAME else short(name)",
        "name",
        "each complaint of validate repeats a name of any length",
        "tests/validate/test_hostile_files.py",
    ),
    Mutant(
        "crowd in the log",
        "agent/watch/interface",
        "if before is None and not isinstance(key, str) and self.silent:",
        "if before is None and not isinstance(key, str) and False:",
        "a pod that gives itself ever other addresses floods the log",
        "tests/agent/watch/test_interface.py",
    ),
    Mutant(
        "crowd in a look",
        "operations/sync_addresses",
        "if candidate.interface.ip not in too_many",
        "if candidate not in beyond",
        "a pod with thousands of addresses holds the agent for seconds at each look",
        "tests/operations/test_sync_addresses.py",
    ),
    Mutant(
        "throws in the record",
        "model/claim",
        'for route in self.pod_routes\n                if route.kind != "throw"\n            ],',
        "for route in self.pod_routes\n            ],",
        "after a roll back the agent moves the record of a pod with a pool aside",
        "tests/edges/test_store.py",
    ),
    Mutant(
        "detached",
        "rules/reconcile",
        "if claimant.claim.eni in present and given(claimant.claim)]",
        "if given(claimant.claim)]",
        "the keeper writes through an ENI that is not here",
        f"{KEEPING} {CUT_OFF}",
    ),
    Mutant(
        "policy",
        "rules/reconcile",
        "if claimant.claim.eni in present and given(claimant.claim)]",
        "if claimant.claim.eni in present]",
        "the keeper writes what policy gives no more",
        f"{KEEPING} {ORDER}",
    ),
    Mutant(
        "policy-destination",
        "agent/keeper/repair",
        "return allowed and table is not None and policy.allows_table(table)",
        "return table is not None and policy.allows_table(table)",
        "the keeper writes a destination that policy gives no more",
        ORDER,
    ),
    Mutant(
        "policy-table",
        "agent/keeper/repair",
        "return allowed and table is not None and policy.allows_table(table)",
        "return allowed",
        "the keeper writes a table that policy gives no more",
        ORDER,
    ),
    Mutant(
        "policy-hand-over",
        "operations/release",
        "return given and here(claim)",
        "return here(claim)",
        "a route is handed over in a table that policy gives no more",
        ORDER,
    ),
    Mutant(
        "hand-over-detached",
        "operations/release",
        "return given and here(claim)",
        "return given",
        "a route is handed over to a claim whose ENI is not here",
        CUT_OFF,
    ),
    Mutant(
        "moved",
        "rules/reconcile",
        "        if target.active:  # where it leads to",
        "        if target.active and target.id != eni:  # where it leads to",
        "the working route of the node that has the ENI now is deleted",
        KEEPING,
    ),
    Mutant(
        "moved-release",
        "rules/destinations",
        "    if target.active and not here(claim):",
        "    if False:",
        "a release deletes the working route of the node that has the ENI now",
        f"tests/rules/test_destinations.py {CUT_OFF}",
    ),
    Mutant(
        "propagated-release",
        "rules/destinations",
        "if target is None or not replaceable(target) or target.id != claim.eni:",
        "if target is None or not target.is_eni or target.id != claim.eni:",
        "a release asks EC2 to delete a propagated route",
        "tests/rules/test_destinations.py",
    ),
    Mutant(
        "grace-of-another",
        "rules/reconcile",
        "elif claimant.claim.eni not in waiting:",
        "else:",
        "an older claim of the ENI releases the route within the grace of a newer one",
        KEEPING,
    ),
    Mutant(
        "grace-of-another-release",
        "operations/release",
        "if what is destinations.Release.LEAVE or _is_kept(world, claim, key):",
        "if what is destinations.Release.LEAVE:",
        "a failed ADD releases the route within the grace of another claim",
        ORDER,
    ),
    Mutant(
        "grace-take-over",
        "rules/reconcile",
        "if any(claimant.route.not_before > now for claimant in past):",
        "if False:",
        "a route is handed over within its grace",
        f"{KEEPING} {ORDER}",
    ),
    Mutant(
        "patience-superseded",
        "rules/reconcile",
        "return max(2 * reconcile, HELD_PATIENCE + LONGEST_GAP * reconcile + STALE_SECONDS)",
        "return 2 * reconcile",
        "with a short reconcileSeconds the older owner mends first",
        f"{KEEPING} {ORDER}",
    ),
    Mutant(
        "patience-held",
        "rules/reconcile",
        "        return HELD_PATIENCE\n",
        "        return 0.0\n",
        "an older claim mends at once",
        KEEPING,
    ),
    Mutant(
        "patience-due",
        "agent/keeper/loop",
        "            self._due |= {_step(at) for at in look.due}",
        "            pass",
        "a lost route is mended a look later than patience ends",
        ORDER,
    ),
    Mutant(
        "repair-puts-off-others",
        "agent/keeper/repair",
        "            self.errors |= dict.fromkeys(keys, repr(e))\n",
        "            raise\n",
        "a repair that fails puts off those of other routes, and an older owner mends first",
        "tests/agent/keeper/test_unexpected_errors.py",
    ),
    Mutant(
        "stretched",
        "agent/keeper/loop",
        "stretch = 1.0 if self._holds() else self._stretch",
        "stretch = self._stretch",
        "throttled looks let the older owner mend first",
        f"{ORDER} {KEEPER}",
    ),
    Mutant(
        "superseded-at-once",
        "agent/observe/outages",
        "return now - max(route.held_since, wrote) < STALE_SECONDS",
        "return False",
        "a stale read after an ordinary move counts as two owners",
        f"{ORDER} {OUTAGES}",
    ),
    Mutant(
        "own-create-doubted",
        "agent/observe/outages",
        "now - max(route.held_since, wrote) < STALE_SECONDS",
        "now - route.held_since < STALE_SECONDS",
        "a read that is older than the keeper's own create is an outage",
        OUTAGES,
    ),
    Mutant(
        "events-folded",
        "agent/observe/logs",
        'if fields.get("event"):',
        "if False:",
        "the log leaves out what happens again within five minutes, and dates it later",
        f"tests/agent/observe/test_logs.py {OUTAGES}",
    ),
    Mutant(
        "stolen-is-served",
        "rules/reconcile",
        "Row(Action.NOTHING, Event.SEEN_ELSEWHERE, Action.NOTHING, Outage.SUPERSEDED)",
        "Row(Action.NOTHING, Event.SEEN_ELSEWHERE, Action.NOTHING)",
        "a stolen route is reported to nobody",
        f"{OUTAGES} tests/agent/observe/test_alerts.py",
    ),
    Mutant(
        "status-is-content",
        "commands/status_view",
        'agent.get("unserved") or agent.get("problems")',
        'agent.get("problems")',
        "status ends with 0 while an address is dead",
        "tests/commands/test_status.py",
    ),
    Mutant(
        "gone-is-wrong",
        "agent/observe/status",
        'observation.error if observation and not gone else ""',
        'observation.error if observation else ""',
        "a claim that has ended makes status fail for 20 minutes",
        "tests/commands/test_status.py",
    ),
    Mutant(
        "checked-is-served",
        "agent/observe/outages",
        "return Outage.CHECKED if claim.eni in checked else None",
        "return None",
        "an address whose packets EC2 drops is said to be served",
        KEEPER,
    ),
    Mutant(
        "spool-unsaid",
        "commands/gc",
        "spool.reported(after, spool.waiting(policy.spool_dir))",
        "list[str]()",
        "gc says that there is nothing to do while a DEL waits",
        "tests/commands/test_gc.py",
    ),
    Mutant(
        "anothers-spool",
        "commands/gc",
        "            if not options.dry_run and policy.data_dir == configured.data_dir:\n",
        "            if not options.dry_run:\n",
        "gc takes DELs whose claims are in another data directory for done, and removes them",
        "tests/commands/test_gc.py",
    ),
    Mutant(
        "good-look-undated",
        "agent/keeper/loop",
        "            self._seen_all = self._world.now()",
        "            pass",
        "an agent that is blind cannot be told from one that sees",
        "tests/agent/observe/test_alerts.py",
    ),
    Mutant(
        "seen-by-nobody",
        "rules/reconcile",
        "same = same and before is not None and at - before.at <= gap",
        "same = same and before is not None",
        "what nobody looked at counts as seen broken",
        f"{KEEPING} {KEEPER}",
    ),
    Mutant(
        "unlocked",
        "agent/keeper/repair",
        "                if not free:\n                    return Done()  # a call",
        "                if False:\n                    return Done()  # a call",
        "the keeper writes a place that a call is writing",
        PROMISES,
    ),
    Mutant(
        "judged-once",
        "agent/keeper/repair",
        "if decision.action is not step or decision.by is None or world.clock() - at > FRESH_SECONDS:",
        "if decision.by is None and not (decision := self.decide(claimants, Observation(None,"
        " at, 0.0, -1e9), key, table, reconcile)).by:",
        "no second judgement before the write: it hits the new owner",
        PROMISES,
    ),
    Mutant(
        "replaces",
        "agent/keeper/repair",
        "                ec2.create(key, by.claim.eni, account)\n",
        "                try:\n                    ec2.create(key, by.claim.eni, account)\n"
        "                except Ec2Error:\n                    ec2.replace(key, by.claim.eni, account)\n",
        "the keeper answers RouteAlreadyExists by Replace",
        PROMISES,
    ),
    Mutant(
        "unrecorded",
        "agent/keeper/repair",
        "        if action is not Action.DELETE and not self.change(",
        "        if False and not self.change(",
        "a Create whose answer never comes is nobody's",
        PROMISES,
    ),
    Mutant(
        "no-table-at-all",
        "agent/keeper/look",
        "        if not tables:  # every VPC",
        "        if False:  # every VPC",
        "an answer without any table ends claims",
        PROMISES,
    ),
    Mutant(
        "claimants-by-each-route",
        "agent/keeper/look",
        "claimants = claimants_of.get(key, [])",
        "claimants = repairer.claimants(self._world.claims.for_route(key)).get(key, [])",
        "a look goes through all routes of a claim for each of them",
        COST,
    ),
    Mutant(
        "equal-claims-rebuilt",
        "model/claim_state",
        "        if state is self.state and not times:\n",
        "        if False:\n",
        "a look rebuilds every claim although nothing has changed",
        COST,
    ),
    Mutant(
        "equal-tables-joined",
        "agent/keeper/table_membership",
        "    if not gone and not leaving and not joined:\n",
        "    if False:\n",
        "a look rebuilds every claim although the same tables match",
        COST,
    ),
    Mutant(
        "written-by-each-route",
        "agent/keeper/look",
        "events.setdefault(attachment, {})[key] = event",
        "repairer.change(attachment, partial(Claim.observe, events={key: event}))",
        "a claim that changes in ten tables is written ten times",
        COST,
    ),
    Mutant(
        "left-on-one-read",
        "agent/keeper/table_membership",
        "if at - since >= UNMATCHED_SECONDS}",
        "}",
        "a table is left on one stale read of tags",
        PROMISES,
    ),
    Mutant(
        "grace-from-del",
        "operations/delete",
        "return max(world.now(), claim.last_write_at) + world.policy.release_grace_seconds",
        "return world.now() + world.policy.release_grace_seconds",
        "grace does not wait for the end of the last write",
        PROMISES,
    ),
    Mutant(
        "no-grace",
        "operations/delete",
        "return max(world.now(), claim.last_write_at) + world.policy.release_grace_seconds",
        "return 0.0",
        "the route goes with the pod",
        KEEPER,
    ),
    Mutant(
        "history-recorded",
        "agent/keeper/loop",
        "        self._record_sightings()\n",
        "",
        "since when a route is dead or elsewhere begins anew with each agent",
        "tests/agent/keeper/test_history.py",
    ),
    Mutant(
        "history-kept",
        "model/claim",
        "former.changed_at if former and route.is_as(former) else now",
        "now",
        "each write of a claim dates its routes anew",
        "tests/agent/keeper/test_history.py tests/model/test_claim_file.py",
    ),
    Mutant(
        "history-old-record",
        "model/claim",
        'route = replace(route, target=record.text("eni"), changed_at=route.held_since)',
        "pass",
        "since when a route is held begins anew with an upgrade",
        "tests/model/test_claim_file.py",
    ),
    Mutant(
        "history-pod-lost",
        "operations/pod_repair",
        "since = (claim.pod_lost_since or world.now())",
        "since = world.now()",
        "since when a pod lacks something begins anew with each look",
        "tests/operations/test_pod_side.py",
    ),
    Mutant(
        "evidence-path",
        "operations/evidence",
        "        if not _beside(claim, known, world):\n",
        "        if False:\n",
        "an absent path alone ends a claim",
        PROMISES,
    ),
    Mutant(
        "evidence-foreign-proc",
        "operations/evidence",
        'return _PROC if claim.netns.startswith(f"{_PROC}/") else str(',
        "return str(",
        "an agent in a PID namespace of its own takes its own threads for evidence, and ends claims of pods",
        "tests/operations/test_evidence.py",
    ),
    Mutant(
        "evidence-hidden",
        "operations/evidence",
        " or world.namespaces.is_hidden(claim.netns):",
        ":",
        "a mount that does not follow the host's ends the claims of running pods",
        "tests/operations/test_evidence.py",
    ),
    Mutant(
        "evidence-inode",
        "operations/evidence",
        "world.inode(claim.netns) == claim.netns_inode != 0",
        "world.inode(claim.netns) != 0",
        "the claim of a pod that is gone lives while another namespace has its path",
        "tests/operations/test_evidence.py",
    ),
    Mutant(
        "evidence-dangling",
        "edges/host",
        "                    continue\n",
        "                    return False\n",
        "a link that leads nowhere hides every namespace",
        PROMISES,
    ),
    Mutant(
        "client-gone",
        "operations/write_routes",
        '        if why := world.cancelled():\n            raise TryAgain(f"stopped: {why}")\n        now =',
        "        now =",
        "an ADD succeeds for a client that has gone",
        PROMISES,
    ),
    Mutant(
        "keep-read-only",
        "operations/delete",
        "            except IoFailure as e:  # the DEL itself is yet to be recorded",
        "            except ZeroDivisionError as e:",
        "an older record that cannot be written stops a DEL",
        PROMISES,
    ),
    Mutant(
        "other-eni-overwritten",
        "operations/add",
        "    if isinstance(left, Claim) and left.state is not State.GONE:\n        raise",
        "    if False:\n        raise",
        "routes through an attachment's former ENI are forgotten",
        PROMISES,
    ),
    Mutant(
        "check-left-table",
        "operations/check",
        "for route in () if claim.live or claim.watches else claim.routes:",
        "for route in claim.routes:",
        "CHECK fails for ever after a table was left",
        PROMISES,
    ),
    Mutant(
        "pod-events",
        "edges/podnet/events",
        "0x100 | 0x40 | 0x400 | 0x80 | 0x40000",
        "0x100",
        "what a pod loses is found at the keeper's look alone",
        PODSIDES,
    ),
    Mutant(
        "pod-filter",
        "edges/podnet/events",
        "        _attach_filter(sock)\n",
        "",
        "our own writes and a BGP speaker's routes bring about looks into the pod",
        PODSIDES,
    ),
    Mutant(
        "pod-flush",
        "agent/watch/watched_pods",
        "        self._allowance.take(1, now)\n",
        "",
        "a pod that flushes for ever costs a look in 0.2 s",
        PODSIDES,
    ),
    Mutant(
        "pod-del",
        "operations/pod_repair",
        "    if repaired and not (isinstance(now, Claim) and now.has_pod):",
        "    if False:",
        "what was put back while a DEL cleared the pod stays there",
        PODSIDE,
    ),
    Mutant(
        "pod-link",
        "operations/pod_repair",
        "    if parent and parent.here and not parent.link.up:",
        "    if False:",
        "the link of an ENI that is down under live pods stays down",
        PODSIDE,
    ),
    Mutant(
        "pod-look",
        "agent/main",
        "self.guard.check_all, self.watch.look_at_pods, rounds.beat",
        "self.guard.check_all, rounds.beat",
        "what no event tells of stays lost in the pod",
        "tests/conformance/test_pods_kept.py",
    ),
    Mutant(
        "pod-bar",
        "edges/podnet/tables",
        "    return 0 if rule.unreachable_to else max(bars, default=0)",
        "    return 0",
        "a rule that is put back opens the way to metadata for bound sockets",
        "tests/edges/podnet/test_kernel.py",
    ),
    Mutant(
        "left-for-ever",
        "agent/keeper/loop",
        "                self._forget_what_it_left(claim)",
        "                pass",
        "the routes of tables that were left stay in live claims for ever",
        PROMISES,
    ),
    Mutant(
        "gone-erased",
        "operations/backlog",
        "return world.now() < claim.last_write_at + LATE_SECONDS",
        "return False",
        "a write that lands late is nobody's",
        KEEPER,
    ),
    Mutant(
        "directory-unsynced",
        "edges/store",
        "    sync_directory(path.parent)",
        "    pass",
        "a power cut loses a record that was written",
        "tests/edges/test_store.py",
    ),
    Mutant(
        "always-replace",
        "operations/write_routes",
        "(vpc.replace if exists else vpc.create)(key, eni, account)",
        "vpc.replace(key, eni, account)",
        "an ADD cannot create",
        "tests/operations/test_write_routes.py",
    ),
    Mutant(
        "old-decision",
        "operations/write_routes",
        "        if world.clock() - read.at > FRESH_SECONDS:",
        "        if False:",
        "an ADD writes by what it read long ago",
        "tests/operations/test_write_routes.py",
    ),
    Mutant(
        "any-table",
        "rules/destinations",
        "forbidden = [table.id for table in tables if not policy.allows_table(table)]",
        "forbidden: list[str] = []",
        "an ADD writes tables that policy does not give",
        "tests/rules/test_destinations.py",
    ),
    Mutant(
        "superseded-as-held",
        "rules/reconcile",
        "return max(2 * reconcile, HELD_PATIENCE + LONGEST_GAP * reconcile + STALE_SECONDS)",
        "return HELD_PATIENCE",
        "a superseded claim is not last in line",
        KEEPING,
    ),
    Mutant(
        "blackhole-beside-cut-off",
        "rules/reconcile",
        "elif not any(observation.target and claimant.claim.eni == observation.target.id for claimant in"
        " live):",
        "elif False:",
        "an ended claim leaves its blackhole beside a claim that is cut off",
        KEEPING,
    ),
    Mutant(
        "others-ignored",
        "operations/release",
        "            others = live_claims(world, besides=claim.attachment, key=key)",
        "            others: list[Claim] = []",
        "a release takes the route of another claim of the node",
        KEEPER,
    ),
    Mutant(
        "not-undone",
        "operations/add",
        '        "take the VPC routes back": lambda: release(world, attempt.vpc, ended, until),\n',
        "",
        "the routes of a failed ADD stay until the keeper looks",
        PROMISES,
    ),
    Mutant(
        "deleted-in-the-last-moment",
        "operations/add",
        "    if not isinstance(now, Claim) or now.deleted_at:\n",
        "    if False:\n",
        "an ADD succeeds though a DEL came as it ended",
        DELETED,
    ),
    Mutant(
        "brought-back",
        "agent/claim_cache",
        "            claim = claim.merge_into(known)",
        "            pass",
        "an older copy brings a claim back that a DEL has ended",
        DELETED,
    ),
    Mutant(
        "memory-alone",
        "agent/claim_cache",
        "            if not _only_ends(claim, known):",
        "            if False:",
        "a full disk: what is new counts in memory",
        DELETED,
    ),
    Mutant(
        "all-at-once",
        "agent/keeper/loop",
        "if (why := evidence(claim))][:1]:",
        "if (why := evidence(claim))]:",
        "many claims end in one round without a DEL",
        KEEPER,
    ),
    Mutant(
        "joins-under-way",
        "agent/ec2/singleflight",
        "for flight in route.gathering if flight.urgency <= urgency)",
        "for flight in [*route.under_way, *route.gathering] if flight.urgency <= urgency)",
        "an ADD rests on a read that began before it",
        "tests/agent/ec2/test_singleflight.py",
    ),
    Mutant(
        "older-beside-newer",
        "agent/ec2/newest_add",
        "if claim.created_at > own.created_at and claim.eni != own.eni:",
        "if claim.created_at < own.created_at and claim.eni != own.eni:",
        "an older ADD writes beside a newer one, which gives way",
        "tests/agent/ec2/test_newest_add.py",
    ),
    Mutant(
        "unknown-believed",
        "agent/metadata",
        "        if known and known.at > since and question.is_answer(known.answer):",
        "        if known and known.at > since:",
        "an ENI that was just plugged in is unknown for a minute",
        "tests/agent/test_metadata.py",
    ),
    Mutant(
        "number-0-is-primary",
        "operations/locate",
        "if mac == primary else",
        "if mac == primary or eni.device_number == 0 else",
        "device 0 of a second network card is taken for the primary ENI",
        "tests/agent/test_metadata_in_lab.py::test_an_eni_of_a_second_network_card",
    ),
    Mutant(
        "half-described",
        "edges/imds",
        "        if (result.network_card, result.device_number) == (0, 0) and mac != self.primary_mac():",
        "        if False:",
        "what metadata shows for moments after an attach is remembered for a minute",
        "tests/edges/test_imds.py",
    ),
    Mutant(
        "subnet-outside-vpc",
        "edges/imds",
        "        if outside := [net for net in result.subnet_cidrs if not _inside(net, result.vpc_cidrs)]:",
        "        if outside := []:",
        "a VPC address looks as if it lay outside the VPC while one family is missing",
        "tests/edges/test_imds.py",
    ),
    Mutant(
        "refused-from-memory",
        "operations/locate",
        "        if not metadata.ask_again() or (now := find()) == site:",
        "        if not metadata.ask_again() or (now := site):",
        "an ADD is refused for what metadata showed a minute ago",
        "tests/agent/test_metadata_in_lab.py::test_a_refusal_rests_on_nothing_that_is_remembered",
    ),
    Mutant(
        "address-refused-from-memory",
        "operations/claim_addresses",
        "    if refused and (site_now :=",
        "    if False and (site_now :=",
        "a watched address is refused for what metadata showed a minute ago",
        "tests/operations/test_sync_addresses.py",
    ),
    Mutant(
        "hardware-unknown",
        "operations/locate",
        "    if not mac and not last.kind:\n",
        "    if False:\n",
        "an ENI that metadata does not list yet is refused for good",
        "tests/operations/test_sync_addresses.py",
    ),
    Mutant(
        "keeper-reads-all",
        "agent/main",
        "return frozenset(metadata.interface_id(mac) for mac in metadata.macs())",
        "return frozenset(metadata.eni(mac).id for mac in metadata.macs())",
        "beside an ENI that is not described yet the keeper sees none",
        "tests/agent/test_metadata_in_lab.py::test_the_keeper_sees_the_enis_beside_one_that_is_not_described_ye"
        "t",
    ),
    Mutant(
        "throttling-for-good",
        "edges/ec2/faults",
        "    if code in THROTTLING or status == HTTPStatus.TOO_MANY_REQUESTS:",
        "    if code in ():",
        "throttling is an error for good",
        "tests/edges/ec2/test_client.py",
    ),
    Mutant(
        "role-unanswered",
        "edges/ec2/faults",
        "        if e.fault is Ec2Fault.UNANSWERED and e.action != action:",
        "        if False:",
        "a write that was never sent, for want of a role, may have been applied",
        "tests/edges/ec2/test_client.py",
    ),
    Mutant(
        "target-without-name",
        "edges/ec2/answers",
        'next(others, "an unknown target")',
        '"an unknown target"',
        "error 101 does not say what is in the way",
        "tests/edges/ec2/test_client.py",
    ),
    Mutant(
        "pages-for-nothing",
        "edges/ec2/client",
        "            self._paging(_action(operation), account)\n",
        "",
        "a read of many tables takes more of EC2's rate than is counted",
        "tests/agent/ec2/test_shared.py::test_each_page_of_a_read_takes_a_token",
    ),
    Mutant(
        "names-for-long",
        "agent/process",
        "    _short_name_resolution()\n",
        "",
        "each request waits ten seconds for a name server that is away",
        "tests/agent/test_preparation.py::test_a_name_that_nobody_resolves_is_given_up_soon",
    ),
    Mutant(
        "prepared-once",
        "agent/preparation",
        "        while not self._prepare():",
        "        if not self._prepare():",
        "an agent that began without metadata never says which node it is on",
        "tests/agent/test_preparation.py::test_what_did_not_answer_as_it_began_is_asked_again",
    ),
    Mutant(
        "file-unsynced",
        "edges/store",
        "            os.fsync(file.fileno())\n",
        "",
        "a power cut leaves an empty record",
        "tests/edges/test_store.py",
    ),
    Mutant(
        "released-unread",
        "operations/release",
        "                target = table.routes.get(key.destination)\n",
        "                from ..model.values import RouteTarget\n\n"
        "                target = RouteTarget(claim.eni, is_eni=True)\n",
        "a release deletes the route of whoever has it by now",
        "tests/faults/test_two_claims.py",
    ),
    Mutant(
        "heir-unrecorded",
        "operations/release",
        "                    record.hand_over(key, route.successor)\n",
        "                    pass\n",
        "an agent that dies between delete and create leaves the heir without a route",
        "tests/faults/test_two_claims.py::test_handing_over_that_is_interrupted_is_finished",
    ),
    Mutant(
        "namespace-gone",
        "operations/write_routes",
        "        if world.inode(claim.netns) != claim.netns_inode:\n",
        "        if False:\n",
        "an ADD goes on for a pod that is gone",
        "tests/faults/test_concurrent_calls.py::test_namespace_that_vanishes_stops_the_add",
    ),
    Mutant(
        "deleted-meanwhile",
        "operations/write_routes",
        "        if not isinstance(now, Claim) or not now.live or now.deleted_at > now.created_at:\n",
        "        if False:\n",
        "an ADD writes after the DEL of its attachment",
        "tests/operations/test_write_routes.py",
    ),
    Mutant(
        "claiming-after-restart",
        "agent/recovery",
        "    return claim.abandon()\n",
        "    return claim\n",
        "what an ADD had begun when the agent died is never released",
        "tests/agent/test_lifecycle.py::test_what_a_restart_makes_of_a_claim",
    ),
    Mutant(
        "dead-add",
        "operations/release",
        "    if claim.state is State.CLAIMING:\n        claim = claim.abandon()\n",
        "    if False:\n        claim = claim.abandon()\n",
        "what an ADD had begun when it died is never released",
        "tests/agent/keeper/test_dead_add.py",
    ),
    Mutant(
        "dead-add-unseen",
        "agent/keeper/repair",
        "(claim.abandon() if abandoned(self._world, claim) else claim for claim in claims)",
        "(claim for claim in claims)",
        "the keeper takes an ADD that died for one under way",
        "tests/agent/keeper/test_dead_add.py",
    ),
    Mutant(
        "end-unrecorded",
        "model/claim_state",
        "return self._on(Event.ENDED)._on(Event.RELEASED, ",
        "return self._on(Event.RELEASED, ",
        "a DEL that a full disk kept from the record leaves a claim on a released route",
        "tests/model/test_claim_state.py",
    ),
    Mutant(
        "event-of-another-state",
        "model/claim_state",
        "return self if state is None else replace(",
        "return replace(self, **times) if state is None else replace(",
        "a late DEL gives a route that is being released another grace",
        "tests/model/test_claim_state.py",
    ),
    Mutant(
        "superseded-for-good",
        "model/claim_state",
        "    (State.SUPERSEDED, Event.SEEN_OURS): State.HELD,\n",
        "",
        "a claim that another ENI had robbed never holds its route again",
        f"tests/model/test_claim_state.py {KEEPER}",
    ),
    Mutant(
        "another-boot",
        "agent/recovery",
        "    if claim.has_pod and claim.boot != boot:\n",
        "    if False:\n",
        "claims of pods from before a reboot stay",
        "tests/agent/test_lifecycle.py::test_what_a_restart_makes_of_a_claim",
    ),
    Mutant(
        "times-ahead",
        "agent/recovery",
        "        result = clamp_times(claim, world.now(), world.policy.release_grace_seconds)\n",
        "        result = claim\n",
        "a clock that was ahead keeps a claim for years",
        "tests/agent/test_recovery.py",
    ),
    Mutant(
        "spool-after-add",
        "agent/server/handler",
        '        if question.verb == "ADD" and not self._services.spooled(question.attachment):\n',
        "        if False:\n",
        "a DEL that waited in the spool ends the claim of the ADD after it",
        "tests/agent/server/test_handler.py::test_an_add_fails_while_a_del_of_its_own_is_left_in_the_spool",
    ),
    Mutant(
        "suspended-time",
        "edges/host",
        "    return time.clock_gettime(time.CLOCK_BOOTTIME)\n",
        "    return time.clock_gettime(time.CLOCK_MONOTONIC)\n",
        "a decision does not age while the machine sleeps",
        "tests/agent/test_recovery.py",
    ),
    Mutant(
        "flapping",
        "agent/watch/interface",
        "        given = min(wanted, int(self._changes + 1e-9))\n",
        "        given = wanted\n",
        "a pod that flaps drains the account's request rate",
        "tests/agent/watch/test_interface.py",
    ),
    Mutant(
        "check-from-memory",
        "agent/main",
        '            fresh=request.verb == "CHECK",\n',
        "            fresh=False,\n",
        "CHECK rests on what was remembered",
        "tests/agent/server/test_calls_in_lab.py::test_check_rests_on_nothing_that_is_remembered",
    ),
    Mutant(
        "check-unsettled",
        "operations/check",
        "        settled = world.now() - claim.last_write_at > SETTLE_SECONDS\n",
        "        settled = True\n",
        "CHECK fails right after an ADD, because EC2's reads are late",
        "tests/conformance/test_check.py::test_K07_right_after_add_and_the_reads_are_stale",
    ),
    Mutant(
        "guarded-later",
        "agent/guard",
        "            if since is None or self._world.clock() - since > COVERED_SECONDS:\n",
        "            if False:\n",
        "a new claim's ENI is not guarded until the next look",
        "tests/guard/test_bound_sockets.py tests/guard/test_guard_agent.py",
    ),
    Mutant(
        "dead-thread",
        "agent/supervisor",
        "        self.failed = True\n        self.ending.set()\n\n    def _on_signal",
        "        self.failed = True\n\n    def _on_signal",
        "an agent goes on without one of its threads",
        "tests/agent/test_lifecycle.py::test_a_thread_that_ends_by_itself_ends_the_agent",
    ),
    Mutant(
        "held-by-descriptor",
        "agent/server/netns_fd",
        "        if netns != self._netns or self._visible:\n",
        "        if netns != self._netns:\n",
        "the agent's own descriptor passes for the pod's namespace",
        "tests/agent/server/test_handler.py::test_a_path_that_is_to_be_seen_is_watched_for_its_end",
    ),
    Mutant(
        "away-forgets",
        "agent/keeper/look",
        "repairer.enis |= {claim.eni for claim in live if claim.created_at >= self._enis_at}\n",
        "repairer.enis = frozenset()\n",
        "while metadata is away every claim is cut off",
        CUT_OFF,
    ),
    Mutant(
        "away-hides-the-new",
        "agent/keeper/look",
        "repairer.enis |= {claim.eni for claim in live if claim.created_at >= self._enis_at}\n",
        "claims\n",
        "while metadata is away a new claim through another ENI is cut off",
        CUT_OFF,
    ),
    Mutant(
        "failed-part-goes-on",
        "operations/write_routes",
        "whole = [part for part in parts if failed.isdisjoint(part)]",
        "whole = list(parts)",
        "an ADD of which a create has failed goes on to replace routes that work",
        "tests/operations/test_write_routes.py",
    ),
    Mutant(
        "first-together",
        "operations/write_routes",
        "    others = [route for route in new if route is not first[route.key.table]]\n",
        "    first, others = dict(enumerate(new)), []\n",
        "a table that is full is asked for every route at once",
        "tests/operations/test_write_routes.py",
    ),
    Mutant(
        "refused-table-asked",
        "operations/write_routes",
        "            if error := refused.get(route.key.table):",
        "            if error := None:",
        "a table that is full is asked for every route",
        "tests/operations/test_write_routes.py",
    ),
    Mutant(
        "taken-away-written",
        "operations/write_routes",
        "        if key and (reason := self.cancelled(key)):",
        "        if key and (reason := None):",
        "an address that was taken away is claimed",
        "tests/operations/test_write_routes.py",
    ),
    Mutant(
        "exists-unread",
        "operations/write_routes",
        "                while (read := _read_route(attempt, route)).target is None:\n",
        "                while (read := RouteRead(RouteTarget(eni, is_eni=True), world.clock())).target is"
        " None:\n",
        "an ADD that meets a gateway's route replaces it",
        "tests/operations/test_write_routes.py",
    ),
    Mutant(
        "any-user",
        "agent/server/server",
        "            if uid != 0:\n",
        "            if False:\n",
        "any user of the node may talk to the agent",
        "tests/agent/server/test_server.py",
    ),
    Mutant(
        "hung-up-unasked",
        "agent/server/connection",
        "            if looking.poll(0):\n",
        "            if False:\n",
        "on a busy node an ADD succeeds for a client that has gone",
        "tests/agent/server/test_cancellation.py",
    ),
    Mutant(
        "role-asked-by-all",
        "edges/ec2/sessions",
        "        first = self._failed[account].once(lambda: self._assume(region, account, assumed))\n",
        "        first = self._assume(region, account, assumed)\n",
        "a role that cannot be assumed is asked for by everybody, one after the other",
        "tests/agent/ec2/test_shared.py",
    ),
    Mutant(
        "not-sent-again",
        "client",
        "deaths >= MOST_DEATHS",
        "deaths >= 1",
        "an ADD whose agent died under it fails",
        "tests/client/test_absence.py",
    ),
    Mutant(
        "descriptors-left",
        "agent/server/connection",
        "                    os.close(number)\n        return data",
        "                    pass\n        return data",
        "a client that sends many descriptors takes the agent's",
        "tests/agent/server/test_server.py",
    ),
    Mutant(
        "never-rarer",
        "agent/keeper/loop",
        "        longer = min(self._stretch * 2, LONGEST_STRETCH)\n",
        "        longer = 1.0\n",
        "throttled keepers go on throttling the account",
        KEEPER,
    ),
    Mutant(
        "table-unseen-once",
        "agent/keeper/look",
        "        return at - self._unseen.setdefault(table, at) >= table_membership.UNMATCHED_SECONDS\n",
        "        return True\n",
        "a table that one stale read does not show is taken for deleted",
        PROMISES,
    ),
    Mutant(
        "ours-is-believed",
        "operations/write_routes",
        "    switches = 0\n    while True:\n",
        "    switches = 0\n    if read.target is not None and read.target.id == eni:\n        return\n"
        "    while True:\n",
        "an ADD succeeds by a stale read",
        "tests/operations/test_write_routes.py",
    ),
    Mutant(
        "told-once",
        "operations/delete",
        "        _cancel(request, world, again=first)\n",
        "        if first:\n            _cancel(request, world, again=first)\n",
        "an ADD that recorded late outlives its DEL",
        PROMISES,
    ),
    Mutant(
        "directory-shared",
        "edges/store",
        "held = _try_lock(fd, request) and os.fstat(fd).st_nlink > 0",
        "held = True",
        "two calls in direct mode write the claims at once",
        f"{ONE_AT_A_TIME}::test_the_second_add_waits_for_the_first",
    ),
    Mutant(
        "directory-removed",
        "edges/store",
        " and os.fstat(fd).st_nlink > 0",
        "",
        "a call has the lock of a file that an uninstaller has removed, and another call has the new one",
        "tests/edges/test_store.py",
    ),
    Mutant(
        "agents-lock-as-short",
        "edges/store",
        "_CALLS_LENGTH, _AGENTS_LENGTH = 1, 2",
        "_CALLS_LENGTH, _AGENTS_LENGTH = 1, 1",
        "a call in direct mode waits for an agent, which does not end",
        "tests/edges/test_store.py",
    ),
    Mutant(
        "waits-for-ever",
        "direct",
        "with locked(policy, environ, seconds, go_on) as here:",
        "with locked(policy, environ, 10 * seconds, go_on) as here:",
        "an ADD waits for another call beyond its deadline",
        f"{ONE_AT_A_TIME}::test_its_waiting_ends_at_its_deadline",
    ),
    Mutant(
        "waiting-is-free",
        "direct",
        "operations.add(request, world, waited=clock() - began)",
        "operations.add(request, world)",
        "an ADD that has waited for another call takes its whole time again",
        f"{ONE_AT_A_TIME}::test_what_it_has_waited_is_of_its_time",
    ),
    Mutant(
        "waited-uncounted",
        "operations/add",
        "request.conf.timeout_seconds - waited - kept_back / 2",
        "request.conf.timeout_seconds - kept_back / 2",
        "an ADD that has waited for another call is not answered in its time",
        f"{ONE_AT_A_TIME}::test_what_it_has_waited_is_of_its_time",
    ),
    Mutant(
        "gc-waits",
        "direct",
        "with locked(policy, environ, 0.0) as here:",
        "with locked(policy, environ, GC_SECONDS) as here:",
        "a GC that has waited ends the claims of pods that were added meanwhile",
        f"{ONE_AT_A_TIME}::test_gc_waits_for_nobody_because_its_list_grows_old",
    ),
    Mutant(
        "del-not-left",
        "direct",
        "        write_whole(path, body)\n",
        "",
        "a DEL that does not get the data directory is forgotten",
        f"{ONE_AT_A_TIME}::test_a_del_that_does_not_get_the_directory_succeeds_and_the_next_call_does_it",
    ),
    Mutant(
        "del-waits-on",
        "direct",
        "with locked(policy, environ, began + DEL_SECONDS - clock()) as here:",
        "with locked(policy, environ, 3 * DEL_SECONDS) as here:",
        "a DEL that waits for another call is not answered within ten seconds",
        f"{ONE_AT_A_TIME}::test_a_del_that_does_not_get_the_directory_succeeds_and_the_next_call_does_it",
    ),
    Mutant(
        "left-dels-wait",
        "direct",
        "        self.spool.process_all(min(until, clock() + SPOOL_SECONDS))\n",
        "",
        "the DELs that others have left wait for an agent that never comes",
        f"{ONE_AT_A_TIME}::test_a_del_that_is_killed_after_it_was_left_is_done_by_the_next_call",
    ),
    Mutant(
        "own-del-later",
        "direct",
        "here.catch_up(began + seconds, request.attachment)",
        "pass",
        "a DEL that was left ends the ADD that came after it",
        f"{ONE_AT_A_TIME}::test_a_del_that_was_left_does_not_end_the_add_that_comes_after_it",
    ),
    Mutant(
        "running-add-unasked",
        "direct",
        "world = replace(\n                here.world, cancelled=stop, sleep",
        "world = replace(here.world, sleep",
        "an ADD goes on for a pod that was deleted meanwhile",
        "tests/faults/test_concurrent_calls.py::test_del_cancels_the_add_that_is_running",
    ),
    Mutant(
        "waiting-add-unasked",
        "direct",
        "with locked(policy, environ, seconds, go_on) as here:",
        "with locked(policy, environ, seconds) as here:",
        "an ADD that waits learns only at its turn that it was deleted",
        f"{ONE_AT_A_TIME}::test_a_del_ends_the_add_of_its_attachment_that_waits",
    ),
    Mutant(
        "note-stays",
        "direct",
        "            note.unlink(missing_ok=True)\n        if",
        "            pass\n        if",
        "an ADD that waits outlives a DEL that was done between two of its looks",
        f"{ONE_AT_A_TIME}::test_also_when_it_was_done_between_two_looks_of_the_add",
    ),
    Mutant(
        "del-too-large",
        "direct",
        "        if len(body) > wire.MOST_BODY:",
        "        if False:",
        "a DEL that nobody can read is left, and its claim stays",
        f"{ONE_AT_A_TIME}::test_a_del_too_large_to_be_kept_is_done_all_the_same",
    ),
    Mutant(
        "first-claim-unseen",
        "commands/uninstall",
        "has_records=store.exists())",
        "has_records=False)",
        "uninstall takes the client from a pod whose ADD it has waited for",
        "tests/installer/test_uninstall.py::test_what_that_call_claims_is_no_more_removed_than_what_was_ther"
        "e",
    ),
    Mutant(
        "spool-waits",
        "edges/spool",
        " | os.O_NONBLOCK)",
        ")",
        "a FIFO in the spool keeps every DEL waiting",
        "tests/agent/test_spool.py::test_what_is_no_file_keeps_nobody_waiting",
    ),
    Mutant(
        "killed-add-lives",
        "direct",
        "        recovery.end_unanswered(self.world)\n",
        "",
        "what a killed ADD had claimed takes back the route that a DEL lets stay",
        f"{ONE_AT_A_TIME}::test_what_a_killed_add_had_begun_takes_no_route_that_a_del_lets_stay",
    ),
    Mutant(
        "spool-not-believed",
        "config/nodeconf",
        "        policy = replace(policy, spool_dir=spool)\n",
        "        pass\n",
        "a DEL with a faulty node configuration waits where nobody looks",
        "tests/config/test_nodeconf.py",
    ),
    Mutant(
        "waits-unasked",
        "model/waiting",
        "        go_on()  # outside of the lock: it is somebody else's code",
        "        pass",
        "nobody who waits for a condition can be ended",
        WAITING,
    ),
    Mutant(
        "pauses-unasked",
        "model/waiting",
        "    while True:\n        go_on()\n        if seconds <= 0:",
        "    while True:\n        if seconds <= 0:",
        "a pause between attempts cannot be ended",
        WAITING,
    ),
    Mutant(
        "place-unasked",
        "operations/write_routes",
        "with world.claims.lock(place_lock(key), attempt.deadline - world.clock(), go_on) as free:",
        "with world.claims.lock(place_lock(key), attempt.deadline - world.clock()) as free:",
        "an ADD that waits for a place keeps its pod's address busy",
        WAITING,
    ),
    Mutant(
        "undo-waits",
        "operations/release",
        "seconds, go_on = (\n            (0.0, always) if world.cancelled() else (deadline - world.clock(),"
        " unless(world.cancelled))\n        )",
        "seconds, go_on = deadline - world.clock(), always",
        "an ADD that was stopped waits for a place to take back what it never wrote",
        WAITING,
    ),
    Mutant(
        "restart-appears",
        "operations/sync_addresses",
        "    return dealt is not None and dated != address.made",
        "    return dated != address.made",
        "a restart with no dates known takes working routes",
        "tests/operations/test_sync_addresses.py",
    ),
    Mutant(
        "parent-changed",
        "edges/podnet/host_links",
        "self._links.pop(event.index, None)",
        "pass",
        "a pod's routes lead through a link that is gone, renamed, down, or another by now",
        "tests/edges/podnet/test_host_links.py",
    ),
    Mutant(
        "parent-overrun",
        "edges/podnet/host_links",
        "self._links.clear()\n\n    def _forget",
        "pass\n\n    def _forget",
        "a link stays remembered whose change the kernel could not report",
        "tests/edges/podnet/test_host_links.py",
    ),
    Mutant(
        "parent-race",
        "edges/podnet/host_links",
        "if self._catch_up() and self._changes == before:",
        "if self._catch_up():",
        "an answer that is older than a change is remembered for ever",
        "tests/edges/podnet/test_host_links.py",
    ),
    Mutant(
        "parent-elsewhere",
        "edges/podnet/links",
        "host_link(index, ask) if here else ask()",
        "host_link(index, ask)",
        "a link of another namespace passes for the node's with the same index",
        "tests/edges/podnet/test_host_links.py",
    ),
    Mutant(
        "not-the-kernel",
        "edges/podnet/rtnetlink",
        "            if sender[0]:\n",
        "            if False:\n",
        "a pod's process passes for the kernel on our sockets",
        "tests/edges/podnet/test_rtnetlink.py",
    ),
    Mutant(
        "torn-list",
        "edges/podnet/rtnetlink",
        "torn = torn or bool(flags & _DUMP_INTERRUPTED)",
        "torn = False",
        "a list that changed while it was read is taken for whole",
        "tests/edges/podnet/test_rtnetlink.py",
    ),
    Mutant(
        "spool-unsynced",
        "client",
        "        posix.fsync(file)\n",
        "",
        "a power cut loses a DEL that was answered",
        "tests/client/test_spool.py",
    ),
    Mutant(
        "path-gone",
        "agent/watch/watcher",
        "            if self._world.inode(interface.netns) != interface.inode:\n",
        "            if False:\n",
        "the watch's socket keeps the address of a pod busy that has ended",
        "tests/agent/watch/test_watcher.py",
    ),
    Mutant(
        "pool-rule",
        "rules/pod_routes",
        "rules += [PodRule(pool, table) for pool in pools]",
        "pass",
        "what comes from a pool behind the pod leaves through the cluster's network",
        "tests/rules/test_pod_routes.py",
    ),
    Mutant(
        "pool-throw",
        "rules/pod_routes",
        "            for pool in pools\n",
        "            for pool in pools[:0]\n",
        "what is for a pool behind the pod goes round between pod and VPC",
        "tests/rules/test_pod_routes.py",
    ),
    Mutant(
        "linkless",
        "edges/podnet/tables",
        'route.kind != "unicast" and route.table == table',
        'route.kind == "unreachable" and route.table == table',
        "a pod keeps routes of ours whose interface is gone",
        "tests/edges/podnet/test_two_worlds.py",
    ),
    Mutant(
        "chain-delegates",
        "validate/report",
        "    yield from _delegates(document, path)\n",
        "",
        "a network inside Multus' own configuration is called ok",
        "tests/validate/test_networks.py",
    ),
    Mutant(
        "chain-sbr",
        "validate/other_plugins",
        '    "sbr": _sbr,\n',
        "",
        "a chain of which every ADD fails is called ok",
        "tests/validate/test_chain.py",
    ),
    Mutant(
        "chain-types",
        "validate/other_plugins",
        "        yield from go_json.find_mistyped(plugin, path)\n",
        "",
        "a value that a plugin cannot read is called ok",
        "tests/validate/test_chain.py",
    ),
    Mutant(
        "networks-reach",
        "validate/networks",
        "if reach is None or one.last > reach.last:",
        "if reach is None:",
        "of two networks with the same address none is warned of",
        "tests/validate/test_networks.py",
    ),
    Mutant(
        "nodes-kept",
        CHART,
        '{{- if ne (get $selector "floatip") "true" -}}',
        "{{- if false -}}",
        "an upgrade takes the agents off nodes unasked",
        "tests/chart/test_nodes.py",
    ),
    Mutant(
        "nodes-labelled",
        CHART,
        '(.Values.nodeSelector | default (dict "floatip" "true"))',
        '(.Values.nodeSelector | default (dict "kubernetes.io/os" "linux"))',
        "every Linux node runs an agent, which may write the route tables",
        "tests/chart/test_nodes.py",
    ),
    Mutant(
        "session-of-a-group",
        "install/iam/session-of-a-group.json",
        "route-table/<ROUTE-TABLE-2>",
        "route-table/*",
        "a node of one group writes the tables of another",
        "tests/aws/test_iam_policies.py",
    ),
    Mutant(
        "stolen-credentials",
        "install/iam/agent-by-tag-from-vpc.json",
        '"<TAG-VALUE>",\n          "aws:SourceVpc": "<VPC>"\n',
        '"<TAG-VALUE>"\n',
        "credentials that left the VPC write routes",
        "tests/aws/test_iam_policies.py",
    ),
    Mutant(
        "stacks-namespaces",
        "install/cloudformation/floatip-nodes.yaml",
        '[{cidr: "${FloatingCidr}", namespaces: ["${In}"]}${Ipv6}]',
        '[{cidr: "${FloatingCidr}"}${Ipv6}]',
        "every namespace may have the stack's floating addresses",
        "tests/aws/test_cfn_template.py -k outputs",
    ),
    Mutant(
        "range-around",
        "install/cloudformation/floatip-alerts.yaml",
        "            - requestParameters: {destinationCidrBlock: [{anything-but: {suffix: !Ref Lengths}}]}\n",
        "",
        "a route of a range around the floating addresses is not reported",
        "tests/aws/test_alerts.py",
    ),
    Mutant(
        "stolen",
        "doctor/judge/addresses",
        "if target is None or target.id != claim.eni or not target.active:",
        "if target is None or not target.active:",
        "a stolen address looks like a healthy one",
        ADDRESSES,
    ),
    Mutant(
        "in-its-grace",
        "doctor/judge/addresses",
        "if not ours or known.has(RouteKey(table.id, net), target.id):",
        "if not ours:",
        "doctor warns of the routes of its own node's pods",
        ADDRESSES,
    ),
    Mutant(
        "one-cause",
        "doctor/report",
        "own = [(check, f) for check, f in _of(results, severity) if at_fault.isdisjoint(f.because)]",
        "own = [(check, f) for check, f in _of(results, severity)]",
        "fifteen warnings hide the error that explains them",
        "tests/doctor/test_command.py::test_one_cause_is_said_once",
    ),
    Mutant(
        "second-card",
        "doctor/probe",
        "PRIMARY if is_primary(eni) else",
        "PRIMARY if not eni.device_number else",
        "an ENI of another network card is judged by no check",
        "tests/doctor/test_planted_troubles.py::test_eni_of_the_second_network_card_is_judged_like_any_other",
    ),
    Mutant(
        "same-kind",
        "edges/ec2/credentials",
        "return type(e)(**e.kwargs)",
        'return CredentialRetrievalError(provider="our own", error_msg=str(e))',
        "who asks second is told that credentials are missing, where nobody could be reached",
        "tests/agent/ec2/test_shared.py -k proxy",
    ),
    Mutant(
        "mistyped-place",
        "commands/__init__",
        "    if named:\n        must_exist(directory)\n",
        "",
        "a mistyped data directory looks like a node without claims",
        "tests/commands/test_floatipctl.py -k does_not_exist",
    ),
)


def make_copy(copy: Path) -> None:
    """Copy the code, and beside it an environment in which the copy is what is installed.

    So the programs that tests start, ``floatipctl`` with the agent above all, have the mistake too.
    """
    for name in ("cni_floatip", "tests", "lab", "install", "docs", "netconf-examples"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    venv.create(copy / ".venv")
    (packages,) = (copy / ".venv").glob("lib/python3*/site-packages")
    (packages / "copy.pth").write_text(f"{copy}\n{sysconfig.get_path('purelib')}\n")
    for program in Path(sys.executable).parent.iterdir():
        first, _, rest = program.read_bytes().partition(b"\n")
        if first.startswith(ours := b"#!" + os.fsencode(sys.executable)):
            made = copy / ".venv" / "bin" / program.name
            python = b"#!" + os.fsencode(made.with_name("python"))
            made.write_bytes(python + first.removeprefix(ours) + b"\n" + rest)
            made.chmod(0o755)


def run(tests: str, copy: Path) -> str:
    """Run ``tests`` in ``copy``; return "killed" if one fails, "survived" if none does, or why neither."""
    python = copy / ".venv" / "bin" / "python"
    command = [str(python), "-m", "pytest", "-x", "-q", "-m", "not thorough", *tests.split()]
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            timeout=SECONDS,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {SECONDS} s"
    if done.returncode not in (0, 1):  # no test was run: that notices nothing
        return f"pytest could not run: {done.stdout[-500:]}{done.stderr[-500:]}"
    return "killed" if done.returncode else "survived"


def planted(mutant: Mutant, copy: Path) -> str:
    """Return what becomes of ``mutant`` in ``copy``: as ``run`` says, or why it could not be planted."""
    source = copy / mutant.file
    text = source.read_text()
    if (times := text.count(mutant.there)) != 1:
        return f"its place is there {times} times"
    source.write_text(text.replace(mutant.there, mutant.becomes))
    try:
        return run(mutant.tests, copy)
    finally:
        source.write_text(text)


def main() -> int:
    """Plant them all, or those that were named; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-k", default="", metavar="TEXT", help="those whose name or module contains it")
    only = parser.parse_args().k
    chosen = [mutant for mutant in MUTANTS if only in mutant.name or only in mutant.module]
    wrong = 0
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        make_copy(copy)
        fails_anyway = cache(lambda tests: run(tests, copy) != "survived")
        for mutant in chosen:
            outcome = "its tests fail without it" if fails_anyway(mutant.tests) else planted(mutant, copy)
            wrong += outcome != "killed"
            print(f"{outcome:8}  {mutant.name:24}  {mutant.module}: {mutant.breaks}", flush=True)
    print(f"{len(chosen)} planted, {wrong} not killed")
    return int(bool(wrong) or not chosen)


if __name__ == "__main__":
    sys.exit(main())
