#!/usr/bin/env bash
# Tests download.sh against a server on the loopback interface.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work="$(mktemp -d)"
server=""
finish() {
    [[ -z "$server" ]] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
passed=0
ok() {
    passed=$((passed + 1))
    echo "ok: $1"
}
die() {
    echo "failed: $1" >&2
    cat "$work/out" >&2
    exit 1
}

# A file server that supports ranges, and counts the bytes that it sends.
cat >"$work/server.py" <<'PY'
import hashlib, http.server, os, re, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = os.path.join(sys.argv[1], os.path.basename(self.path))
        if not os.path.exists(path):
            return self.send_error(404)
        data = open(path, 'rb').read()
        tag = '"%s"' % hashlib.sha256(data).hexdigest()
        asked = re.match(r'bytes=(\d+)-$', self.headers.get('Range', ''))
        if os.path.exists(path + '.whole-only') or self.headers.get('If-Range', tag) != tag:
            asked = None
        start = int(asked.group(1)) if asked else 0
        if start >= len(data):
            return self.send_error(416)
        self.send_response(206 if asked else 200)
        self.send_header('ETag', tag)
        if asked:
            self.send_header('Content-Range', f'bytes {start}-{len(data) - 1}/{len(data)}')
        self.send_header('Content-Length', str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:])
        with open(os.path.join(sys.argv[1], 'sent'), 'a') as log:
            log.write(f'{len(data) - start}\n')

    def log_message(self, *_):
        pass

server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
PY
mkdir "$work/served"
python3 "$work/server.py" "$work/served" >"$work/port" &
server=$!
for _ in $(seq 100); do
    [[ ! -s "$work/port" ]] || break
    sleep 0.05
done
url="http://127.0.0.1:$(cat "$work/port")"
voc="$work/served/ssd300_mAP_77.43_v2.pth"
head -c 50000 /dev/zero | tr '\0' v >"$voc"
for coco in ssdlite320_mobilenet_v3_large_coco-a79551df.pth ssd300_vgg16_coco-b556d3b4.pth; do
    head -c 50000 /dev/zero | tr '\0' c >"$work/served/$coco"
done

run() { # passes its arguments to download.sh; without a server program, unless a test sets bin
    SSD_VOC_URL="$url" SSD_COCO_URL="$url" SSD_WEIGHTS_DIR="$work/got" SSD_MIN_BYTES="${min_bytes:-50000}" \
        SSD_BIN="${bin:-/nonexistent}" "$here/download.sh" "$@" >"$work/out" 2>&1
}
got="$work/got/ssd300_mAP_77.43_v2.pth"

run voc || die "the download fails"
cmp "$voc" "$got" || die "the file differs from the served one"
digest="$(python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$got")"
grep -qx "$digest  ssd300_mAP_77.43_v2.pth" "$got.sha256" || die "its digest is not kept"
ok "a file is downloaded, and its digest is kept beside it"

: >"$work/served/sent"
run voc || die "an existing file is refused"
[[ ! -s "$work/served/sent" ]] || die "an existing file is downloaded again"
ok "an existing file is checked, not downloaded again"

rm "$got"
head -c 20000 "$voc" >"$got.partial"
: >"$work/served/sent"
run voc || die "an interrupted download is not continued"
[[ "$(cat "$work/served/sent")" == 30000 ]] || die "more than the rest is sent"
cmp "$voc" "$got" || die "the parts do not make the file"
ok "an interrupted download is continued"

mv "$got" "$got.partial"
run voc || die "a complete partial file is not replaced"
cmp "$voc" "$got" || die "the file differs from the served one"
ok "a download that was interrupted before its check is repeated"

rm "$got"
head -c 20000 "$voc" >"$got.partial"
touch "$voc.whole-only"
run voc || die "a server without ranges is an error"
rm "$voc.whole-only"
cmp "$voc" "$got" || die "the file differs from the served one"
ok "from a server without ranges, the whole file is downloaded"

rm "$got" "$got.sha256"
head -c 20000 /dev/zero >"$got.partial"
printf '"of another file"\n' >"$got.partial.etag"
run voc || die "a part of another file is an error"
cmp "$voc" "$got" || die "a part of another file is used"
ok "a part of another file is not continued"

rm "$got"
if command -v flock >/dev/null; then # macOS has none
    exec 8>"$got.lock"
    flock 8
    ! run voc || die "a second download at the same time is allowed"
    grep -q "is in progress" "$work/out" || die "the message does not say why"
    flock --unlock 8
    ok "a second download of a file at the same time is refused"
fi

head -c 50000 /dev/zero | tr '\0' x >"$voc"
! run voc || die "a changed file is accepted"
grep -q "that of the first download" "$work/out" || die "the message does not say why"
[[ ! -e "$got" ]] || die "a refused file has the final name"
ok "a file that differs from the first download is refused"

! run coco || die "a wrong digest is accepted"
grep -q "the file name says a79551df" "$work/out" || die "the message does not name both digests"
! run coco-ssd300 || die "a wrong digest is accepted"
grep -q "the file name says b556d3b4" "$work/out" || die "the message does not name both digests"
ok "a file whose digest differs from its name is refused"

rm -rf "$work/got"
! min_bytes=60000 run voc || die "a short file is accepted"
grep -q "at least 60000" "$work/out" || die "the message does not name both sizes"
ok "a file that is too short is refused"

rm -rf "$work/got" && rm "$voc"
! run voc || die "a missing file is no error"
grep -q "returned status 404" "$work/out" || die "the message does not say why"
! url=http://127.0.0.1:9 run voc || die "an unreachable server is no error"
grep -q "run the same command again" "$work/out" || die "the message does not say what to do"
ok "a failed download says why, or what to do"

head -c 50000 /dev/zero >"$voc"
! bin=/bin/false run voc || die "an unreadable file is accepted"
grep -q "cannot read it" "$work/out" || die "the message does not say why"
[[ ! -e "$got" ]] || die "an unreadable file has the final name"
[[ ! -e "$got.sha256" ]] || die "the digest of an unreadable file is kept"
ok "a file that the server cannot read is refused, and its digest is not kept"

! run neither || die "an unknown name is accepted"
! run || die "a missing name is accepted"
ok "an unknown name is refused"
echo "$passed passed, 0 failed"
