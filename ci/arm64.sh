#!/usr/bin/env bash
# Builds the workspace for Linux on arm64 and runs it: natively on arm64, under emulation (qemu) on x86-64.
#
#   ci/arm64.sh        (make arm64)
#
# On x86-64 it needs g++-aarch64-linux-gnu and qemu-user (or qemu-user-static) from Debian or Ubuntu, and Rust's standard
# library for arm64: `rustup target add aarch64-unknown-linux-gnu`, or Debian's own rustc, cargo and libstd-rust-dev:arm64.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ci/soon.sh

target=aarch64-unknown-linux-gnu
scratch=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT
fail() {
    echo "ci/arm64.sh: $*" >&2
    exit 1
}
step() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

emulator=() not_run=
case $(uname -sm) in
    'Linux aarch64') ci/libtorch.sh ;;
    'Linux x86_64')
        emulator=("$(command -v qemu-aarch64 || command -v qemu-aarch64-static)") ||
            fail "needs qemu (Debian, Ubuntu: sudo apt-get install qemu-user)"
        command -v aarch64-linux-gnu-g++ >/dev/null ||
            fail "needs a cross compiler (Debian, Ubuntu: sudo apt-get install g++-aarch64-linux-gnu)"
        compgen -G "$(rustc --print target-libdir --target $target)/libstd-*.rlib" >/dev/null ||
            fail "needs Rust's standard library for arm64: rustup target add $target"
        # Beside the libtorch of this machine.
        export LIBTORCH=$PWD/.libtorch-aarch64
        ci/libtorch.sh Linux-aarch64 .libtorch-aarch64
        # Where Debian's cross compiler has the C library; also for a program that an emulated one starts.
        export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
        # Every feature that qemu has, bfloat16 among them.
        export QEMU_CPU=max
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=${emulator[0]}
        ;;
    *) fail "runs on Linux, on arm64 or x86-64" ;;
esac
export CARGO_BUILD_TARGET=$target
programs=${CARGO_TARGET_DIR:-target}/$target/debug
run() { ${emulator[@]+"${emulator[@]}"} "$programs/$1" "${@:2}"; }

step "Build"
# With an example, which has the dependencies of the tests: their features would have all others compiled again.
cargo build --locked --workspace --bins --example client
file=$(od -An -tx1 -j18 -N2 "$programs/ssd" | tr -d ' ')
[ "$file" = b700 ] || fail "$programs/ssd is not an arm64 program"

step "Unit and golden tests"
if [ ${#emulator[@]} = 0 ]; then
    cargo test --locked --no-fail-fast --workspace
else
    # Of every family: the goldens have its detections on photographs. The whole workspace, for the same reason.
    tests=()
    for test in server/{detector,state-dict}/tests/*; do
        tests+=(--test "$(basename "$test" .rs)")
    done
    # These three refuse to take long, which they do here.
    cargo test --locked --no-fail-fast --workspace --lib ${tests[@]+"${tests[@]}"} -- \
        --skip a_file_damaged_anywhere --skip a_file_cut_anywhere --skip tensors_shared_a_billion_times
    not_run="three tests of damaged files that limit their own time, and the integration tests of the server and of
ssd-train, which would take hours under emulation"
fi

step "ssd serve, and a request of each kind"
# A processor without bfloat16: a pass that emulates it would take minutes.
export QEMU_CPU=neoverse-n1
env -u HOST PORT=0 THRESHOLD=0.5 ${emulator[@]+"${emulator[@]}"} "$programs/ssd" >"$scratch/log" 2>&1 &
server=$!
soon 600 grep -q 'Running on' "$scratch/log" || { cat "$scratch/log" >&2; fail "the server does not start"; }
grep -o 'precision [^"]*' "$scratch/log"
url=$(sed -n 's|.*Running on \(http://.*\)/.*|\1|p' "$scratch/log")
cat=data/samples/cat.png
base64 <$cat | tr -d '\n' >"$scratch/base64"
{ printf '{"image": "' && cat "$scratch/base64" && printf '"}'; } >"$scratch/picture.json"
{
    printf '{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["'
    cat "$scratch/base64"
    printf '"]}]}'
} >"$scratch/inference.json"
answers() { # NAME TEXT ARGUMENT...: curl's response has the text.
    curl --silent --show-error --max-time 300 --user ugain:ugain --output "$scratch/response" "${@:3}"
    grep -qa -- "$2" "$scratch/response" || { cat "$scratch/response" >&2; fail "$1: no $2"; }
    echo "$1: $2"
}
json=(--header 'Content-Type: application/json')
answers 'readiness' ready "$url/readyz"
answers 'form' '"label":"cat"' --form image=@$cat "$url/predict"
answers 'body' '"label":"cat"' --header 'Content-Type: image/png' --data-binary @$cat "$url/predict"
answers 'JSON' '"label":"cat"' "${json[@]}" --data-binary "@$scratch/picture.json" "$url/predict"
answers 'annotated' JFIF --header 'Accept: image/jpeg' --form image=@$cat "$url/predict"
answers 'Open Inference Protocol' '"cat"' "${json[@]}" --data-binary "@$scratch/inference.json" \
    "$url/v2/models/ssd_mobilenet_v2_oidv4/infer"
answers 'DeepStack' '"label":"cat"' --form image=@$cat "$url/v1/vision/detection"
answers 'model' '"precision"' "$url/model"
answers 'truncated picture' 'problem' --form 'image=@-;filename=cat.png' "$url/predict" < <(head -c 9000 $cat)
kill "$server"
wait "$server" || fail "the server does not stop when asked"
server=

step "ssd calibrate, for a server on x86-64"
run ssd calibrate server/tests/data/small.safetensors $cat --output "$scratch/calibrated.safetensors"

step "ssd-train fit, one epoch"
# The photographs, and again with their boxes drawn on them. In YOLO's format: a class, and the middle and the size of a
# box, in parts of the picture.
mkdir "$scratch/pictures"
cp data/samples/*.??g "$scratch/pictures"
run ssd predict --annotate "$scratch/annotated" data/samples/*.??g
for picture in "$scratch"/annotated/*; do
    cp "$picture" "$scratch/pictures/annotated-$(basename "$picture")"
done
echo thing >"$scratch/pictures/classes.txt"
for picture in "$scratch"/pictures/*.??g; do
    echo '0 0.5 0.55 0.8 0.8' >"${picture%.*}.txt"
done
run ssd-train fit "$scratch/pictures" --epochs 1 --output "$scratch/mine.safetensors"
run ssd inspect "$scratch/mine.safetensors" | tail -n 3

step "Done"
[ -z "$not_run" ] || echo "NOT run: $not_run"
