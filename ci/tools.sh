#!/usr/bin/env bash
# Installs the pinned tools that lint, render, test and install the chart, and check the OpenAPI document,
# into .tools/bin.
#
#   ci/tools.sh [TOOL...]    all by default: helm helm4 ct helm-unittest helm-docs kubeconform kind
#                            kubectl actionlint promtool pod-security schemas yamllint yamale shellcheck
#                            openapi-python-client schemathesis redocly
#                            (tritonclient for ci/contract.sh, selenium for ci/browser.sh, tflite for
#                            weights/mobilenet, and cargo-deny must be named)
#
# It needs no root, and skips tools that are installed. Builds are kept in ${XDG_CACHE_HOME:-~/.cache}/ssd-tools
# under a hash of their sources, so that a second clone on the same machine only links to them.
#
# How downloads are verified:
#
#   Go tools           built from source; each module is compared with the go.sum in ci/tools/TOOL
#   without Go         the publisher's release is compared with the publisher's checksums. This detects a damaged
#                      download, but not an attack on the publisher
#   Python packages    the SHA-256 in ci/tools/requirements.txt, ci/tools/contract.txt, ci/tools/protocols.txt,
#                      ci/browser/requirements.txt or weights/mobilenet/requirements.txt
#   the npm package    the digests in its package-lock.json
#   cargo-deny         the digests of its crates in its Cargo.lock
#   schemas            the SHA-256 in ci/tools/schemas.txt
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ssd-tools
bin=$root/.tools/bin
mkdir -p "$bin" "$cache"

work=$(mktemp -d "$cache/partial.XXXXXX")
trap 'rm -rf "$work"' EXIT

die() {
    echo "ci/tools.sh: $*" >&2
    exit 1
}

# link TARGET NAME: replaces the link in one step, so that a command that starts meanwhile finds the old or the new tool.
link() {
    [ "$(readlink ".tools/$2" || true)" = "$1" ] && return
    ln -sfn "$1" "$work/link"
    mv -fT "$work/link" ".tools/$2" 2>/dev/null || ln -sfn "$1" ".tools/$2" # macOS: mv has no -T
}

sha256() { # of FILE, or of the standard input
    if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi | cut -d' ' -f1
}

download() { # URL FILE
    command -v curl >/dev/null || die "needs curl (Debian, Ubuntu: sudo apt-get install curl)"
    curl --fail --silent --show-error --location --retry 3 --output "$2" "$1"
}

# ---- tools written in Go: a module each in ci/tools, because their dependencies conflict --------

# The package in a tool's go.mod, and the version of its module. pod-security is part of this repository and has
# neither.
package_of() { sed -n 's/^tool //p' "ci/tools/$1/go.mod"; }
version_of() {
    local package
    package=$(package_of "$1")
    [ -n "$package" ] || return 0
    sed -n 's/^\(require\)\{0,1\}[[:space:]]*\([^ ]*\) \(v[^ ]*\).*/\2 \3/p' "ci/tools/$1/go.mod" |
        while read -r module version; do
            case $package/ in "$module"/*) echo "$version" ;; esac
        done
}

# Fails if Go is missing, or if it is older than go.mod requires and may not download a newer one.
go_can_build() { command -v go >/dev/null && (cd "ci/tools/$1" && GOWORK=off go list -m) >/dev/null 2>&1; }

# Linker flags that set a tool's version. Helm 3 also gets the Kubernetes version of its client library, as in its
# releases.
ldflags() { # TOOL VERSION
    local minor=${2#v1.} package
    case $1 in
        helm)
            echo "-X helm.sh/helm/v3/internal/version.version=$2"
            minor=$(sed -n 's/^[[:space:]]*k8s.io\/client-go v0\.\([0-9]*\)\..*/\1/p' ci/tools/helm/go.mod)
            for package in pkg/lint/rules pkg/chartutil; do
                echo "-X helm.sh/helm/v3/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/$package.k8sVersionMinor=$minor"
            done
            ;;
        helm4) echo "-X helm.sh/helm/v4/internal/version.version=$2" ;;
        ct) echo "-X github.com/helm/chart-testing/v3/ct/cmd.Version=$2" ;;
        helm-docs) echo "-X main.version=${2#v}" ;;
        helm-unittest) echo "-X github.com/helm-unittest/helm-unittest/internal/build.version=${2#v}" ;;
        kubeconform) echo "-X main.version=$2" ;;
        actionlint) echo "-X github.com/rhysd/actionlint.version=${2#v}" ;;
        kubectl)
            for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
                echo "-X $package.gitVersion=$2 -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
            done
            ;;
    esac
}

