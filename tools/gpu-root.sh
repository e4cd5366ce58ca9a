#!/bin/sh
# Builds the root file system of tests/gpu/programs/over_images.py here and packs it into FILE, for a machine with
# cards and without a network, where GLOWPLUG_TEST_ROOT=FILE names it:  tools/gpu-root.sh FILE
#
# An image's record holds absolute paths, so it is built in a home whose path both machines can have.
set -eu

file=$(realpath -m "$1")
home=/tmp/glowplug-carried
runtime=$(mktemp -d)
rm -rf "$home"
trap 'rm -rf "$home" "$runtime"' EXIT
export GLOWPLUG_HOME="$home" XDG_RUNTIME_DIR="$runtime" GLOWPLUG_GPUS=none GPU_IMAGE=root
.venv/bin/python - <<'PYTHON'
import sys

from glowplug.sdk.modal_alias import install_alias

install_alias()
sys.path.insert(0, "tests/gpu/programs")
import over_images

with over_images.modal.enable_output():
    over_images.image.build(over_images.app)
PYTHON
.venv/bin/glowplug server stop
tar -C "$home" -cJf "$file" images/oci/images images/oci/roots
ls -l "$file"
