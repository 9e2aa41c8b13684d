# shellcheck shell=bash
# PgBouncer 1.24, the package of Debian 13, unpacked beside the system with the libraries it needs: the
# one of Debian 12 is too old for prepared statements. deploy/pgbouncer has its settings.

PGBOUNCER_SUITE=trixie

port_pgbouncer=$((6432 + OFFSET))

fetch_pgbouncer() {
    debian postgresql-15 # psql asks whether it is ready
    local home=$CACHE/pgbouncer apt=$CACHE/apt mirror options new deb
    [ ! -x "$home/usr/sbin/pgbouncer" ] || return 0
    # The mirror that this machine's apt uses.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Component: main' \
        'Codename: bookworm' | sed -n 1p)
    [ -n "$mirror" ] || fail 'pgbouncer: apt has no source for bookworm/main'
    # An apt of its own: the system's lists and packages stay as they are.
    mkdir -p "$apt"/{lists/partial,cache/archives/partial,debs}
    : > "$apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $PGBOUNCER_SUITE main" \
        > "$apt/sources.list"
    options=(-q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferencesparts=/dev/null -o Dir::State::lists="$apt/lists"
        -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root
        -o Acquire::Languages=none)
    logged pgbouncer-lists apt-get "${options[@]}" update
    rm -f "$apt"/debs/*.deb
    (cd "$apt/debs" && logged pgbouncer-packages apt-get "${options[@]}" download pgbouncer libc6 \
        libevent-2.1-7t64 libcares2 libssl3t64 libpam0g libsystemd0 libaudit1 libcap-ng0 libcap2 \
        libzstd1 zlib1g)
    new=$(mktemp -d "$CACHE/pgbouncer.XXXXXX")
    chmod 755 "$new"
    for deb in "$apt"/debs/*.deb; do dpkg -x "$deb" "$new"; done
    appear "$new" "$home"
}

start_pgbouncer() {
    local conf=$RUN/conf/pgbouncer lib=$CACHE/pgbouncer/usr/lib/x86_64-linux-gnu
    own "$conf"
    printf '"docs" "%s"\n' "$DOCS_PASSWORD" > "$conf/userlist.txt"
    cat > "$conf/place.ini" << CONF
listen_addr = 127.0.0.1
listen_port = $port_pgbouncer

[databases]
* = host=127.0.0.1 port=$port_postgres
CONF
    cp "$DEPLOY/pgbouncer/pgbouncer.ini" "$conf/pgbouncer.ini"
    if [ "$(id -u)" = 0 ]; then
        chown "$PG_ACCOUNT:$PG_ACCOUNT" "$conf"/*
        set -- setpriv --reuid="$PG_ACCOUNT" --regid="$PG_ACCOUNT" --clear-groups
    else
        set --
    fi
    # Built for a newer libc: its own loader runs it with its own libraries.
    launch pgbouncer env -C "$conf" "$@" "$lib/ld-linux-x86-64.so.2" --library-path "$lib" \
        "$CACHE/pgbouncer/usr/sbin/pgbouncer" pgbouncer.ini
}

ready_pgbouncer() {
    wait_for pgbouncer 30 env PGPASSWORD="$DOCS_PASSWORD" "$PG_BIN/psql" -X -q -h 127.0.0.1 \
        -p "$port_pgbouncer" -U docs -d docs_db -c 'SELECT 1'
}

# TERM waits for clients to leave, up to this long.
stop_pgbouncer() { halt pgbouncer TERM 5; }
