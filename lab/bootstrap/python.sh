# .venv with the locked packages and this checkout, editable.
#
# A lock names everything, so nothing is resolved: what it names is fetched first, by hash, and then installed without
# an index. .venv/locked says what is installed; it is removed before anything changes and written last. A .venv without
# it is one that was left half done, and is made anew.
#
# Where the index no longer has a locked file, the newest releases that setup.cfg allows are installed instead; CI=true
# makes that an error. The tests go on as well: most of what they say is not about a dependency's release, and who wants
# to know exactly has CI.

STAMP=.venv/locked
WHEELS=.cache/wheels

lock_of() { [ "$1" = demo ] && echo install/requirements-lab.txt || echo install/requirements-dev.txt; }

count_locked() { grep -c '^[a-z].*==' "$(lock_of $FOR)"; }

megabytes_of_lock() { sed -n 's/^# to fetch: \([0-9]*\) MB$/\1/p' "$(lock_of $FOR)"; }

# --- what .venv is: "whole", "itself" (only this checkout is to be installed anew), "other" (another lock), or "none" ---

sum() { cat "$@" | sha256sum | cut -d' ' -f1; }

packages_line() { echo "$1 $(sum "$(lock_of "$1")")"; }

itself_line() { echo "itself $(sum setup.cfg pyproject.toml lab/bootstrap/python.sh) $PWD"; }

stamped() { grep -qsxF "$1" $STAMP; }

state_of_venv() {
  if ! [ -e $STAMP ] || ! grep -qsx "place $PWD" $STAMP || ! imports; then
    echo none
  elif [ "${CI:-}" = true ] && grep -q '^newest ' $STAMP; then
    echo other
  elif ! stamped "$(packages_line $FOR)" && ! { [ $FOR = demo ] && stamped "$(packages_line all)"; }; then
    echo other
  elif ! stamped "$(itself_line)"; then
    echo itself
  else
    echo whole
  fi
}

# Not so where the system's Python has become another.
imports() { .venv/bin/python -I -c 'import cni_floatip, pip' 2>/dev/null; }

# write_stamp LINES: what is installed of packages, and the rest.
write_stamp() {
  printf '%s\n' "place $PWD" "$1" "$(itself_line)" >$STAMP.new
  mv $STAMP.new $STAMP
}

# --- the interpreter ---

# Run, not only found: a version manager's shim exists for versions that it does not offer.
can_make_venv() { "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

NO_PYTHON="no Python 3.11 or newer with venv found (PYTHON=/path/to/python names one)"

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
  python=$(find_python) || stop "$NO_PYTHON"
  say "creating .venv with $("$python" --version)"
  rm -f $STAMP
  rm -rf .venv
  run "$python" -m venv --without-pip .venv && run .venv/bin/python -Im ensurepip --default-pip >/dev/null ||
    stop "cannot create .venv: $(why_pip)"
}

# --- packages ---

pip() { run .venv/bin/python -I -m pip --disable-pip-version-check "$@"; }

# On a terminal pip shows its progress.
QUIET=-q
[ ! -t 1 ] || QUIET=

fetch_locked() {
  rm -rf $WHEELS
  pip download $QUIET --no-deps --require-hashes --only-binary :all: -d $WHEELS -r "$(lock_of $FOR)"
}

install_locked() {
  pip install -q --no-index --find-links $WHEELS --no-deps --require-hashes --only-binary :all: --no-compile \
    -r "$(lock_of $FOR)"
}

install_newest() {
  pip install $QUIET --upgrade --upgrade-strategy eager --prefer-binary --no-compile \
    -e ".[$([ $FOR = demo ] && echo lab || echo dev)]"
}

# The first package that pip complains of, as NAME==VERSION.
complained_of() {
  [[ ! $COMPLAINT =~ [A-Za-z0-9._-]+(\[[a-z0-9,_-]*\])?==[A-Za-z0-9.!+]+ ]] || echo "${BASH_REMATCH[0]}"
}

# What pip failed of: disk, network, hash, gone, or other.
kind_of_failure() {
  case $COMPLAINT in
    *"No space left on device"*) echo disk ;;
    *"Retry(total=0"* | *"Max retries exceeded"* | *"confirming the ssl certificate"*) echo network ;;
    *"DO NOT MATCH THE HASHES"*) echo hash ;;
    *==*) echo gone ;;
    *) echo other ;;
  esac
}

why_pip() {
  case $(kind_of_failure) in
    disk) echo "no space left on the disk" ;;
    network) echo "the package index cannot be reached" ;;
    hash) echo "what the package index offers as $(complained_of) is not the locked file (another hash)" ;;
    gone) echo "the package index does not have the locked file of $(complained_of)" ;;
    other) echo "${COMPLAINT##*$'\n'}" ;;
  esac
}

# Nothing is installed before all is here, so what .venv held until now is still whole.
fetch_locked_or_else() {
  say "fetching $(count_locked) locked Python packages"
  fetch_locked && return
  local why kind
  why=$(why_pip) kind=$(kind_of_failure) newest=$(complained_of)
  case $kind in
    hash | gone) ;;
    *) stop "cannot fetch the locked Python packages: $why; nothing was changed, so mend that and run this again" ;;
  esac
  [ "${CI:-}" != true ] ||
    stop "cannot fetch the locked Python packages: $why; CI=true installs nothing else: pin anew with make lock"
  say "cannot fetch the locked Python packages: $why; going on with the newest releases that setup.cfg allows," \
    "which nobody has tested together (once the file is back, make clean and run this again; make lock pins anew)" >&2
}

prepare_venv() {
  local newest= packages
  [ "$python" != none ] || create_venv
  if [ "$python" != itself ]; then
    fetch_locked_or_else
    rm -f $STAMP
    say "installing them into .venv"
    if [ -z "$newest" ]; then
      install_locked || stop "cannot install the locked Python packages: $(why_pip)"
      rm -rf $WHEELS
    else
      install_newest || stop "cannot install the newest releases: $(why_pip)"
    fi
    packages=$(packages_line demo)
    [ $FOR = demo ] || packages+=$'\n'$(packages_line all)
    [ -z "$newest" ] || packages+=$'\n'"newest $newest"
  else
    packages=$(grep -E '^(demo|all|newest) ' $STAMP)
    rm -f $STAMP
  fi
  say "installing cni-floatip itself (editable)"
  pip install -q --no-deps --no-index --no-build-isolation --no-compile -e . ||
    stop "cannot install this checkout: $(why_pip)"
  # A runtime hands its own environment down: PYTHONPATH, PYTHONHOME and the like must not reach the plugin.
  sed -i '1{/ -I$/!s/$/ -I/}' .venv/bin/floatip .venv/bin/floatipctl
  local unfit
  unfit=$(pip check) || stop "the installed Python packages do not fit together: ${unfit%%$'\n'*}"
  compile
  write_stamp "$packages"
}

# Also where PYTHONDONTWRITEBYTECODE is set: start-up is measured as it is in use. Of these the demo imports little,
# which is compiled when it is imported; the tests start their programs again and again.
compile() {
  local leave=()
  [ $FOR != demo ] || leave=(-x '/(moto|pip|setuptools|pygments|_distutils_hack)/')
  .venv/bin/python -m compileall -q -j0 "${leave[@]}" .venv/lib cni_floatip >/dev/null 2>&1 || true
}
