#!/bin/sh
# Installs what gpt is built with: gcc, make, cJSON, zlib. With --mpi also Open MPI, for runs on many GPUs. (Optional, and
# not installed: libxml2, with which gpt data clean reads HTML; libdeflate, with which gpt data writes .gz faster.)
# Says what it will run before it runs it; uses sudo if it must; does nothing when everything is there.

# shellcheck disable=SC2086  # lists of packages and commands are split into words on purpose

# Can a program with this header and this library be built?
links() { printf '#include <%s>\nint main(void) { return 0; }\n' "$1" | ${CC:-gcc} -x c - -o /dev/null "-l$2" 2>/dev/null; }

case $1 in
'' | --mpi) ;;
*) echo "usage: scripts/install_deps.sh [--mpi]" && exit 2 ;;
esac

# The packages' names: compiler, make, cJSON, zlib, Open MPI.
if command -v apt-get >/dev/null; then
    install='apt-get install -y --no-install-recommends' cc='gcc libc6-dev' cjson=libcjson-dev zlib=zlib1g-dev
    mpi='libopenmpi-dev openmpi-bin'
elif command -v dnf >/dev/null; then
    install='dnf install -y' cc=gcc cjson=cjson-devel zlib=zlib-devel mpi=openmpi-devel
elif command -v pacman >/dev/null; then
    install='pacman -S --needed --noconfirm' cc=gcc cjson=cjson zlib=zlib mpi=openmpi
elif command -v brew >/dev/null; then
    install='brew install' cc=gcc cjson=cjson zlib=zlib mpi=open-mpi
else
    install=
fi

need=
command -v "${CC:-gcc}" >/dev/null || need="$cc"
command -v make >/dev/null || need="$need make"
links cjson/cJSON.h cjson || need="$need $cjson"
links zlib.h z || need="$need $zlib"
[ "$1" != --mpi ] || { command -v mpicc && command -v mpirun; } >/dev/null || need="$need $mpi"
need=${need# }
[ -z "$need" ] && echo "gpt: all that the build needs is here" && exit 0
if [ -z "$install" ]; then
    echo "gpt: no apt-get, dnf, pacman or brew here; please install gcc, make, cJSON, zlib${1:+ and an MPI}"
    exit 1
fi

sudo=
[ "$(id -u)" -eq 0 ] || case $install in brew*) ;; *) sudo=sudo ;; esac
if [ -n "$sudo" ] && ! command -v sudo >/dev/null; then
    echo "gpt: neither root nor sudo here; please have this run as root: $install $need"
    exit 1
fi

run() {
    echo "+ $*"
    "$@"
}
echo "gpt: this machine lacks $need; installing with ${sudo:+sudo }${install%% *}"
export DEBIAN_FRONTEND=noninteractive
case $install in apt-get*) run $sudo apt-get update -qq || echo "gpt: cannot update the package lists; going on" ;; esac
run $sudo $install $need
