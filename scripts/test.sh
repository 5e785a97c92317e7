#!/bin/sh
# The tests, from a bare machine: installs what the build needs, builds, runs them all.
cd "$(dirname "$0")/.." || exit 1
scripts/install_deps.sh && make -j2 && exec make -j2 test
