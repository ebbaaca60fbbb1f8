"""Run one call of the plugin; write the names of the modules that it loaded to the file that argv names.

The process imports nothing of the plugin before it: ``killed_call`` does, and would hide what is missing.
"""

from __future__ import annotations

import sys

LOADED = set(sys.modules)


def main() -> int:
    from cni_floatip import plugin

    status = plugin.main()
    with open(sys.argv[1], "w") as file:  # noqa: PTH123 (pathlib may be what is loaded)
        file.write("\n".join(sorted(set(sys.modules) - LOADED)))
    return status
