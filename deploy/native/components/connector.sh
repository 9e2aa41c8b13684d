# shellcheck shell=bash
# The connector and its topics: no process, but what Connect is told. It streams once a service has
# made the tables and the publication `cdc`, and is waited for that long.

fetch_connector() { fetch_kafka_jars; }

start_connector() {
    local name partitions
    while read -r name partitions; do
        case $name in '' | '#'*) continue ;; esac
        logged topics kafka_program org.apache.kafka.tools.TopicCommand \
            --bootstrap-server "127.0.0.1:$port_kafka" --create --if-not-exists --topic "$name" \
            --partitions "$partitions"
    done < "$DEPLOY/kafka/topics.conf"
}

ready_connector() {
    "$DEPLOY/debezium/register.sh" "http://127.0.0.1:$port_connect" \
        "$DEPLOY/debezium/connector.json" "${DMS_STACK_CONNECTOR_S:-120}" > "$RUN/log/connector.log"
}

# It stays registered in Connect's topics, and streams again when Connect is started.
stop_connector() { :; }