# Builds promtool without service discovery, which is most of Prometheus's code.
tags() { [ "$1" != promtool ] || echo remove_all_sd; }

build() { # TOOL VERSION OUT
    local package
    package=$(package_of "$1")
    echo "ci/tools.sh: building $1 $2 (once on this machine)" >&2
    (
        cd "ci/tools/$1"
        unset GOOS GOARCH
        GOWORK=off CGO_ENABLED=0 go build -mod=readonly -trimpath -tags "$(tags "$1")" \
            -ldflags "-s -w $(cd "$root" && ldflags "$1" "$2" | tr '\n' ' ')" -o "$3" "${package:-.}"
    )
}

# Prints the URLs of a tool's release and of its checksums, and the program's path in the archive.
release() { # TOOL VERSION OS ARCH
    local tool=$1 version=$2 os=$3 arch=$4 gh=https://github.com uname_arch=$4 number=${2#v}
    [ "$arch" = amd64 ] && uname_arch=x86_64
    case $tool in
        helm | helm4)
            echo "https://get.helm.sh/helm-$version-$os-$arch.tar.gz"
            echo "https://get.helm.sh/helm-$version-$os-$arch.tar.gz.sha256sum"
            echo "$os-$arch/helm"
            ;;
        ct)
            echo "$gh/helm/chart-testing/releases/download/$version/chart-testing_${number}_${os}_$arch.tar.gz"
            echo "$gh/helm/chart-testing/releases/download/$version/checksums.txt"
            echo ct
            ;;
        helm-unittest)
            [ "$os" = darwin ] && os=macos
            echo "$gh/helm-unittest/helm-unittest/releases/download/$version/helm-unittest-$os-$arch-$number.tgz"
            echo "$gh/helm-unittest/helm-unittest/releases/download/$version/helm-unittest-checksum.sha"
            echo untt
            ;;
        helm-docs)
            case $os in linux) os=Linux ;; darwin) os=Darwin ;; esac
            echo "$gh/norwoodj/helm-docs/releases/download/$version/helm-docs_${number}_${os}_$uname_arch.tar.gz"
            echo "$gh/norwoodj/helm-docs/releases/download/$version/checksums.txt"
            echo helm-docs
            ;;
        actionlint)
            echo "$gh/rhysd/actionlint/releases/download/$version/actionlint_${number}_${os}_$arch.tar.gz"
            echo "$gh/rhysd/actionlint/releases/download/$version/actionlint_${number}_checksums.txt"
            echo actionlint
            ;;
        kubeconform)
            echo "$gh/yannh/kubeconform/releases/download/$version/kubeconform-$os-$arch.tar.gz"
            echo "$gh/yannh/kubeconform/releases/download/$version/CHECKSUMS"
            echo kubeconform
            ;;
        kind)
            echo "$gh/kubernetes-sigs/kind/releases/download/$version/kind-$os-$arch"
            echo "$gh/kubernetes-sigs/kind/releases/download/$version/kind-$os-$arch.sha256sum"
            ;;
        promtool)
            echo "$gh/prometheus/prometheus/releases/download/v3.${number#0.}/prometheus-3.${number#0.}.$os-$arch.tar.gz"
            echo "$gh/prometheus/prometheus/releases/download/v3.${number#0.}/sha256sums.txt"
            echo "prometheus-3.${number#0.}.$os-$arch/promtool"
            ;;
        kubectl)
            echo "https://dl.k8s.io/release/$version/bin/$os/$arch/kubectl"
            echo "https://dl.k8s.io/release/$version/bin/$os/$arch/kubectl.sha256"
            ;;
    esac
}

