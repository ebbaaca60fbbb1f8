"""The agent with EC2's published request rates lifted, because they, and not the agent, would be measured."""

from __future__ import annotations

import sys

from cni_floatip import cli
from cni_floatip.agent.ec2 import ratelimit


def main() -> int:
    """Lift the rates, and run the agent."""
    rates = ratelimit.PUBLISHED
    assert isinstance(rates, dict)
    rates.update(dict.fromkeys(rates, ratelimit.Rate(1e6, 1e6)))
    return cli.main(["agent"])


if __name__ == "__main__":
    sys.exit(main())
