# shellcheck shell=bash
# MinIO, built from its Go module, as its makers publish it.

MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c

port_minio=$((9000 + OFFSET))

fetch_minio() {
    local home=$CACHE/minio
    [ ! -x "$home/minio" ] || return 0
    need go 'install Go 1.24 or newer, https://go.dev/dl/'
    need curl 'install curl'
    # Caches of its own, so that they can be thrown away: two gigabytes for one program.
    logged minio-build env GOPATH="$CACHE/go" GOCACHE="$CACHE/gocache" GOBIN="$home.new" \
        GOFLAGS=-modcacherw CGO_ENABLED=0 \
        go install -trimpath -ldflags '-s -w' "github.com/minio/minio@$MINIO_VERSION"
    appear "$home.new" "$home"
    [ -n "${DMS_STACK_KEEP_GO:-}" ] || rm -rf "$CACHE/go" "$CACHE/gocache"
}

start_minio() {
    mkdir -p "$RUN/data/minio"
    launch minio env MINIO_ROOT_USER="$S3_USER" MINIO_ROOT_PASSWORD="$S3_PASSWORD" \
        MINIO_BROWSER=off MINIO_UPDATE=off \
        "$CACHE/minio/minio" server --quiet --address "127.0.0.1:$port_minio" "$RUN/data/minio"
}

ready_minio() {
    wait_for minio 60 curl -sf -m 5 "http://127.0.0.1:$port_minio/minio/health/ready"
    MINIO_ROOT_USER=$S3_USER MINIO_ROOT_PASSWORD=$S3_PASSWORD \
        "$DEPLOY/minio/bucket.sh" "http://127.0.0.1:$port_minio" documents
}

stop_minio() { halt minio TERM 30; }
