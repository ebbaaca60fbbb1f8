"""``floatipctl`` of a release to come, which writes claim files that this one does not know."""

from __future__ import annotations

import sys

import cni_floatip

cni_floatip.__version__ = sys.argv.pop(1)

from cni_floatip.cli import main  # noqa: E402
from cni_floatip.edges import store  # noqa: E402 (of that release)
from cni_floatip.model import claim  # noqa: E402

newest = claim.VERSION + 1
for module, name in ((claim, "VERSION"), (claim, "PLAIN_VERSION"), (store, "VERSION")):
    vars(module)[name] = newest
sys.exit(main())
