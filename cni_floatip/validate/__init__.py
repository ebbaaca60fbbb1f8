"""``floatipctl validate``: validates networks and node configurations from files alone."""
