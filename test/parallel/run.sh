#!/bin/sh
# Starts N ranks of a program, more than there are cores if need be, as root too, by Open MPI's or MPICH's mpirun:
# test/parallel/run.sh N PROGRAM ARGUMENT... Where that cannot be done, one test is counted as skipped. Knob: RANKS_TIMEOUT
# (seconds): more ranks than cores get on slowly where something else runs too, but a job that hangs must end.
skip() {
    echo "skipped $program: $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}
n=$1 program=$2
[ -x "$program" ] || skip "built without MPI"
command -v mpirun >/dev/null || skip "no mpirun here"
shift
# Threads of a rank would only take the cores from other ranks; what MPI itself never frees is not ours to report.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=0"
case $(mpirun --version 2>/dev/null) in
*"Open MPI"* | *OpenRTE* | *PRRTE*)
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    set -- mpirun --oversubscribe -np "$n" "$@"
    ;;
*) set -- mpirun -np "$n" "$@" ;;
esac
exec timeout --foreground -k 10 "${RANKS_TIMEOUT:-600}" "$@"
