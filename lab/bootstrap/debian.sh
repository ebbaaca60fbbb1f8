# Debian packages: what must be there -> the package that brings it. Looked for by file or command, not by package: a
# machine with Docker's own containerd must not have it replaced by Debian's.

DEMO_NEEDS="
ip                          iproute2
nft                         nftables
mount                       mount
/usr/lib/cni/static         containernetworking-plugins
"
TEST_NEEDS="
ping                        iputils-ping
arping                      iputils-arping
tcpdump                     tcpdump
modprobe                    kmod
sysctl                      procps
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
# To download where nothing of it is there, dependencies included; PYTHON_MB with apt's lists, which are missing then too.
PYTHON_MB=25
DEMO_MB=10
TEST_MB=92

UNAVAILABLE=.cache/unavailable

present() {
  case $1 in
    # A dynamically linked busybox is of no use as the only file of a container.
    /bin/busybox) [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 ;;
    # The lab finds plugins in other places as well; some tests need Debian's.
    /usr/lib/cni/*) [ -e "$1" ] || { [ "$FOR" = demo ] && [ -e "/opt/cni/bin/${1##*/}" ]; } ;;
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# missing NEEDS: the packages, each once.
missing() {
  local need package
  while read -r need package; do
    [ -z "$need" ] || present "$need" || echo "$package"
  done <<<"$1" | sort -u
}

# What this start installs: the missing ones that the system is not known to lack, and Python where there is none.
missing_packages() {
  local needs=$DEMO_NEEDS package
  [ "$FOR" = demo ] || needs+=$TEST_NEEDS
  forget_unavailable
  for package in $(missing "$needs"); do
    grep -qsxF "$package" $UNAVAILABLE || echo "$package"
  done
  [ "$python" != none ] || find_python >/dev/null || printf '%s\n' python3 python3-venv
}

megabytes_of_packages() {
  local python=$PYTHON_MB tests=$TEST_MB
  [[ $packages = *python3* ]] || python=0
  [ "$FOR" != demo ] || tests=0
  echo $((DEMO_MB + python + tests))
}

# A package that this system does not have, or cannot install beside what is there, is not asked for at every start; it
# is again when apt's lists, sources or preferences have changed since, and after a week.
forget_unavailable() {
  [ ! -e $UNAVAILABLE ] || [ -z "$(
    find $UNAVAILABLE -mtime +7
    find /etc/apt /var/lib/apt/lists /var/lib/dpkg/status -newer $UNAVAILABLE -print -quit 2>/dev/null
  )" ] || rm $UNAVAILABLE
}

remember_unavailable() {
  say "this system cannot have $1: $2"
  echo "$1" >>$UNAVAILABLE
}

# On a terminal apt shows its progress, unless pip does. COMPLAINT holds what it says otherwise.
apt() {
  local options=(-o DPkg::Lock::Timeout=300 -o APT::Update::Error-Mode=any)
  export DEBIAN_FRONTEND=noninteractive
  if [ -t 1 ] && [ -z "${BESIDE:-}" ]; then
    run apt-get -o Dpkg::Progress-Fancy=1 "${options[@]}" "$@"
  else
    COMPLAINT=$(apt-get -qq "${options[@]}" "$@" 2>&1)
  fi
}

# apt's first complaint says what happened, its last what it thinks of it.
why_apt() { [[ ! $COMPLAINT =~ (^|$'\n')[EW]:\ *([^$'\n']*) ]] || echo "${BASH_REMATCH[2]}"; }

CANNOT_HAVE='dependencies|held broken|no installation candidate|trying to overwrite'

can_install_packages() { root && command -v apt-get >/dev/null; }

# Read to the end: apt-cache that is cut short fails, and so would the whole (pipefail).
known() { [[ $(apt-cache show "$1" 2>/dev/null) == *Package:* ]]; }

# Once a start, and only if the lists at hand do not do.
update_lists() {
  [ -z "${UPDATED:-}" ] || return "$UPDATED"
  say "apt-get update"
  UPDATED=0
  apt update || {
    UPDATED=1
    say "apt-get update failed: $(why_apt)"
  }
  return "$UPDATED"
}

install_packages() {
  local package available=()
  if ! command -v apt-get >/dev/null; then
    say "no apt-get here: please install what these Debian packages hold:" "$@"
    return
  elif ! root; then
    say "these Debian packages are missing: as root, apt-get install" "$@"
    return
  fi
  for package in "$@"; do
    if known "$package" || { update_lists && known "$package"; }; then
      available+=("$package")
    elif [ "$UPDATED" = 0 ]; then
      remember_unavailable "$package" "its package lists do not have it"
    else
      say "no $package: the package lists at hand do not have it"
    fi
  done
  [ ${#available[@]} -eq 0 ] || install_known "${available[@]}"
  [ ! -e $UNAVAILABLE ] || touch $UNAVAILABLE # newer than what apt has just written
}

install_known() {
  local package
  say "apt-get install $*"
  if ! apt install -y --no-install-recommends "$@"; then
    if [[ $COMPLAINT == *"Failed to fetch"* ]] && update_lists && apt install -y --no-install-recommends "$@"; then
      : # the lists named what the mirror no longer has
    elif [[ ! $COMPLAINT =~ $CANNOT_HAVE ]]; then
      say "apt-get install failed: $(why_apt)"
    else
      # One that cannot be installed beside what is there keeps no other away.
      for package in "$@"; do
        apt install -y --no-install-recommends "$package" || remember_unavailable "$package" "$(why_apt)"
      done
    fi
  fi
  for package in $(missing "$DEMO_NEEDS$TEST_NEEDS"); do
    [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *" installed" ]] || continue
    grep -qsxF "$package" $UNAVAILABLE || remember_unavailable "$package" "it is installed, but not what is looked for"
  done
}
