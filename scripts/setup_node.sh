#!/bin/sh
# From a bare Ubuntu GPU node to a gpt that runs on all its GPUs: scripts/setup_node.sh [-d]
#
#   -d   only says what it would run
#
# What is there already is left as it is. The driver is only looked for: installing one needs a reboot. Packages come from
# what the node's apt knows: NVIDIA's own, where its repository is set up, else Ubuntu's.
set -eu
cd "$(dirname "$0")/.."
dry=
case ${1-} in
-d) dry=1 ;;
?*) sed -n '2,/^#   -d/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

say() { printf '== %s\n' "$*"; }
die() { printf 'setup_node.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null; }
run() {
    echo "+ $*"
    [ -n "$dry" ] || "$@"
}
sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo

# The first of these packages that apt knows.
known() {
    for package; do
        apt-cache policy "$package" 2>/dev/null | grep -q 'Candidate: [^(]' && echo "$package" && return
    done
    echo "$1" # apt will say it better
}
install() {
    if [ -n "$dry" ] || [ -z "${updated-}" ]; then run ${sudo:+$sudo} apt-get update -qq; fi
    updated=1
    run ${sudo:+$sudo} env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

say 'The driver'
if has nvidia-smi; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || die "nvidia-smi finds no GPU: is the driver loaded? dmesg tells"
elif [ -z "$dry" ]; then
    die "no NVIDIA driver here; install one and reboot: sudo apt-get install -y ubuntu-drivers-common && sudo ubuntu-drivers install --gpgpu"
else
    echo "no driver here"
fi

say "CUDA's toolkit"
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
has nvcc || install "$(known cuda-toolkit cuda-toolkit-12-8 cuda-toolkit-12-4 nvidia-cuda-toolkit)"
has nvcc && nvcc --version | sed -n 's/.*release \([0-9.]*\),.*/release \1/p'

say 'MPI'
has mpicc || install openmpi-bin libopenmpi-dev
has mpirun && mpirun --version | head -n 1

say 'NCCL'
if [ -e /usr/include/nccl.h ] || [ -e "${CUDA_HOME:-/usr/local/cuda}/include/nccl.h" ]; then echo "is there"; else install libnccl2 libnccl-dev; fi

say 'What else the build needs, and the build'
run scripts/install_deps.sh
run make -j"$(nproc)"

say 'Does it run?'
run ./gpt version
run ./gpt bench --device cuda
