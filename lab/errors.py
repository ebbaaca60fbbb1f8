"""What can go wrong while a lab is built or used, said so that a person can act on it."""

from __future__ import annotations


class LabError(Exception):
    """The lab could not do what it was asked; the message holds the kernel's or the tool's own words."""
