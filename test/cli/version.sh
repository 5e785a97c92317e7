# The program says what it is, and lists its commands.
$GPT version
$GPT version --help
$GPT help | head -n 1
$GPT >usage 2>&1 || echo "without a command: exit $?"
head -n 1 usage
