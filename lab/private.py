"""Programs that see a test's directories in place of ``/etc/cni``, ``/opt/cni`` and ``/var/lib/cni``.

Runtimes have these paths built in. A mount namespace of its own lets a program find what a test put there;
the machine's directories are neither read nor written, and need not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# A directory that the machine does not have is made in an overlay over the nearest one that it has. The
# other directories there stay the machine's own, for what is written to them too (the lab's state in /run).
# Mounted "slave", so that a namespace removed on the machine is not held here.
PLACE = """\
scratch=$1; shift
mount -t tmpfs tmpfs "$scratch"
place() {
  if [ ! -d "$1" ]; then
    parent=$(dirname "$1"); while [ ! -d "$parent" ]; do parent=$(dirname "$parent"); done
    layer=$scratch/$(echo "$parent" | tr / _)
    if [ ! -d "$layer" ]; then
      mkdir "$layer" "$layer/upper" "$layer/work" "$layer/own"
      mount --rbind "$parent" "$layer/own"
      mount -t overlay overlay -o "lowerdir=$parent,upperdir=$layer/upper,workdir=$layer/work" "$parent"
      for own in "$layer"/own/*/; do
        [ -h "${own%/}" ] || mount --rbind "$own" "$parent/$(basename "$own")"
      done
    fi
    mkdir -p "$1"
  fi
  mount --bind "$2" "$1"
}
while [ "$1" != -- ]; do place "$1" "$2"; shift 2; done
shift
exec "$@"
"""


def mounts(places: Mapping[str, Path], scratch: Path) -> list[str]:
    """Return what to put before a command: it then finds, at each path, the directory given for it."""
    pairs = [word for path, directory in places.items() for word in (path, str(directory))]
    return [
        "unshare",
        "--mount",
        "--propagation",
        "slave",
        "sh",
        "-euc",
        PLACE,
        "sh",
        str(scratch),
        *pairs,
        "--",
    ]
