#!/usr/bin/env bash
# Downloads libtorch into .libtorch: the libraries for inference on a CPU, and the headers that tch needs.
#
#   ci/libtorch.sh [PLATFORM [FOLDER]]
#
# PLATFORM: Linux-x86_64, Linux-aarch64 or Darwin-arm64 (macOS); this machine's by default. FOLDER: .libtorch by default.
#
# The wheels and their SHA-256 are in ci/libtorch.txt. pip refuses a wheel with another hash, before it is unpacked.
# The script does nothing if the folder already has that version, or if LIBTORCH is set and no platform is named.
set -euo pipefail

# The user's own libtorch, which .cargo/config.toml does not replace.
if [ -n "${LIBTORCH-}" ] && [ $# = 0 ]; then
    exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
platform=${1:-$(uname -s)-$(uname -m)}
folder=${2:-.libtorch}
case $platform in
    Linux-x86_64 | Linux-aarch64)
        arch=${platform#Linux-}
        tags=("manylinux_2_28_$arch" "manylinux_2_25_$arch" "manylinux_2_17_$arch" "manylinux2014_$arch")
        wheels=$(cat ci/libtorch.txt) size='540 MB'
        ;;
    Darwin-arm64)
        # Needs no library of CUDA.
        tags=(macosx_14_0_arm64)
        wheels=$(sed -n '/^torch==/,/[^\\]$/p' ci/libtorch.txt) size='111 MB'
        ;;
    *)
        echo "ci/libtorch.sh: no libtorch for $platform. There is one for Linux-x86_64, Linux-aarch64 and Darwin-arm64" \
            "(macOS 14 or newer on Apple silicon); on others, use the development container (.devcontainer/)" >&2
        exit 1
        ;;
esac

want=$(echo "$platform $wheels" && cat ci/libtorch.sh)
if [ "$(cat "$folder/.complete" 2>/dev/null)" = "$want" ]; then
    exit 0
fi
if ! python3 -m pip --version >/dev/null 2>&1; then
    echo "ci/libtorch.sh: needs python3 with pip (Debian, Ubuntu: sudo apt-get install python3-pip)" >&2
    exit 1
fi

partial=$folder.partial
rm -rf "$partial"
mkdir -p "$partial/wheels"
trap 'rm -rf "$partial"' EXIT

echo "libtorch: downloading the wheels of ci/libtorch.txt for $platform ($size, once)" >&2
echo "$wheels" >"$partial/wheels.txt"
# A fixed Python version selects the same wheels, with the same hashes, for any python3.
python3 -m pip download --progress-bar on --no-deps --only-binary=:all: --require-hashes \
    --python-version 3.11 --implementation cp "${tags[@]/#/--platform=}" \
    --requirement "$partial/wheels.txt" --dest "$partial/wheels" >&2

echo "libtorch: unpacking" >&2
python3 - "$partial" "$platform" <<'PYTHON'
import os, pathlib, shutil, sys, zipfile

partial, platform = pathlib.Path(sys.argv[1]), sys.argv[2]
# The libraries that libtorch_cpu loads (readelf -d, otool -L), itself included, and the headers that torch-sys
# includes.
libraries = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcupti.so.13", "libcudart.so.13"}
if platform == "Darwin-arm64":
    libraries = {"libtorch_cpu.dylib", "libtorch.dylib", "libc10.dylib", "libomp.dylib"}
elif platform == "Linux-aarch64":
    libraries |= {"libarm_compute.so", "libarm_compute_graph.so"}
    libraries |= {f"libnvpl_{name}.so.0" for name in
                  ("blas_core", "blas_lp64_gomp", "lapack_core", "lapack_lp64_gomp")}
headers = {"ATen", "c10", "caffe2", "torch"}
members = []
for wheel in sorted((partial / "wheels").glob("*.whl")):
    archive = zipfile.ZipFile(wheel)
    for info in archive.infolist():
        path = pathlib.PurePosixPath(info.filename)
        if path.name in libraries and path.parent.name == "lib":
            members.append((archive, info, partial / "lib" / path.name))
        elif path.parts[:2] == ("torch", "include") and headers.intersection(path.parts[2:3]) and not info.is_dir():
            members.append((archive, info, partial.joinpath(*path.parts[1:])))

missing = libraries - {target.name for _, _, target in members}
if missing:
    sys.exit(f"ci/libtorch.sh: the wheels lack {', '.join(sorted(missing))}")
total, done, shown = sum(info.file_size for _, info, _ in members), 0, -1
for archive, info, target in members:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
    done += info.file_size
    percent = done * 100 // total
    if percent != shown and sys.stderr.isatty():
        print(f"\r  {percent} % of {total >> 20} MiB", end="", file=sys.stderr, flush=True)
        shown = percent
if sys.stderr.isatty():
    print(file=sys.stderr)
# torch-sys reads build-version and links libtorch, which in a CPU build only loads libtorch_cpu.
if platform.startswith("Linux"):
    os.symlink("libtorch_cpu.so", partial / "lib" / "libtorch.so")
version = next(line for line in open("ci/libtorch.txt") if line.startswith("torch==")).split()[0]
(partial / "build-version").write_text(version.removeprefix("torch==") + "\n")
PYTHON

rm -r "$partial/wheels" "$partial/wheels.txt"
echo "$want" >"$partial/.complete"
rm -rf "$folder"
mv "$partial" "$folder"
trap - EXIT
echo "libtorch: $folder holds $(cat "$folder/build-version") for $platform ($(du -sh "$folder" | cut -f1))" >&2
