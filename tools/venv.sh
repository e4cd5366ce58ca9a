#!/bin/sh
# Makes the virtual environment DIR with Glowplug (editable) and the named dependency groups in it, or brings
# an existing one up to date:  tools/venv.sh DIR [--pip] [GROUP...]
#
# uv does it where there is one; otherwise python's own venv and pip. --pip insists on pip, for packages that a
# user's pip settings know and uv does not (a local PyTorch build, say). PYTHON=/path/to/python3 chooses the
# interpreter. What is missing on this machine is said with the command that installs it.
set -eu

venv=$1
shift
installer=uv
if [ "${1:-}" = --pip ]; then
    installer=pip
    shift
fi
uv --version >/dev/null 2>&1 || installer=pip

fail() {
    printf '\nglowplug: %s\n' "$@" >&2
    exit 1
}

suits() {
    # A name on PATH is no proof: version managers put names there that refuse to run.
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || fail "PYTHON=$PYTHON does not run or is older than Python 3.11, which the server needs."
        printf '%s\n' "$PYTHON"
        return
    fi
    for name in python3 python3.13 python3.12 python3.14 python3.11 python; do
        if suits "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done
}

missing_python() {
    seen=$(python3 -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null || true)
    found="there is no python3 here"
    [ -z "$seen" ] || found="python3 here is Python $seen"
    fail "the server needs Python 3.11 or newer, and $found.
  Debian 12, Ubuntu 24.04 or newer:  apt-get install python3 python3-venv
  Fedora, RHEL 9:                    dnf install python3.12
  macOS:                             brew install python@3.13
  anywhere:                          install uv, which brings a Python of its own
Then run make again, or name another interpreter: make PYTHON=/path/to/python3.12 ..."
}

missing_venv() {
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "$1 cannot make virtual environments: its ${2} module is missing.
  Debian, Ubuntu:  apt-get install python3-venv    (or python$version-venv)
  anywhere:        install uv, which needs neither
Then run make again."
}

python=$(find_python)

if [ -e "$venv" ] && ! suits "$venv/bin/python"; then
    rm -rf "$venv" # the interpreter it was made with is gone
fi

if [ ! -e "$venv" ]; then
    if [ "$installer" = uv ]; then
        uv venv --quiet --python "${python:->=3.11}" "$venv" || missing_python
    else
        [ -n "$python" ] || missing_python
        for module in venv ensurepip; do
            "$python" -c "import $module" 2>/dev/null || missing_venv "$python" "$module"
        done
        "$python" -m venv "$venv"
    fi
fi

groups=
for group in "$@"; do
    groups="$groups --group $group"
done

# Bytecode is compiled here: where PYTHONDONTWRITEBYTECODE is set, every later start would pay for it instead.
if [ "$installer" = uv ]; then
    # shellcheck disable=SC2086  # the groups are words
    uv pip install --quiet --compile-bytecode --python "$venv/bin/python" --editable . $groups
else
    pip="$venv/bin/python -m pip --disable-pip-version-check"
    $pip --version >/dev/null 2>&1 || $venv/bin/python -m ensurepip >/dev/null
    if [ -n "$groups" ]; then
        $pip install --quiet --upgrade "pip>=25.1" # the first that knows dependency groups
    fi
    # shellcheck disable=SC2086
    $pip install --quiet --compile --editable . $groups
fi
"$venv/bin/python" -m compileall -q src || : # a file with a mistake in it is for the check to report
