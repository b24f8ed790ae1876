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

# A file server that understands ranges, and counts the bytes that it sends.
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
coco="$work/served/ssd300_vgg16_coco-b556d3b4.pth"
head -c 50000 /dev/zero | tr '\0' v >"$voc"
head -c 50000 /dev/zero | tr '\0' c >"$coco"

run() { # the rest of the arguments go to download.sh; SSD_BIN does nothing unless a test sets it
    SSD_VOC_URL="$url" SSD_COCO_URL="$url" SSD_WEIGHTS_DIR="$work/got" SSD_LEAST_BYTES="${least:-50000}" \
        SSD_BIN="${bin:-/nonexistent}" "$here/download.sh" "$@" >"$work/out" 2>&1
}

run voc || die "a download succeeds"
cmp "$voc" "$work/got/ssd300_mAP_77.43_v2.pth" || die "the file is the server's"
(cd "$work/got" && sha256sum --quiet --check ssd300_mAP_77.43_v2.pth.sha256) || die "its digest is kept"
ok "a download arrives whole and its digest is kept beside it"

: >"$work/served/sent"
run voc || die "a file that is there is not downloaded again"
[[ ! -s "$work/served/sent" ]] || die "nothing is sent twice"
ok "a file that is there is checked, not downloaded again"

rm "$work/got/ssd300_mAP_77.43_v2.pth"
head -c 20000 "$voc" >"$work/got/ssd300_mAP_77.43_v2.pth.partial"
: >"$work/served/sent"
run voc || die "an interrupted download goes on"
[[ "$(cat "$work/served/sent")" == 30000 ]] || die "only the rest is sent"
cmp "$voc" "$work/got/ssd300_mAP_77.43_v2.pth" || die "both parts make the file"
ok "an interrupted download goes on where it stopped"

again="$work/got/ssd300_mAP_77.43_v2.pth"
mv "$again" "$again.partial"
run voc || die "a whole download that was not checked is replaced"
cmp "$voc" "$again" || die "the file is the server's"
ok "a download that was interrupted while it was checked is made again"

rm "$again"
head -c 20000 "$voc" >"$again.partial"
touch "$voc.whole-only"
run voc || die "a server without ranges is asked for all of it"
rm "$voc.whole-only"
cmp "$voc" "$again" || die "the file is the server's"
ok "of a server that cannot go on the whole file is fetched"

rm "$again" "$again.sha256"
head -c 20000 /dev/zero >"$again.partial"
printf '"of another file"\n' >"$again.partial.etag"
run voc || die "a download of another file is not gone on with"
cmp "$voc" "$again" || die "no part is of the other file"
ok "what was begun of another file is not gone on with"

rm "$again"
exec 8>"$again.lock"
flock 8
! run voc || die "a second download at the same time is refused"
grep -q "is under way" "$work/out" || die "the message says why"
flock --unlock 8
ok "two downloads at one time do not meet"

head -c 50000 /dev/zero | tr '\0' x >"$voc"
! run voc || die "a changed file is refused"
grep -q "when it was first downloaded" "$work/out" || die "the message says why"
[[ ! -e "$work/got/ssd300_mAP_77.43_v2.pth" ]] || die "a refused file does not take its place"
ok "a file that differs from the first download is refused"

! run coco || die "a wrong digest is refused"
grep -q "its name says b556d3b4" "$work/out" || die "the message names both digests"
ok "a file whose digest is not the one in its name is refused"

rm -rf "$work/got"
! least=60000 run voc || die "a short file is refused"
grep -q "fewer than the 60000" "$work/out" || die "the message names both sizes"
ok "a file that is too short is refused"

rm -rf "$work/got" && rm "$voc"
! run voc || die "a missing file is an error"
grep -q "the server answers 404" "$work/out" || die "the message says why"
! url=http://127.0.0.1:9 run voc || die "a server that is away is an error"
grep -q "run the same command again" "$work/out" || die "the message says what to do"
ok "a download that fails says why, or what to do"

head -c 50000 /dev/zero >"$voc"
! bin=/bin/false run voc || die "an unreadable file is an error"
grep -q "cannot be read" "$work/out" || die "the message says so"
[[ ! -e "$work/got/ssd300_mAP_77.43_v2.pth" ]] || die "it does not take its place"
[[ ! -e "$work/got/ssd300_mAP_77.43_v2.pth.sha256" ]] || die "its digest is not believed"
ok "a file that the server cannot read is an error, and forgotten"

! run neither || die "another word is refused"
! run || die "a word is needed"
ok "anything but voc or coco is refused with the usage"
echo "$passed passed, 0 failed"
