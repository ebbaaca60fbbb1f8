"""The agent with EC2's published request rates lifted, because they, and not the agent, would be measured.

With ``--looks-after-add`` the keeper looks at other times after an ADD than it does by itself (seconds, with
commas between; "" never), so that what an ADD costs is measured apart from what a look costs.
"""

from __future__ import annotations

import argparse
import sys

from cni_floatip import cli
from cni_floatip.agent.ec2 import ratelimit
from cni_floatip.agent.keeper import loop


def main() -> int:
    """Lift the rates, set the looks, and run the agent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--looks-after-add", metavar="SECONDS")
    looks = parser.parse_args().looks_after_add
    rates = ratelimit.PUBLISHED
    assert isinstance(rates, dict)
    rates.update(dict.fromkeys(rates, ratelimit.Rate(1e6, 1e6)))
    if looks is not None:
        assert "LOOKS_AFTER_ADD" in vars(loop)
        vars(loop)["LOOKS_AFTER_ADD"] = tuple(float(item) for item in looks.split(",") if item)
    return cli.main(["agent"])


if __name__ == "__main__":
    sys.exit(main())
