# shellcheck shell=bash
# Kafka Connect with Debezium's connector for PostgreSQL, from Maven Central. deploy/debezium has its
# settings.

DEBEZIUM_VERSION=3.4.3.Final

port_connect=$((8083 + OFFSET))

fetch_connect() {
    fetch_kafka_jars
    local home=$CACHE/debezium-$DEBEZIUM_VERSION
    [ ! -d "$home" ] || return 0
    rm -rf "$home.new"
    jars "$DEPLOY/debezium/pom.xml" "$home.new/debezium-postgres" \
        -Ddebezium.version="$DEBEZIUM_VERSION"
    appear "$home.new" "$home"
}

start_connect() {
    # What connectors may name; the password is in no topic.
    export DOCS_HOST=127.0.0.1 DOCS_PORT=$port_postgres DOCS_PASSWORD
    export WORKER_BOOTSTRAP=127.0.0.1:$port_kafka
    export WORKER_LISTENERS=http://127.0.0.1:$port_connect
    export WORKER_HOST=127.0.0.1
    cp "$DEPLOY/debezium/connect.properties" "$RUN/conf/connect.properties"
    echo "plugin.path=$CACHE/debezium-$DEBEZIUM_VERSION" >> "$RUN/conf/connect.properties"
    launch connect java "${JAVA_OPTIONS[@]}" -Xms256m -Xmx512m -XX:+ExitOnOutOfMemoryError \
        -Dlog4j2.configurationFile="$NATIVE/java/log4j2-kafka.properties" \
        -cp "$KAFKA_HOME/lib/*" org.apache.kafka.connect.cli.ConnectDistributed \
        "$RUN/conf/connect.properties"
}

# The port answers before the worker has joined its group; a listing of connectors comes after.
ready_connect() { wait_for connect 180 curl -sf -m 5 "http://127.0.0.1:$port_connect/connectors"; }

stop_connect() { halt connect TERM 30; }
