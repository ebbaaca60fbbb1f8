"""EC2 for all calls of a node: one client, coalesced reads, writes within AWS's request rate."""
