#!/usr/bin/env bash
# Prints the objects in a picture, one per line: label, score, and the box's x, y, width and height.
#
#   SSD_URL=http://localhost:5000 SSD_USERNAME=ugain SSD_PASSWORD=ugain ./client.sh cat.jpg
#
# Needs curl 7.66 or later, and jq.
set -euo pipefail

response=$(mktemp)
trap 'rm -f "$response"' EXIT
# --retry: up to four retries after an error that may pass, such as 429 (busy) or 503 (not ready), each
# after waiting as many seconds as the response's Retry-After says.
status=$(curl --silent --show-error --retry 4 --max-time 60 --user "$SSD_USERNAME:$SSD_PASSWORD" \
    --form "image=@$1" --output "$response" --write-out '%{http_code}' "$SSD_URL/predict")
if [ "$status" != 200 ]; then
    jq --raw-output '"\(.title): \(.detail)"' "$response" >&2 || echo "HTTP status $status" >&2
    exit 1
fi
jq --raw-output '.predictions[] | [.label, .probability, (.box | .x, .y, .width, .height)] | @tsv' "$response"
