# shellcheck shell=bash
# PostgreSQL 15, Debian's package. deploy/postgres has its settings.

PG_BIN=/usr/lib/postgresql/15/bin
# The account that PostgreSQL and PgBouncer run as: both refuse root.
PG_ACCOUNT=postgres

port_postgres=$((5432 + OFFSET))

as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid="$PG_ACCOUNT" --regid="$PG_ACCOUNT" --clear-groups \
            env HOME=/tmp LC_ALL=C.UTF-8 "$@"
    else
        env LC_ALL=C.UTF-8 "$@"
    fi
}

own() { # FOLDER: empty, and of the account
    mkdir -p "$1"
    chmod 700 "$1"
    [ "$(id -u)" != 0 ] || chown "$PG_ACCOUNT:$PG_ACCOUNT" "$1"
}

fetch_postgres() { debian postgresql-15; }

start_postgres() {
    local data=$RUN/data/postgres conf=$RUN/conf/postgres
    if [ ! -e "$data/PG_VERSION" ]; then
        rm -rf "$data"
        own "$data"
        logged initdb as_postgres "$PG_BIN/initdb" -D "$data" -U postgres -E UTF8 \
            --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256
    fi
    # A copy: the account may not be allowed to read the repository.
    own "$conf"
    install -m 644 "$DEPLOY/postgres/postgresql.conf" "$conf/postgresql.conf"
    if [ "$(id -u)" = 0 ]; then
        set -- setpriv --reuid="$PG_ACCOUNT" --regid="$PG_ACCOUNT" --clear-groups env HOME=/tmp
    else
        set -- env
    fi
    launch postgres "$@" LC_ALL=C.UTF-8 "$PG_BIN/postgres" -D "$data" \
        -c config_file="$conf/postgresql.conf" -c listen_addresses=127.0.0.1 \
        -c port="$port_postgres" -c unix_socket_directories="$data"
}

ready_postgres() {
    wait_for postgres 60 "$PG_BIN/pg_isready" -q -h 127.0.0.1 -p "$port_postgres" -d postgres
    # Tests make databases of their own.
    as_postgres env PATH="$PG_BIN:$PATH" PGHOST="$RUN/data/postgres" PGPORT="$port_postgres" \
        DOCS_PASSWORD="$DOCS_PASSWORD" DOCS_ROLE_OPTIONS=CREATEDB sh < "$DEPLOY/postgres/init.sh"
}

# A fast shutdown: TERM would wait until every client has left.
stop_postgres() { halt postgres INT 30; }
