#!/bin/sh
# Builds the node bundle's interpreter from Debian's packages: build.sh DIRECTORY makes DIRECTORY/python.
#
# Needs python3, libpython3-dev (with libpythonX.Y.a), gcc and libc6-dev, of one Debian release, whichever.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
to=$1
python=${PYTHON:-/usr/bin/python3}

mkdir -p "$to"
work=$(mktemp -d "$to/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
eval "$("$python" -IS -c '
import sysconfig
print("include=" + sysconfig.get_path("include"))
print("library={LIBPL}/{LIBRARY}".format_map(sysconfig.get_config_vars()))
')"

"$python" -IS -X no_debug_ranges "$here/freeze.py" >"$work/frozen.c"
# -no-pie: nothing is relocated at the start, and pages that nobody writes to are shared by all who run it.
gcc -O2 -Wall -Wextra -Wno-missing-field-initializers -static -no-pie -I"$include" "$here"/*.c "$work/frozen.c" "$library" \
  -lm -Wl,--gc-sections -Wl,--strip-all -Wl,--build-id=none -o "$work/python"
chmod 755 "$work/python"
mv "$work/python" "$to/python"
