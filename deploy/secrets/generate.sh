#!/bin/sh
# Makes every secret of the compose file, once: what is there already stays. One folder for each
# audience, so that a container sees no more than it needs.
#
# Usage: generate.sh FOLDER, which has database/, storage/, cache/ and services/
set -eu
umask 022

cd "$1"

# Written beside its name first: a file is whole or not there.
put() { # FILE, content from standard input
    [ -s "$1" ] && return
    cat > "$1.new"
    mv "$1.new" "$1"
}

# 32 bytes of the system's randomness, as 64 hexadecimal digits: fits URLs, files and HTTP headers.
random() { head -c 32 /dev/urandom | sha256sum | cut -c-64 | tr -d '\n'; }

random | put database/superuser-password
random | put database/docs-password
docs=$(cat database/docs-password)
printf '"docs" "%s"\n' "$docs" | put database/userlist.txt

printf dms | put storage/user
random | put storage/password

random | put cache/password

printf 'postgres://docs:%s@pgbouncer:6432/docs_db' "$docs" | put services/database-url
printf 'postgres://docs:%s@postgres:5432/docs_db' "$docs" | put services/database-direct-url
printf 'redis://:%s@redis:6379/0' "$(cat cache/password)" | put services/cache-url
put services/s3-access-key < storage/user
put services/s3-secret-key < storage/password
random | put services/jwt-secret
random | put services/service-token
