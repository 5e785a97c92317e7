#!/bin/sh
# The tests, from a bare machine: installs what the build needs, builds, runs them all. Those of many ranks are skipped
# where Open MPI cannot be installed.
cd "$(dirname "$0")/.." || exit 1
{ scripts/install_deps.sh --mpi || scripts/install_deps.sh; } && make -j2 && exec make -j2 test
