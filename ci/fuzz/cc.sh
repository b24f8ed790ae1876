#!/usr/bin/env bash
# The C compiler of the fuzz targets. Only libjpeg and its shim get the sanitizer: cargo compiles the other C code for
# build scripts too, which are linked without it.
set -euo pipefail
case ${CARGO_PKG_NAME-} in
    mozjpeg-sys | ssd-detector) exec clang -fsanitize=address,fuzzer-no-link "$@" ;;
    *) exec cc "$@" ;;
esac
