# A file system of 300 KiB, in a name space of its own: nothing half-written stays.
mkdir small
unshare -rm true 2>/dev/null || { echo "SKIP: this user cannot mount a small file system" && exit; }
# shellcheck disable=SC2016
unshare -rm sh -c 'mount -t tmpfs -o size=300k none small && $GPT data demo --out small/a.jsonl --bytes 1M; s=$?; ls small; exit $s'
