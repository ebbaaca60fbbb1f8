#!/usr/bin/env bash
# Pins the newest releases that setup.cfg allows, for every Python from 3.11 on: `make lock`. The smaller lock
# constrains the larger one, so that all three name the same releases. A fourth is for itself: the AWS CLI that
# bench/peers.py races against. Options go to uv: --no-upgrade keeps what is pinned and adds what setup.cfg newly asks for.
#
# Every pin must have a wheel for each Python and machine below, because an installation builds nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
TOOLS=.cache/lock-$UV_VERSION
PYTHONS="3.11 3.12 3.13"
MACHINES="x86_64 aarch64"
OPTIONS=(--quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-strip-extras
  --fork-strategy fewest --custom-compile-command "make lock")
OURS=(setup.cfg --no-emit-package colorama --no-emit-package pywin32 --no-emit-package win-inet-pton)

# lock FILE SOURCE OPTIONS: one file, and what it takes to fetch it.
lock() {
  local file=$1 python machine
  shift
  echo "lock: $file"
  "$TOOLS/bin/uv" pip compile "${OPTIONS[@]}" "$@" -o "$file"
  for python in $PYTHONS; do
    for machine in $MACHINES; do
      "$TOOLS/bin/uv" pip install --quiet --dry-run --target "$TOOLS/nowhere" --no-deps --require-hashes \
        --only-binary :all: --python-version "$python" --python-platform "$machine-manylinux_2_28" -r "$file"
    done
  done
  rm -rf "$TOOLS/wheels"
  "$TOOLS/bin/pip" download -q --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
    -d "$TOOLS/wheels" -r "$file"
  # Beside the lines that uv repeats; lab/bootstrap.sh says it before it begins.
  sed -i "2a # to fetch: $(du -m --apparent-size -s "$TOOLS/wheels" | cut -f1) MB" "$file"
  rm -rf "$TOOLS/wheels"
}

[ -x "$TOOLS/bin/uv" ] || {
  python3 -m venv "$TOOLS"
  "$TOOLS/bin/pip" install -q --disable-pip-version-check --only-binary :all: uv==$UV_VERSION
}
lock install/requirements.txt "${OURS[@]}" "$@"
lock install/requirements-lab.txt "${OURS[@]}" --extra lab -c install/requirements.txt "$@"
lock install/requirements-dev.txt "${OURS[@]}" --extra dev -c install/requirements-lab.txt "$@"
lock bench/peer_programs/requirements.txt bench/peer_programs/requirements.in "$@"
