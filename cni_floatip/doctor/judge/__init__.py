"""Judges facts and returns findings. No I/O; a table tests each function."""
