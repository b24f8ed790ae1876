# Downloads MODEL_URL to MODEL_FILE, unless MODEL_FILE already has the SHA-256 MODEL_SHA256.
# MODEL_HEADER may contain one header to send. After a failure the kubelet runs this script again, and the
# download resumes.
folder=$(dirname "$MODEL_FILE")
# A file for each pod, because pods may share a cache.
partial=$folder/.$POD_NAME.partial

is_the_model() { echo "$MODEL_SHA256  $1" | sha256sum -c >/dev/null 2>&1; }

# The header is passed by curl's standard input, because other processes can read curl's arguments.
header() {
    test -z "${MODEL_HEADER-}" || printf 'header = "%s"\n' "$(printf %s "$MODEL_HEADER" | tr -d '\r\n')"
}

# Prints the HTTP status.
download() {
    header | curl --config - --fail --location --proto '=http,https' --silent --show-error \
        --connect-timeout 10 --speed-limit 1024 --speed-time 60 --retry 3 --retry-connrefused \
        --continue-at - --output "$partial" --write-out '%{http_code}' "$MODEL_URL"
}

mkdir -p "$folder"
# Removes files of deleted pods.
find "$folder" -name '.*.partial' -mtime +0 -exec rm -f {} +

if is_the_model "$MODEL_FILE"; then
    echo "the model was downloaded before; its SHA-256 matches"
    exit 0
fi

if ! is_the_model "$partial"; then
    result=0
    http_status=$(download) || result=$?
    # The server does not support ranges (curl's 33), or the partial file is too long: start again.
    if [ "$result" = 33 ] || [ "$http_status" = 416 ]; then
        rm -f "$partial"
        result=0
        download >/dev/null || result=$?
    fi
    [ "$result" = 0 ] || exit "$result"
fi

if ! is_the_model "$partial"; then
    echo "REFUSED: the SHA-256 of the file at model.url is not model.sha256" >&2
    echo "  expected $MODEL_SHA256" >&2
    echo "  received $(sha256sum "$partial" | cut -d' ' -f1)" >&2
    rm -f "$partial"
    exit 1
fi
mv "$partial" "$MODEL_FILE"
echo "the model is downloaded; its SHA-256 matches"
