"""EC2 for all calls of a node: one client, identical reads once, writes within AWS's request rate."""
