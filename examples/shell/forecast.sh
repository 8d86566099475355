#!/bin/bash
# Ask for a forecast from a shell: redis-cli and jq.
#
#   NVP_REDIS_URL=$(nvp account url ace-1) ./forecast.sh
set -euo pipefail

IFS=':/@' read -r _ _ _ account REDISCLI_AUTH host port _ <<< "$NVP_REDIS_URL"
export REDISCLI_AUTH # not on a command line, where others would see it
ask() { redis-cli --raw -h "$host" -p "$port" --user "$account" "$@"; }

# One frame of 32 x 32 cells, little-endian float32: 1.0 in the upper half, 2.0 in the lower.
field=$(mktemp) && trap 'rm "$field"' EXIT
for _ in {1..512}; do printf '\x00\x00\x80\x3f'; done > "$field"
for _ in {1..512}; do printf '\x00\x00\x00\x40'; done >> "$field"

id=$(cat /proc/sys/kernel/random/uuid)
request=$(jq -nc \
  --arg id "$id" \
  --arg time "$(date -u +%FT%TZ)" \
  --arg deadline "$(date -u -d '60 seconds' +%FT%TZ)" \
  --arg digest "sha256:$(sha256sum < "$field" | cut -c 1-64)" \
  --arg inline "$(base64 -w 0 < "$field")" '{
    specversion: "1.0", $id, source: "urn:example:shell", type: "nvp.prediction.requested.v1", $time, $deadline,
    budgetmj: "2000",
    data: {domain: "plasma_physics", field: {shape: [32, 32], $digest, $inline}, inline_answer: true}
  }')
ask XADD "nvp:{$account}:predict" '*' event "$request" > /dev/null

# The answer is kept for an hour in a hash of the request's own: an event type, and the event.
for _ in {1..120}; do
  reply=$(ask HGETALL "nvp:{$account}:reply:$id" | tail -n 1)
  [ -z "$reply" ] || break
  sleep 0.5
done
said() { jq -er "$1" <<< "$reply"; }
if ! said .data.mean.inline > /dev/null; then
  echo "no forecast: ${reply:-no reply within 60 s; is a worker running?}" >&2
  exit 1
fi
mean=$(said .data.mean.inline | base64 -d | od -An -v -t f4 -w4 | awk '{ sum += $1 } END { printf "%.4f", sum / NR }')
echo "mean $mean of $(said '.data.mean.shape | join(" x ")') cells," \
  "$(said .data.energy.mj/1000) J by $(said .data.model_id)"