download_release() { # TOOL VERSION OUT
    local os arch file url checksums program want
    os=$(uname -s | tr '[:upper:]' '[:lower:]')
    case $os-$(uname -m) in
        linux-x86_64 | darwin-x86_64) arch=amd64 ;;
        linux-aarch64 | darwin-arm64) arch=arm64 ;;
        *) die "no release of $1 for $(uname -sm): install Go (https://go.dev/dl) to build it" ;;
    esac
    { read -r url && read -r checksums && read -r program || true; } < <(release "$1" "$2" "$os" "$arch")
    mkdir -p "$work/download" "$work/release"
    file=$work/download/$(basename "$url")
    echo "ci/tools.sh: Go $(sed -n 's/^go //p' "ci/tools/$1/go.mod") is not installed: downloading $url" >&2
    if ! { download "$url" "$file" && download "$checksums" "$work/checksums"; }; then
        die "cannot download $1; install Go (https://go.dev/dl) to build it from source"
    fi
    # A line "HASH  NAME" for each file, sometimes with a folder before the name; for kubectl only the hash.
    want=$(awk -v name="$(basename "$url")" '{ sub(/^.*[\/*]/, "", $2) } $2 == name || NF == 1 { print $1; exit }' "$work/checksums")
    [ -n "$want" ] || die "$checksums does not list $(basename "$url")"
    [ "$(sha256 "$file")" = "$want" ] || die "$url does not have the SHA-256 that $checksums gives"
    if [ -n "$program" ]; then
        tar -xzf "$file" -C "$work/release"
        file=$work/release/$program
    fi
    chmod 0755 "$file"
    mv "$file" "$3"
}

