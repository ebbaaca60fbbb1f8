#!/usr/bin/env bash
# Prepares a checkout for work: .venv with the locked dependencies, the Debian packages that the lab and the tests
# drive, cnitool, newer reference plugins and helm. Installs only what is missing, says each thing it does, and is
# silent when nothing is to do. `bootstrap.sh demo` leaves out what only the tests need and takes long.
#
# What cannot be had (no root, another distribution, no Go) is said and left: each test that needs it is then skipped
# with that reason, and fails where CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin

CNITOOL=github.com/containernetworking/cni/cnitool@v1.3.1
PLUGINS=(github.com/containernetworking/plugins/plugins/{main/ipvlan,main/macvlan,main/host-device,ipam/static}@v1.9.1)
HELM=helm.sh/helm/v3/cmd/helm@v3.22.0
LOCK=install/requirements-dev.txt

# What must be there -> the Debian package that brings it. Looked for by file or command, not by package: a machine
# with Docker's own containerd must not have it replaced by Debian's.
NEEDS="
ip                          iproute2
ping                        iputils-ping
arping                      iputils-arping
tcpdump                     tcpdump
nft                         nftables
modprobe                    kmod
sysctl                      procps
/usr/lib/cni/static         containernetworking-plugins
containerd                  containerd
ctr                         containerd
runc                        runc
/bin/busybox                busybox-static
keepalived                  keepalived
/usr/bin/linux              user-mode-linux
buildah                     buildah
mmdebstrap                  mmdebstrap
/usr/share/containers/seccomp.json golang-github-containers-common
/usr/share/doc/musl         musl
/usr/share/doc/mksh         mksh
curl                        curl
flock                       util-linux
systemd-analyze             systemd
"

say() { echo "bootstrap: $*"; }

stop() {
  say "$*" >&2
  exit 1
}

root() { [ "$(id -u)" = 0 ]; }

# --- Debian packages ---

installed() {
  case $1 in
    # A dynamically linked busybox is of no use as the only file of a container.
    /bin/busybox) [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 ;;
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# Asked for once, and not known to this system: not asked for again at every start.
unavailable() { grep -qsx "$1" .cache/unavailable; }

missing_packages() {
  local need package
  while read -r need package; do
    [ -z "$need" ] || installed "$need" || unavailable "$package" || echo "$package"
  done <<<"$NEEDS" | sort -u
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >/dev/null; }

install_packages() {
  local package available=()
  if ! command -v apt-get >/dev/null; then
    say "not a Debian-like system: please install what these Debian packages hold:" "$@"
  elif ! root; then
    say "these Debian packages are missing: as root, apt-get install" "$@"
  else
    say "apt-get update"
    apt update || say "apt-get update failed; going on with the package lists at hand"
    for package in "$@"; do
      if apt-cache show "$package" >/dev/null 2>&1; then
        available+=("$package")
      else
        say "this system has no package $package; tests that need it cannot run"
        echo "$package" >>.cache/unavailable
      fi
    done
    if [ ${#available[@]} -gt 0 ]; then
      say "apt-get install ${available[*]}"
      apt install --no-install-recommends "${available[@]}" || say "apt-get install failed (above)"
    fi
  fi
}

# --- Python ---

# Run, not only found: a version manager's shim exists for versions that it does not offer.
can_make_venv() { "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local python
  for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if can_make_venv "$python"; then
      echo "$python"
      return
    fi
  done
  return 1
}

create_venv() {
  local python
  if ! python=$(find_python); then
    install_packages python3 python3-venv
    python=$(find_python) || stop "no Python 3.11 or newer with venv found (PYTHON=/path/to/python names one)"
  fi
  say "creating .venv with $("$python" --version)"
  rm -rf .venv
  "$python" -m venv .venv
}

# pip compiles what it installs, also where PYTHONDONTWRITEBYTECODE is set: start-up is measured as it is in use.
install_python() {
  say "installing $(grep -c '^[a-z].*==' $LOCK) locked Python packages into .venv"
  .venv/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes -r $LOCK
  say "installing cni-floatip itself (editable)"
  .venv/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
  # A runtime hands its own environment down: PYTHONPATH, PYTHONHOME and the like must not reach the plugin.
  sed -i '1{/ -I$/!s/$/ -I/}' .venv/bin/floatip .venv/bin/floatipctl
  .venv/bin/python -m compileall -q cni_floatip
}

python_is() { [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null && [ "$(cat .venv/locked 2>/dev/null)" = "$1" ]; }

# --- by Go: cnitool, the reference plugins in a release that speaks CNI 1.1.0 (Debian's stops at 1.0.0), and helm ---

built_by_go() { [ "$(cat ".cache/bin/$1.built" 2>/dev/null)" = "${*:2}" ]; }

# build_by_go NAME PACKAGES: the packages of one line, into .cache/bin.
build_by_go() {
  local name=$1
  shift
  built_by_go "$name" "$@" && return
  if ! command -v go >/dev/null; then
    say "no Go here, so no $name: tests that need it cannot run"
    return
  fi
  say "go install $name ${1##*@} into .cache/bin"
  # Without HOME (a bare environment) Go does not know where to keep its caches.
  [ -n "${HOME:-}" ] || export GOPATH="$PWD/.cache/go" GOCACHE="$PWD/.cache/go-build"
  export GOBIN=$PWD/.cache/bin CGO_ENABLED=0 GOFLAGS=-modcacherw
  if go install -ldflags="-s -w" "$@" >".cache/$name.log" 2>&1; then
    echo "$@" >".cache/bin/$name.built"
  else
    sed 's/^/  /' ".cache/$name.log"
    say "go install failed (above): tests that need $name cannot run"
  fi
}

mkdir -p .cache
packages=$(missing_packages)
# shellcheck disable=SC2086 # a list of words
[ -z "$packages" ] || install_packages $packages

# Beside the Python packages, which take about as long. Two minutes for helm, which the demo does without.
{
  build_by_go cnitool "$CNITOOL"
  build_by_go plugins "${PLUGINS[@]}"
  [ "${1:-}" = demo ] || build_by_go helm "$HELM"
} &

key=$(sha256sum $LOCK setup.cfg pyproject.toml lab/bootstrap.sh; pwd)
if ! python_is "$key"; then
  .venv/bin/pip --version >/dev/null 2>&1 || create_venv
  install_python
  echo "$key" >.venv/locked
fi

wait
