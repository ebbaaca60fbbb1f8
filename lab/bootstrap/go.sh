# What Go builds into .cache/bin for the tests: cnitool, the reference plugins in a release that speaks CNI 1.1.0
# (Debian's stops at 1.0.0), and helm, which takes two minutes.

PROGRAMS="cnitool plugins helm"

modules_of() {
  case $1 in
    cnitool) echo github.com/containernetworking/cni/cnitool@v1.3.1 ;;
    plugins) echo github.com/containernetworking/plugins/plugins/{main/ipvlan,main/macvlan,main/host-device,ipam/static}@v1.9.1 ;;
    helm) echo helm.sh/helm/v3/cmd/helm@v3.22.0 ;;
  esac
}

# Written last: a build that died is done again.
built() { [ "$(cat ".cache/bin/$1.built" 2>/dev/null)" = "$(modules_of "$1")" ]; }

missing_programs() {
  local name
  [ "$FOR" != demo ] || return 0
  for name in $PROGRAMS; do
    built "$name" || echo "$name"
  done | paste -sd' '
}

build_programs() {
  local name
  if ! command -v go >/dev/null; then
    say "no Go here, so no $programs: tests that need them cannot run"
    return
  fi
  for name in $programs; do
    build "$name"
  done
}

build() {
  local name=$1 modules
  modules=$(modules_of "$name")
  say "go install $name ${modules##*@} into .cache/bin"
  # Without HOME (a bare environment) Go does not know where to keep its caches.
  [ -n "${HOME:-}" ] || export GOPATH="$PWD/.cache/go" GOCACHE="$PWD/.cache/go-build"
  export GOBIN=$PWD/.cache/bin CGO_ENABLED=0 GOFLAGS=-modcacherw
  # shellcheck disable=SC2086 # a list of words
  if go install -ldflags="-s -w" $modules >".cache/$name.log" 2>&1; then
    echo "$modules" >".cache/bin/$name.built"
  else
    say "go install $name failed: $(tail -n1 ".cache/$name.log") (tests that need it cannot run)"
  fi
}
