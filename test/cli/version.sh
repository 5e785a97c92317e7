# The program says what it is, and lists its commands.
$GPT version
$GPT version --help
$GPT help | head -n 1
$GPT >usage 2>&1 || echo "without a command: exit $?"
head -n 1 usage
# Threads that wait for others sleep soon. GCC's OpenMP says what it goes by; others know no such thing.
spins=$(env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT OMP_DISPLAY_ENV=verbose "$GPT" version 2>&1 | sed -n 's/.*GOMP_SPINCOUNT = //p' | tail -n 1)
echo "spins: ${spins:-'2000'}"
