# shellcheck shell=bash
# Kafka in KRaft mode, from Maven Central. deploy/kafka has its settings.

port_kafka=$((9092 + OFFSET))
port_kafka_controller=$((9093 + OFFSET))

fetch_kafka() { fetch_kafka_jars; }

start_kafka() {
    require_free 'kafka (controller)' "$port_kafka_controller"
    local settings=$DEPLOY/kafka/server.properties
    export BROKER_DATA=$RUN/data/kafka
    export BROKER_CONTROLLER=127.0.0.1:$port_kafka_controller
    export BROKER_LISTENERS=INTERNAL://127.0.0.1:$port_kafka,CONTROLLER://$BROKER_CONTROLLER
    export BROKER_ADVERTISED=INTERNAL://127.0.0.1:$port_kafka
    if [ ! -e "$BROKER_DATA/meta.properties" ]; then
        logged kafka-format kafka_program kafka.tools.StorageTool format --config "$settings" \
            --cluster-id 4L6g3nShT-eMCtK--X86sw
    fi
    launch kafka java "${JAVA_OPTIONS[@]}" -Xms512m -Xmx512m -XX:+ExitOnOutOfMemoryError \
        -Dlog4j2.configurationFile="$NATIVE/java/log4j2-kafka.properties" \
        -cp "$KAFKA_HOME/lib/*" kafka.Kafka "$settings"
}

ready_kafka() { wait_for kafka 180 grep -q 'Kafka Server started' "$RUN/log/kafka.log"; }

stop_kafka() { halt kafka TERM 30; }
