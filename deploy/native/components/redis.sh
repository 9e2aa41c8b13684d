# shellcheck shell=bash
# Redis 7, Debian's package. deploy/redis has its settings.

port_redis=$((6379 + OFFSET))

fetch_redis() { debian redis-server; }

start_redis() {
    mkdir -p "$RUN/data/redis"
    launch redis redis-server "$DEPLOY/redis/redis.conf" --bind 127.0.0.1 --port "$port_redis" \
        --dir "$RUN/data/redis" --daemonize no
}

redis_answers() { redis-cli -h 127.0.0.1 -p "$port_redis" ping | grep -qx PONG; }

ready_redis() { wait_for redis 30 redis_answers; }

stop_redis() { halt redis TERM 30; }
