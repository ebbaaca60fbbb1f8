"""The simulated EC2 of the tests of the edges, for those parts of the agent that speak to it."""

from tests.edges.conftest import ec2, world

__all__ = ["ec2", "world"]
