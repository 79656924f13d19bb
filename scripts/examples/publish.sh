#!/usr/bin/env bash
# A job of cron that tells a room how it went: publish.sh URL COMMAND [ARGUMENT ...]
# The message is kept once, even if curl has to try again.
set -uo pipefail

url=$1
shift
output=$("$@" 2>&1)
status=$?
if [ "$status" -eq 0 ]; then said="$1 is done"; else said="$1 failed with status $status"; fi

# ${TOKEN:+...}: only if there is a TOKEN. --retry comes with pauses, also after a 429.
printf '%s\n%s' "$said" "$output" |
    curl --silent --show-error --fail-with-body --max-time 20 --retry 5 --retry-connrefused \
        ${TOKEN:+--header "Authorization: Bearer $TOKEN"} \
        --header "Idempotency-Key: $(uname -n)-$$-$(date +%s)" \
        --data-binary @- "$url?nick=${NICK:-cron}" >&2
exit "$status"
