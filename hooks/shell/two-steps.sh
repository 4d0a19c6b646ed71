#!/bin/sh
# For a build that `run` cannot wrap, because it is what this very shell does. Nothing masks its output.
set -eu
# Where pre-build fails, is not there or is killed, so does this assignment, and nothing is built.
begin=$(ic-secrets pre-build my-site.dev --until-pid $$)
# The build's own status wins; where that is 0, it is that of post-build: 120 for a leak.
trap 'code=$?; eval "$(ic-secrets post-build --format sh --status $code)" || exit $?; exit $code' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
eval "$begin"
unset begin

composer install --no-interaction --no-progress
