#!/usr/bin/env bash
# Prepares a checkout. `bootstrap.sh demo` installs what the demo needs: a few Debian packages, and .venv with the lock
# of runtime and lab. `bootstrap.sh` adds what the tests need: every Debian package and locked Python package, and, built
# by Go, cnitool, newer reference plugins and helm.
#
# Installs only what is missing, says what it will fetch and each step, and is silent, quick and off the network when
# nothing is to do. A run that dies at any point is completed by the next.
#
# What cannot be had (no root, another distribution, no Go) is said. The demo ends there if it needs it; each test that
# needs it is skipped with that reason, and fails where CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin
unset PYTHONPATH PYTHONHOME
FOR=${1:-all}

say() { echo "bootstrap: $*"; }

stop() {
  say "$*" >&2
  exit 1
}

# run COMMAND: leaves what it complains of in COMPLAINT: in memory, because the disk may be full.
run() {
  local status=0
  { COMPLAINT=$("$@" 2>&1 >&3 3>&-) || status=$?; } 3>&1
  return $status
}

root() { [ "$(id -u)" = 0 ]; }

# One at a time in a checkout. What apt and Go run does not inherit the lock (9>&-): they have their own, and a service
# that a package starts would keep ours.
alone() {
  mkdir -p .cache || stop "cannot create .cache (above)"
  exec 9>.cache/bootstrap.lock
  flock --nonblock 9 || {
    say "another bootstrap works in this checkout; waiting for it to end"
    flock 9
  }
}

# Tried, not looked up: capabilities, seccomp and a read-only /proc/sys each forbid it. Leaves no trace.
can_make_networks() {
  local effective
  effective=0x$(sed -n 's/^CapEff:\t*//p' /proc/self/status)
  ((effective >> 12 & 1)) && # CAP_NET_ADMIN
    unshare --net --mount sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward' 2>/dev/null
}

. lab/bootstrap/debian.sh
. lab/bootstrap/python.sh
. lab/bootstrap/go.sh

announce() {
  local parts=() time="about a minute"
  [ "$FOR" = demo ] || time="about two minutes"
  [ -z "$packages" ] || ! can_install_packages ||
    parts+=("$(wc -w <<<"$packages") Debian packages (up to $(megabytes_of_packages) MB)")
  [[ $python != other && $python != none ]] ||
    parts+=("$(count_locked) Python packages ($(megabytes_of_lock) MB)")
  if [ -n "$programs" ] && command -v go >/dev/null; then
    parts+=("the Go modules of $programs")
    time="about four minutes"
  fi
  [ ${#parts[@]} -eq 0 ] || say "fetches$(printf ', %s' "${parts[@]}" | sed 's/^,//'): $time"
}

case $FOR in
  demo) can_make_networks || stop "network namespaces cannot be made here (a container without privileges?): run the" \
    "demo on a machine of your own, or in a container with --privileged" ;;
  all) ;;
  *) stop "usage: lab/bootstrap.sh [demo]" ;;
esac

alone
python=$(state_of_venv)
packages=$(missing_packages)
programs=$(missing_programs)

# What would stop the demo in the end stops it before anything is fetched.
[ "$python" != none ] || find_python >/dev/null || can_install_packages || stop "$NO_PYTHON"
demo_lacks() { [ "$FOR" = demo ] && missing "$DEMO_NEEDS" | paste -sd' ' | grep .; }
if ! can_install_packages && lacks=$(demo_lacks); then
  stop "the demo needs what these Debian packages hold, which only root can install, with apt-get: $lacks"
fi
announce

# apt and Go work beside pip, unless there is no Python for it yet.
if [ -n "$packages" ]; then
  # shellcheck disable=SC2086 # a list of words
  if [ "$python" = whole ] || ! find_python >/dev/null; then
    install_packages $packages 9>&-
  else
    BESIDE=yes install_packages $packages 9>&- &
  fi
fi
[ -z "$programs" ] || build_programs 9>&- &
# What works beside is not left behind: an interrupted dpkg has to be mended by hand.
trap wait EXIT
[ "$python" = whole ] || prepare_venv
wait

! lacks=$(demo_lacks) || stop "the demo needs what these Debian packages hold (see above): $lacks"
