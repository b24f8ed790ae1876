# Downloads MODEL_URL to MODEL_FILE, unless the file with MODEL_SHA256 is there already.
# MODEL_HEADER may hold one header to send. Whatever fails is tried again by the kubelet, and goes on
# where it stopped.
folder=$(dirname "$MODEL_FILE")
# One for each pod: pods that share a cache do not write into each other's file.
partial=$folder/.$POD_NAME.partial

is_the_model() { echo "$MODEL_SHA256  $1" | sha256sum -c >/dev/null 2>&1; }

# Not an argument, which other processes could list.
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
# What pods that are gone left behind.
find "$folder" -name '.*.partial' -mtime +0 -exec rm -f {} +

if is_the_model "$MODEL_FILE"; then
    echo "the model is there already, and its SHA-256 is right"
    exit 0
fi

if ! is_the_model "$partial"; then
    result=0
    http_status=$(download) || result=$?
    # The server cannot go on in the middle (curl's 33), or has nothing after it: from the start.
    if [ "$result" = 33 ] || [ "$http_status" = 416 ]; then
        rm -f "$partial"
        result=0
        download >/dev/null || result=$?
    fi
    [ "$result" = 0 ] || exit "$result"
fi

if ! is_the_model "$partial"; then
    echo "REFUSED: the file at model.url is not the one that model.sha256 names" >&2
    echo "  expected $MODEL_SHA256" >&2
    echo "  received $(sha256sum "$partial" | cut -d' ' -f1)" >&2
    rm -f "$partial"
    exit 1
fi
mv "$partial" "$MODEL_FILE"
echo "the model is downloaded, and its SHA-256 is right"
