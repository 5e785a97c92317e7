#!/bin/bash
# A rank that dies, stops, hangs or fails ends the job in time, with one line that names it; one that is slow, and a
# pause of all ranks, do not. BUILD: the build's folder.
cd "$(dirname "$0")/../.." || exit 1
program=${BUILD:-build}/test/parallel/fault
test/parallel/run.sh 1 "$program" none 0 2>&1 | grep -q '1 skipped' && exec test/parallel/run.sh 1 "$program"
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
passed=0 failed=0

count() {
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1)) && echo "ok      $1"
    else
        failed=$((failed + 1)) && echo "FAILED  $1" && cat "$log"
    fi
}

# ends KIND RANK LINE: four ranks; the job fails within half a minute and says LINE (a pattern), once.
ends() {
    timeout 30 test/parallel/run.sh 4 "$program" "$1" "$2" >"$log" 2>&1
    status=$?
    [ $status -ne 0 ] && [ $status -ne 124 ] && [ "$(grep -c "$3" "$log")" -eq 1 ]
    count "$1 of rank $2 (status $status): $(grep -m 1 "$3" "$log")" $?
}
goes_on() {
    wait $job && grep -q 'all steps done' "$log"
    count "$1" $?
}

ends kill 2 'rank 2 .*signal 9\|BAD TERMINATION'
ends stop 2 '^gpt: rank 2 (.*): not heard from for 3 s; last seen at: '
ends stop 0 '^gpt: rank 0 (.*): not heard from for 3 s; last seen at: '
ends hang 3 '^gpt: rank 3 (.*): others have waited for it for 3 s; last seen at: a daydream$'
ends hang 0 '^gpt: rank 0 (.*): others have waited for it for 3 s; last seen at: a daydream$'
ends leave-out 1 '^gpt: rank 0 (.*): all ranks have waited for each other for 3 s, this one in: all-reduce (tensor)$'
ends fail 1 '^gpt: rank 1 (.*): the disk is full$'

timeout 60 test/parallel/run.sh 4 "$program" slow 1 >"$log" 2>&1 &
job=$!
goes_on 'a rank that is slow, but alive'

timeout 60 test/parallel/run.sh 4 "$program" none 0 >"$log" 2>&1 &
job=$!
until [ "$(grep -c '^pid' "$log")" -eq 4 ] || ! kill -0 $job; do sleep 0.1; done
pids=$(sed -n 's/^pid //p' "$log")
# shellcheck disable=SC2086  # a list
kill -STOP $pids && sleep 6 && kill -CONT $pids
goes_on 'all ranks paused for twice the time'
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
