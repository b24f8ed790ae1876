# shellcheck shell=bash
# To be sourced.
# soon SECONDS COMMAND...: repeats COMMAND until it succeeds or the time is over. COMMAND runs as a condition, in which
# bash continues after a failed line: a function must join its lines with &&.
soon() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 1
    done
}