go_tool() { # TOOL
    local version key made
    version=$(version_of "$1")
    key=$({ cat "ci/tools/$1"/*; uname -sm; ldflags "$1" "$version"; tags "$1"; } | sha256)
    made=$cache/$1-${version:-own}-${key:0:12}
    if [ ! -x "$made" ]; then
        if go_can_build "$1"; then
            build "$1" "$version" "$work/$1"
        elif [ -z "$version" ]; then
            die "$1 is built from source and needs Go (https://go.dev/dl)"
        else
            download_release "$1" "$version" "$work/$1"
        fi
        mv "$work/$1" "$made"
    fi
    link "$made" "bin/$1"
}

# ---- tools from PyPI, in virtual environments of .tools ------------------------------------------

python_tools() { # VENV LIST
    local key venv
    command -v python3 >/dev/null || die "needs python3 (Debian, Ubuntu: sudo apt-get install python3-venv)"
    key=$({ cat "$2"; python3 -c 'import sys; print(sys.executable, sys.version)'; } | sha256)
    venv=$cache/$1-${key:0:12}
    if [ ! -e "$venv/complete" ]; then
        # Built in its final folder, because a virtual environment cannot be moved. The file `complete` is made last.
        rm -rf "$venv"
        python3 -m venv "$venv" ||
            die "python3 cannot make a virtual environment (Debian, Ubuntu: sudo apt-get install python3-venv)"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
            --only-binary=:all: --requirement "$2"
        touch "$venv/complete"
    fi
    link "$venv" "$1"
}

python_tool() { # TOOL VENV LIST
    python_tools "$2" "$3"
    link "../$2/bin/$1" "bin/$1"
}

# ---- a tool from npm ----------------------------------------------------------------------------

npm_tool() { # TOOL
    local key made
    command -v npm >/dev/null || die "$1 needs Node.js 20 or later and npm (https://nodejs.org)"
    key=$(cat "ci/tools/$1"/* | sha256)
    made=$cache/$1-${key:0:12}
    if [ ! -d "$made" ]; then
        cp -R "ci/tools/$1" "$work/$1"
        npm ci --silent --ignore-scripts --prefix "$work/$1" >&2 || die "npm cannot install $1"
        mv "$work/$1" "$made"
    fi
    link "$made/node_modules/.bin/$1" "bin/$1"
}

# ---- a tool written in Rust ---------------------------------------------------------------------

cargo_tool() { # TOOL VERSION
    local made=$cache/$1-$2
    command -v cargo >/dev/null || die "$1 needs Rust (https://rustup.rs)"
    if [ ! -x "$made" ]; then
        echo "ci/tools.sh: building $1 $2 (takes minutes, once on this machine)" >&2
        cargo install --quiet --locked --root "$work/cargo" "$1@$2"
        mv "$work/cargo/bin/$1" "$made"
    fi
    link "$made" "bin/$1"
}

# ---- JSON schemas of Kubernetes and of the custom resources that the chart can create -----------

# fetch_source MODULE VERSION REPOSITORY FILE OUT: copies FILE from the Go module, or from GitHub without Go.
fetch_source() {
    local module_dir
    if command -v go >/dev/null; then
        module_dir=$(cd "$work" && GOFLAGS=-mod=mod go mod download -json "$1@$2" |
            sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
    fi
    if [ -n "${module_dir-}" ]; then
        install -m 0644 "$module_dir/$4" "$5"
    else
        download "https://raw.githubusercontent.com/$3/$2/$4" "$5"
    fi
}

schemas() {
    local key made hash module version repository file target
    python_tools python ci/tools/requirements.txt
    key=$(cat ci/tools/schemas.txt ci/tools/schemas.py | sha256)
    made=$cache/schemas-${key:0:12}
    if [ ! -d "$made" ]; then
        echo "ci/tools.sh: making the JSON schemas of ci/tools/schemas.txt" >&2
        while read -r hash module version repository file target; do
            case $hash in "" | "#"*) continue ;; esac
            fetch_source "$module" "$version" "$repository" "$file" "$work/source" ||
                die "cannot fetch $file of $module $version"
            [ "$(sha256 "$work/source")" = "$hash" ] || die "$module $version $file does not have the SHA-256 of ci/tools/schemas.txt"
            .tools/python/bin/python ci/tools/schemas.py "$work/source" "$work/schemas/$target"
        done <ci/tools/schemas.txt
        mv "$work/schemas" "$made"
    fi
    link "$made" schemas
}

# -------------------------------------------------------------------------------------------------

if [ $# = 0 ]; then
    set -- helm helm4 ct helm-unittest helm-docs kubeconform kind kubectl actionlint promtool pod-security schemas \
        yamllint yamale shellcheck openapi-python-client schemathesis redocly
fi
for tool; do
    case $tool in
        helm | helm4 | ct | helm-unittest | helm-docs | kubeconform | kind | kubectl | actionlint | promtool | pod-security) go_tool "$tool" ;;
        yamllint | yamale | shellcheck) python_tool "$tool" python ci/tools/requirements.txt ;;
        openapi-python-client | schemathesis) python_tool "$tool" contract ci/tools/contract.txt ;;
        tritonclient) python_tools protocols ci/tools/protocols.txt ;;
        redocly) npm_tool "$tool" ;;
        schemas) schemas ;;
        # The version in the action of .github/workflows/dependencies.yaml.
        cargo-deny) cargo_tool "$tool" 0.19.2 ;;
        selenium) python_tools browser ci/browser/requirements.txt ;;
        tflite) python_tools tflite weights/mobilenet/requirements.txt ;;
        *) die "unknown tool '$tool': the first lines of this file list the tools" ;;
    esac
done
