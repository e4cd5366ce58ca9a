#!/bin/sh
# Collects in DIR the wheels that a Python 3.12 x86-64 Linux machine without a network needs to install Glowplug
# from this tree and run tests/gpu there:  tools/gpu-bundle.sh DIR
#
# On that machine:  python3 -m pip install --no-index --find-links DIR -e . pytest pytest-timeout
#
# The runtime's own dependencies, the build backend and the test runner; PyTorch is expected there already.
set -eu

bundle=$1
limit_kib=40960
venv=.venv-bundle

tools/venv.sh "$venv" --pip
rm -rf "$bundle"
mkdir "$bundle"

# The names come from the package itself, so the bundle cannot fall behind pyproject.toml.
needs=$("$venv/bin/python" - <<'PYTHON'
from importlib.metadata import requires

for line in requires("glowplug"):
    requirement, _, marker = line.partition(";")
    if "extra ==" not in marker:
        print(requirement.replace(" ", ""))
PYTHON
)
# shellcheck disable=SC2086  # one word a requirement
"$venv/bin/python" -m pip --disable-pip-version-check download --quiet --dest "$bundle" \
    --only-binary=:all: --implementation cp --python-version 3.12 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    $needs hatchling editables pytest pytest-timeout

size_kib=$(du -sk "$bundle" | cut -f1)
if [ "$size_kib" -gt "$limit_kib" ]; then
    echo "glowplug: $bundle holds $size_kib KiB, more than the $limit_kib KiB that such a machine is given." >&2
    exit 1
fi
echo "$bundle: $(ls "$bundle" | wc -l) wheels, $size_kib KiB"
