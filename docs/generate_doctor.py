"""Write ``doctor.md`` from the doctor's own catalog: ``python docs/generate_doctor.py``.

``make docs`` runs this; a test fails when the file differs from what this would write.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from cni_floatip.doctor.catalog import KINDS
from cni_floatip.doctor.checks import CHECKS

HERE = Path(__file__).parent

HEAD = """\
# floatipctl doctor

For operators: every finding of `floatipctl doctor`, why it matters and how to fix it.

`docs/generate_doctor.py` writes this page from the doctor's own catalog.
Do not edit it: change `cni_floatip/doctor/` and run `make docs`.

`floatipctl doctor` names what would keep a floating IP from working on a node, before a pod fails.
Run it in the agent's pod, or as root where this package is installed.
`ds/` chooses the pod of any node; [this](troubleshooting.md#where-to-look) is how to choose a certain one:

<!-- commands: cluster -->
```sh
kubectl -n kube-system exec ds/cni-floatip -c agent -- floatipctl doctor
kubectl -n kube-system exec ds/cni-floatip -c agent -- floatipctl doctor --json
```

Doctor runs all checks in parallel and within 20 s.
It changes nothing: it sends EC2 only Describe calls and dry runs.
These count against the account's request rate (three for each of at most ten tables).
So ask one node after another, as in [install/README.md](../install/README.md#6-install).

Errors come first, then warnings, each in three lines: what, why it matters, how to fix it.
Doctor prints a finding that several tables share once.
Where one finding explains others, doctor prints only that one, and then how many checks wait for it \
(`13 checks wait for EC2 endpoint above`).
Fix that one first, and run doctor again.
The last line counts what is fine and what could not be checked; `--all` lists both.
`--json` keeps every finding, also those that another explains.

The exit status is 0 without an error, 1 with one, and 2 for an invalid command line.
Warnings and checks that could not be made do not count: `notChecked` of `--json` has the number of the \
latter.
Scripts go by `id`, which keeps its meaning; texts may change.

`not checked` is no verdict.
`--all` has the reason beside it:

* a read failed that another check reports
* IAM does not allow an action (the three in [`install/iam/doctor.json`](../install/iam/doctor.json) are \
for the doctor alone)
* the pod may not read the two daemonsets (`doctor.readDaemonSets` of the chart)
* `--interface` does not name the ENI

Nothing tells doctor which ENIs are for floating IPs.
It checks every ENI that is neither primary nor made by VPC CNI nor EFA-only.
If `allowedInterfaces` names tags of your own, it skips ENIs without them.
If your nodes have other ENIs too, for storage or for VPC CNI, name those that floating IPs use, by link \
(or an altname) or by id.
The others then count as `not checked`, but doctor always checks an ENI with live claims:

<!-- commands: cluster -->
```sh
kubectl -n kube-system exec ds/cni-floatip -c agent -- \\
  floatipctl doctor --interface floatip1 --interface floatip2
```

Doctor cannot see:

* other nodes: it checks names and settings on this one
* whether the container runtime looks for plugins in the client's directory
* networks that no pod uses yet, and so which route tables they select
* route quotas, which AWS tells by another API; the remedy names it
* ports in security groups and network ACLs, because only you know which an application needs
* the tables, groups and ACLs of clients ([reachability](reachability.md))
* `NetworkPolicy`, which does not see floating interfaces at all
* a transit gateway's own route tables (the static route for the range): it sees only where the gateway \
is attached to this VPC
* zones in which it does not run: ask one node in each zone
* whether floating IPs must be reachable from the ENIs' own subnets
  (if policy does not allow their table, the line of what is fine says so, and it is no finding)

`--json` prints one document:
`{"version": 1, "release", "errors", "warnings", "notChecked", "findings": [{"check", "group", "id", \
"severity", "subject", "what", "why", "remedy"}]}`.
Every check has at least one finding.
`severity` is `ok`, `warning`, `error` or `not checked`; `id` is `ok`, `not-checked` or one of those below.
"""


def document() -> str:
    """Return the whole file."""
    parts = [HEAD]
    for group, checks in groupby(CHECKS, key=lambda check: check.group):
        parts.append(f"## {group}\n")
        for check in checks:
            parts.append(f"### {check.title[0].upper()}{check.title[1:]}\n")
            for kind in (kind for kind in KINDS.values() if kind.check == check.id):
                remedy = kind.remedy.replace("{{", "\0").replace("}}", "\1")
                remedy = re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), remedy)
                remedy = remedy.replace("\0", "{").replace("\1", "}")
                why = kind.why.replace(". ", ".\n")
                parts.append(
                    f"**`{kind.id}`** ({kind.severity}): {kind.title}.\n\n{why}\n\nMend it: `{remedy}`\n"
                )
    return "\n".join(parts)


if __name__ == "__main__":
    (HERE / "doctor.md").write_text(document())
