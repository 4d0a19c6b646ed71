#!/bin/sh
# For a build that `run` cannot wrap, because it is what this very shell does. Nothing masks its output.
set -eu
eval "$(ic-secrets pre-build my-site.dev --until-pid $$)"
trap 'status=$?; eval "$(ic-secrets post-build --format sh)" || exit $((status ? status : $?))' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

composer install --no-interaction --no-progress
