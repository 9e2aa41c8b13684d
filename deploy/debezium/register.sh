#!/bin/sh
# Registers the connector and waits until it streams. Run again, it changes nothing. The compose file
# runs it in a container of its own, the native stack as it is.
#
# Usage: register.sh CONNECT_URL CONNECTOR_JSON [SECONDS]
set -eu

url=$1 json=$2 seconds=${3:-300}
name=cdc
deadline=$(($(date +%s) + seconds))
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

call() { # METHOD PATH [curl options...]: prints the status, the body goes to $answer
    method=$1 path=$2
    shift 2
    curl -s -m 30 -o "$answer" -w '%{http_code}' -X "$method" "$@" "$url$path" || true
}

give_up() {
    echo "connector: $1; Connect said:" >&2
    cat "$answer" >&2
    echo >&2
    exit 1
}

in_time() { [ "$(date +%s)" -lt "$deadline" ]; }

# 409 while the worker's group is being formed, 500 while Kafka isn't there.
until status=$(call PUT "/connectors/$name/config" -H 'Content-Type: application/json' \
    --data-binary "@$json") && { [ "$status" = 200 ] || [ "$status" = 201 ]; }; do
    [ "$status" != 400 ] || give_up refused
    in_time || give_up "not accepted within $seconds s"
    sleep 1
done

# The connector says RUNNING also while its task has failed: it does until a service has made the
# tables and the publication. A failed task stays so until it is restarted.
running=0
while [ "$running" -lt 3 ]; do
    in_time || give_up "not streaming within $seconds s"
    sleep 1
    call GET "/connectors/$name/status" > /dev/null
    task=$(sed -n 's/.*"tasks":\[{[^}]*"state":"\([A-Z_]*\)".*/\1/p' "$answer")
    case $task in
        # It says so before it has looked at the database; a moment later it is true.
        RUNNING) running=$((running + 1)) ;;
        FAILED)
            running=0
            call POST "/connectors/$name/restart?includeTasks=true&onlyFailed=true" > /dev/null
            ;;
        *) running=0 ;;
    esac
done
echo "connector: $name is running"
