"""``python -m cni_floatip.edges.ec2.service_model``: write the cut-down service descriptions anew."""

from __future__ import annotations

from .generate import documents, write

if __name__ == "__main__":
    write(documents())
