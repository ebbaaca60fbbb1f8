"""Watches the inside of pods: watched addresses, and routes and rules that a pod loses."""
