# shellcheck shell=bash
# soon SECONDS COMMAND...: tries again until it works or the time is over. (As in any condition, bash then
# goes on inside COMMAND when a line of it fails: such functions join their lines by &&.) To be sourced.
soon() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 1
    done
}
