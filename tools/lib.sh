# shellcheck shell=bash disable=SC2034
# Shared by tools/quickstart, tools/test and .ci/run: the checkout's root and its Debian packages.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What a build, and a person who runs it, need.
packages_build=(gcc g++ pkgconf meson ninja-build python3 python3-pip ca-certificates scdoc
    liburing-dev libhwloc-dev libxxhash-dev libpcre2-dev libjson-c-dev libinih-dev
    libcurl4-openssl-dev libssl-dev libedit-dev libsystemd-dev)
# What tools/test needs on top.
packages_test=(libcmocka-dev git python3-jinja2 shellcheck)
# What tools/test --full needs on top.
packages_full=(clang clang-format clang-tidy llvm cppcheck valgrind gcovr strace qemu-user)

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# packages_missing NAME...: those that dpkg does not have.
packages_missing() {
    local name state
    for name in "$@"; do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) || true
        [ "$state" = installed ] || printf '%s\n' "$name"
    done
}

# packages_need NAME...: fails with the one line to run when something is missing.
packages_need() {
    local missing
    mapfile -t missing < <(packages_missing "$@")
    [ "${#missing[@]}" -eq 0 ] || die "missing packages. Run once as root:
  apt-get install -y --no-install-recommends ${missing[*]}"
}

# packages_install NAME...: with root or sudo; otherwise as packages_need.
packages_install() {
    local missing as_root=()
    mapfile -t missing < <(packages_missing "$@")
    [ "${#missing[@]}" -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "this is no Debian; find these there: ${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || packages_need "$@"
        sudo -n true 2>/dev/null || [ -t 0 ] || packages_need "$@"
        as_root=(sudo)
    fi
    say "installing ${#missing[@]} Debian packages: ${missing[*]}"
    as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends)
    "${as_root[@]}" update
    "${as_root[@]}" install "${missing[@]}" >/dev/null
}

# quietly COMMAND...: its output only when it fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 || status=$?
    [ "$status" = 0 ] || cat "$log" >&2
    rm -f "$log"
    return "$status"
}
