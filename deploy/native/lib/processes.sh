# shellcheck shell=bash
# Processes: started in a session of their own, known by id and start time, stopped by those.

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }
say() { printf '%s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

# An id may be given to another process later, hence the start time beside it. A process that has ended
# and only waits to be reaped has none.
start_time() { # PID
    local stat
    stat=$(cat "/proc/$1/stat" 2> /dev/null) || return 0
    stat=${stat##*) }
    [ "${stat%% *}" = Z ] || cut -d' ' -f20 <<< "$stat"
}

alive() { # NAME
    local pid at
    [ -s "$RUN/pid/$1" ] || return 1
    read -r pid at < "$RUN/pid/$1"
    [ -n "$at" ] && [ "$(start_time "$pid")" = "$at" ]
}

launch() { # NAME COMMAND...: in the background, output to its log
    local name=$1 pid
    shift
    setsid "$@" > "$RUN/log/$name.log" 2>&1 < /dev/null &
    pid=$!
    disown "$pid"
    echo "$pid $(start_time "$pid")" > "$RUN/pid/$name"
}

halt() { # NAME SIGNAL SECONDS
    local name=$1 signal=$2 seconds=$3 pid i
    if alive "$name"; then
        read -r pid _ < "$RUN/pid/$name"
        kill -"$signal" "$pid" 2> /dev/null || true
        for ((i = 0; i < seconds * 10; i++)); do
            alive "$name" || break
            sleep 0.1
        done
        if alive "$name"; then
            say "$name: still there after $seconds s, killed"
            kill -KILL "$pid" 2> /dev/null || true
        fi
    fi
    rm -f "$RUN/pid/$name"
}

show_log() { # NAME WHAT
    say "$1: $2; the end of $RUN/log/$1.log:"
    tail -n 25 "$RUN/log/$1.log" >&2 || true
}

wait_for() { # NAME SECONDS COMMAND...: until the command succeeds
    local name=$1 seconds=$2 until
    shift 2
    until=$((SECONDS + seconds))
    until "$@" > /dev/null 2>&1; do
        if ! alive "$name"; then
            show_log "$name" 'stopped while starting'
            return 1
        fi
        if [ "$SECONDS" -ge "$until" ]; then
            show_log "$name" "not ready after $seconds s"
            return 1
        fi
        sleep 0.1
    done
}

resident_mib() { # NAME: of the process and its children
    local pid p kb sum=0
    alive "$1" || {
        echo 0
        return
    }
    read -r pid _ < "$RUN/pid/$1"
    for p in "$pid" $(ps -o pid= --ppid "$pid"); do
        kb=$(awk '/^VmRSS/ { print $2 }' "/proc/$p/status" 2> /dev/null || true)
        sum=$((sum + ${kb:-0}))
    done
    echo $((sum / 1024))
}

# A foreign server on the port would pass the readiness check.
require_free() { # NAME PORT
    if (exec 3<> "/dev/tcp/127.0.0.1/$2") 2> /dev/null; then
        fail "$1: port $2 is taken by something else (DMS_STACK_PORT_OFFSET moves all ports)"
    fi
}
