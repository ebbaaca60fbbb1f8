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

Written by `docs/generate_doctor.py` from the doctor's own catalog. Do not edit: change
`cni_floatip/doctor/` and run `make docs`.

`floatipctl doctor` says what would keep a floating IP from working on a node, before a pod fails. It
runs in the agent's pod (`ds/` takes that of any node; of a certain one:
[how](troubleshooting.md#where-to-look)), or as root where this package is installed:

<!-- commands: cluster -->
```sh
kubectl -n kube-system exec ds/cni-floatip -c agent -- floatipctl doctor
kubectl -n kube-system exec ds/cni-floatip -c agent -- floatipctl doctor --json
```

All checks run side by side and within 20 s. Nothing is changed: EC2 is asked by Describe calls and dry
runs, which count against the account's request rate (three for each of at most ten tables): ask one node
after another, as in [install/README.md](../install/README.md#6-install). Errors come first, then warnings,
each in three lines: what, why it matters, what mends it. Doctor prints a finding that several tables share
once. Where one finding explains others, doctor prints only that one, and then how many checks wait for it
(`13 checks wait for EC2 endpoint above`): mend that first, and ask again. The last line counts what is fine
and what could not be checked; `--all` lists both. `--json` keeps every finding, also those that another
explains. The exit status is 0 when there is no error (warnings and what could not be checked do not count:
`notChecked` of `--json` says how much that was), 1 when there is one, 2 when the command line is not
understood. Scripts go by `id`, which keeps its meaning; texts may change.

`not checked` is no verdict. `--all` has the reason beside it: a look that failed for another check's finding,
an action that IAM does not allow (the three in [`install/iam/doctor.json`](../install/iam/doctor.json)
are for the doctor alone), a pod that may not read the two daemonsets (`doctor.readDaemonSets` of the
chart), an ENI that `--interface` does not name.

Which ENIs are meant for floating IPs nobody tells it: every one is judged that is neither primary nor made
by VPC CNI nor EFA-only, nor, where `allowedInterfaces` names tags of your own, without them. Where nodes
have others too, for storage say, or one that you gave to VPC CNI, name
those that floating IPs use, by link (also by a second name) or by id; what then is not judged counts as
`not checked`, and an ENI with live claims is judged whatever is named:

<!-- commands: cluster -->
```sh
kubectl -n kube-system exec ds/cni-floatip -c agent -- \\
  floatipctl doctor --interface floatip1 --interface floatip2
```

What it cannot see: other nodes (names and settings are judged on this one), whether the container runtime
looks for plugins where the client is, networks that no pod uses yet (which route tables they select), route
quotas (AWS tells them by another API; the remedy names it), ports in security groups and network ACLs
(which an application needs is its own business), the tables, groups and ACLs of clients
([reachability](reachability.md)), `NetworkPolicy` (which does not see floating interfaces at all). Of transit
gateways it sees where they are attached to this VPC, not their own route tables (the static route for the
range), nor zones where it does not run: ask one node in each zone. Whether floating IPs are to be found from
the ENIs' own subnets it does not know either: that policy does not allow their table is said in the line of
what is fine, and is no finding.

`--json` prints one document: `{"version": 1, "release", "errors", "warnings", "notChecked", "findings":
[{"check", "group", "id", "severity", "subject", "what", "why", "remedy"}]}`. Every check has at least
one finding; `severity` is `ok`, `warning`, `error` or `not checked`; `id` is `ok`, `not-checked` or one
of those below.
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
                parts.append(
                    f"**`{kind.id}`** ({kind.severity}). {kind.title}.\n\n{kind.why}\n\nMend it: `{remedy}`\n"
                )
    return "\n".join(parts)


if __name__ == "__main__":
    (HERE / "doctor.md").write_text(document())
