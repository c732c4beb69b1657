# Sourced by scripts/check and scripts/demo. Defines $root (the checkout), $venv (its environment) and
# prepare_environment. Works from any current directory.
# shellcheck shell=bash

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv

fail() {
    printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2
    exit 1
}

# True if "$1" runs and is new enough. It is started, not only looked up: a version manager's stand-in may exist
# without any Python behind it.
is_usable_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3; do
        if is_usable_python "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

make_venv() {
    local python
    python=$(find_python) || fail "needs Python 3.11 or newer, found neither as python3.11 nor as python3." \
        "Install it, or name it: PYTHON=/path/to/python3.12 $0"
    # Complete or not there at all: a half-made environment would be taken for a good one next time.
    if ! "$python" -m venv "$venv"; then
        rm -rf -- "$venv"
        fail "$python cannot make an environment in $venv. On Debian and Ubuntu install python3-venv."
    fi
}

# What an installation depends on; environments do not survive being moved, hence the path.
fingerprint() {
    "$venv/bin/python" - "$root" <<'PYTHON'
import hashlib
import pathlib
import sys

root = sys.argv[1]
digest = hashlib.sha256(pathlib.Path(root, "pyproject.toml").read_bytes())
digest.update(repr((root, sys.version)).encode())
print(digest.hexdigest())
PYTHON
}

is_stamped() {
    [[ -f $1 && $(<"$1") == "$2" ]]
}

install_project() {
    local extras=$1 stamp wanted
    if [[ -e $venv ]] && ! is_usable_python "$venv/bin/python"; then
        fail "$venv holds no Python 3.11 or newer that runs. Remove the folder and start again."
    fi
    [[ -e $venv ]] || make_venv
    stamp=$venv/.installed${extras:+-$extras}
    wanted=$(fingerprint) || fail "$venv/bin/python does not run as it should; its message is above."
    if is_stamped "$stamp" "$wanted" || is_stamped "$venv/.installed-dev" "$wanted"; then
        return
    fi
    printf 'installing %s into %s\n' "grav-actors${extras:+[$extras]}" "$venv"
    rm -f -- "$stamp"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --editable "$root${extras:+[$extras]}" || fail "pip could not install the project; its message is above."
    printf '%s\n' "$wanted" >"$stamp"
}

# prepare_environment [EXTRAS]: make .venv if missing and install the project, editable, unless that was done for
# this very pyproject.toml; an installation with the extra `dev` serves every purpose. Two runs in one checkout
# take turns, where flock exists.
prepare_environment() {
    (
        if command -v flock >/dev/null; then
            flock 9
        fi
        install_project "${1:-}"
    ) 9<"$root/pyproject.toml"
}
