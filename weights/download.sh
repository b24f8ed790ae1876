#!/usr/bin/env bash
# Downloads published SSD300 weights into this folder: `weights/download.sh voc` or `coco`.
# An interrupted download goes on where it stopped. Overridable, for mirrors and tests:
# SSD_VOC_URL and SSD_COCO_URL (the folder the file is in), SSD_WEIGHTS_DIR (where it goes).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

usage() {
    echo "usage: weights/download.sh voc|coco" >&2
    exit 2
}
fail() {
    echo "download: $*" >&2
    exit 1
}

[[ $# -eq 1 ]] || usage
case "$1" in
voc)
    file=ssd300_mAP_77.43_v2.pth
    base="${SSD_VOC_URL:-https://s3.amazonaws.com/amdegroot-models}"
    least=100000000
    ;;
coco)
    file=ssd300_vgg16_coco-b556d3b4.pth
    base="${SSD_COCO_URL:-https://download.pytorch.org/models}"
    least=100000000
    ;;
*) usage ;;
esac
least="${SSD_LEAST_BYTES:-$least}"
folder="${SSD_WEIGHTS_DIR:-$here}"
target="$folder/$file"
partial="$target.partial"

# Where the name carries the first digits of the SHA-256, they must agree. Where nothing is
# published to compare with, the digest of the first download is kept, and a later file that
# differs is refused.
check() {
    local path="$1" digest name_digest
    digest="$(sha256sum "$path" | cut -d' ' -f1)"
    name_digest="$(sed -nE 's/.*-([0-9a-f]{8})\.pth$/\1/p' <<<"$file")"
    if [[ -n "$name_digest" && "$digest" != "$name_digest"* ]]; then
        fail "the SHA-256 of $path is $digest, but its name says $name_digest...; delete it and try again"
    fi
    if [[ -f "$target.sha256" ]]; then
        local known
        known="$(cut -d' ' -f1 "$target.sha256")"
        [[ "$digest" == "$known" ]] || fail "the SHA-256 of $path is $digest; when it was first downloaded it was $known. If you trust the new file, delete $target.sha256"
    else
        echo "$digest  $file" >"$target.sha256"
    fi
    echo "SHA-256 $digest"
}

# The server's own reader has the last word, where it has been built.
inspect() {
    local ssd="${SSD_BIN:-$here/../target/release/ssd}"
    if [[ -x "$ssd" ]]; then
        "$ssd" inspect "$1" >/dev/null || fail "$1 cannot be read: it is damaged; delete it and try again"
        echo "readable: $ssd inspect"
    else
        echo "not inspected: cargo run --release --bin ssd -- inspect $1"
    fi
}

# The rest of the file, or all of it where there is nothing to go on from: never parts of two files.
fetch() { # [again]
    local status code=0 same=() tag
    # What was begun is gone on with only while it is the server's (RFC 9110, 13.1.5); else curl ends with 33.
    tag="$(sed -nE 's/^[[:space:]]*("[^"]*")[[:space:]]*$/\1/p' "$partial.etag" 2>/dev/null || true)"
    [[ ! -s "$partial" || -z "$tag" ]] || same=(--header "If-Range: $tag")
    status="$(curl --fail --location --retry 3 --continue-at - --progress-bar --etag-save "$partial.etag" \
        ${same[@]+"${same[@]}"} --write-out '%{http_code}' --output "$partial" "$base/$file")" || code=$?
    ((code != 0)) || return 0
    # 416: there is no rest.
    if [[ -s "$partial" && $# -eq 0 ]] && { ((code == 33)) || [[ "$status" == 416 ]]; }; then
        echo "what was begun cannot be gone on with: from the start"
        rm -f "$partial" "$partial.etag"
        fetch again
    elif [[ "$status" =~ ^4 ]]; then
        fail "$base/$file: the server answers $status"
    else
        fail "the download stopped (curl: $code); run the same command again to go on"
    fi
}

mkdir -p "$folder"
# Two at one time would write into one file.
if command -v flock >/dev/null; then
    exec 9>"$target.lock"
    flock --nonblock 9 || fail "another download of $file is under way"
fi
if [[ ! -f "$target" ]]; then
    echo "$base/$file"
    fetch
    size="$(stat -c %s "$partial")"
    ((size >= least)) || fail "$partial has $size bytes, fewer than the $least of the real file; delete it and try again"
    inspect "$partial"
    check "$partial"
    mv "$partial" "$target"
    rm -f "$partial.etag"
else
    echo "$target is there"
    inspect "$target"
    check "$target"
fi
