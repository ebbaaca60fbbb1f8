"""Elects one active pod among several that hold the same addresses, through Kubernetes Leases. Pure."""
