#!/usr/bin/env bash
# Downloads published weights: `weights/download.sh voc`, `coco` or `coco-ssd300`. Continues an interrupted download.
# For mirrors and tests: SSD_VOC_URL and SSD_COCO_URL are the address of the file's folder, SSD_WEIGHTS_DIR is the
# folder to write to (by default this one), SSD_MIN_BYTES is the minimum size of the file.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

usage() {
    echo "usage: weights/download.sh voc|coco|coco-ssd300" >&2
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
    min_bytes=100000000
    ;;
coco)
    file=ssdlite320_mobilenet_v3_large_coco-a79551df.pth
    base="${SSD_COCO_URL:-https://download.pytorch.org/models}"
    min_bytes=13000000
    ;;
coco-ssd300)
    file=ssd300_vgg16_coco-b556d3b4.pth
    base="${SSD_COCO_URL:-https://download.pytorch.org/models}"
    min_bytes=100000000
    ;;
*) usage ;;
esac
min_bytes="${SSD_MIN_BYTES:-$min_bytes}"
folder="${SSD_WEIGHTS_DIR:-$here}"
target="$folder/$file"
partial="$target.partial"

sha256() { # FILE
    if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}

# Compares the SHA-256 with the digits in the file's name, if it has any, and with the digest of the first download,
# which is kept beside the file.
check() {
    local path="$1" digest name_digest
    digest="$(sha256 "$path")"
    name_digest="$(sed -nE 's/.*-([0-9a-f]{8})\.pth$/\1/p' <<<"$file")"
    if [[ -n "$name_digest" && "$digest" != "$name_digest"* ]]; then
        fail "the SHA-256 of $path is $digest, but the file name says $name_digest...; delete the file and try again"
    fi
    if [[ -f "$target.sha256" ]]; then
        local known
        known="$(cut -d' ' -f1 "$target.sha256")"
        [[ "$digest" == "$known" ]] || fail "the SHA-256 of $path is $digest, but that of the first download was $known. If you trust the new file, delete $target.sha256"
    else
        echo "$digest  $file" >"$target.sha256"
    fi
    echo "SHA-256 $digest"
}

# Checks that the server can read the file, if the server has been built.
inspect() {
    local ssd="${SSD_BIN:-$here/../target/release/ssd}"
    if [[ -x "$ssd" ]]; then
        "$ssd" inspect "$1" >/dev/null || fail "$1 is damaged: the server cannot read it; delete the file and try again"
        echo "checked with $ssd inspect"
    else
        echo "not checked with the server, which has not been built: cargo run --release --bin ssd -- inspect $1"
    fi
}

# Downloads the rest of the file, or all of it if there is no part to continue. Never mixes parts of two files.
fetch() { # [again]
    local status code=0 same=() tag
    # If-Range (RFC 9110, 13.1.5) continues only the same file. For another one, curl exits with 33.
    tag="$(sed -nE 's/^[[:space:]]*("[^"]*")[[:space:]]*$/\1/p' "$partial.etag" 2>/dev/null || true)"
    [[ ! -s "$partial" || -z "$tag" ]] || same=(--header "If-Range: $tag")
    status="$(curl --fail --location --retry 3 --continue-at - --progress-bar --etag-save "$partial.etag" \
        ${same[@]+"${same[@]}"} --write-out '%{http_code}' --output "$partial" "$base/$file")" || code=$?
    ((code != 0)) || return 0
    # 416: the part is not shorter than the file.
    if [[ -s "$partial" && $# -eq 0 ]] && { ((code == 33)) || [[ "$status" == 416 ]]; }; then
        echo "the interrupted download cannot be continued: starting again"
        rm -f "$partial" "$partial.etag"
        fetch again
    elif [[ "$status" =~ ^4 ]]; then
        fail "$base/$file: the server returned status $status"
    else
        fail "the download stopped (curl exit code $code); run the same command again to continue"
    fi
}

mkdir -p "$folder"
# Two downloads at the same time would write to the same file.
if command -v flock >/dev/null; then
    exec 9>"$target.lock"
    flock --nonblock 9 || fail "another download of $file is in progress"
fi
if [[ ! -f "$target" ]]; then
    echo "$base/$file"
    fetch
    size="$(($(wc -c <"$partial")))"
    ((size >= min_bytes)) || fail "$partial has $size bytes, but the file has at least $min_bytes; delete it and try again"
    inspect "$partial"
    check "$partial"
    mv "$partial" "$target"
    rm -f "$partial.etag"
else
    echo "$target exists"
    inspect "$target"
    check "$target"
fi
