#!/bin/sh
# Makes the bucket, with versioning. Run again, it changes nothing.
#
# Usage: bucket.sh ENDPOINT BUCKET; MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, or those names with _FILE.
set -eu

endpoint=$1 bucket=$2
user=${MINIO_ROOT_USER:-} password=${MINIO_ROOT_PASSWORD:-}
[ -n "$user" ] || user=$(cat "${MINIO_ROOT_USER_FILE:?}")
[ -n "$password" ] || password=$(cat "${MINIO_ROOT_PASSWORD_FILE:?}")

# The credentials go through standard input: arguments are visible to other users of the machine.
# A server that has just come up may answer 503 for a moment although it says that it is ready.
# curl 7.88 signs a body only if this header says that it isn't hashed, and a query only as `name=`.
s3() { # PATH [curl options...]
    path=$1
    shift
    printf 'user = "%s:%s"\n' "$user" "$password" | curl -sS -f -o /dev/null -m 30 -K - \
        --retry 30 --retry-delay 1 --retry-max-time 60 --retry-connrefused \
        --aws-sigv4 aws:amz:us-east-1:s3 -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@" \
        "$endpoint/$path"
}

s3 "$bucket" --head 2> /dev/null || s3 "$bucket" -X PUT
s3 "$bucket?versioning=" -X PUT -H 'Content-Type: application/xml' --data-binary \
    '<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>'
