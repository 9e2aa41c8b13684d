# shellcheck shell=bash
# Java programs, and Kafka's jars, which Kafka and Connect share.

KAFKA_VERSION=4.1.2
KAFKA_HOME=$CACHE/kafka-$KAFKA_VERSION

JAVA_OPTIONS=(-XX:+UseSerialGC -XX:-UsePerfData -Djava.awt.headless=true -Duser.timezone=UTC)

fetch_kafka_jars() {
    [ ! -d "$KAFKA_HOME" ] || return 0
    rm -rf "$KAFKA_HOME.new"
    jars "$NATIVE/java/kafka-pom.xml" "$KAFKA_HOME.new/lib" -Dkafka.version="$KAFKA_VERSION"
    appear "$KAFKA_HOME.new" "$KAFKA_HOME"
}

kafka_program() { # CLASS ARGUMENTS...: a command-line program of Kafka
    java "${JAVA_OPTIONS[@]}" -Xmx128m -XX:TieredStopAtLevel=1 \
        -Dlog4j2.configurationFile="$NATIVE/java/log4j2-tools.properties" \
        -cp "$KAFKA_HOME/lib/*" "$@"
}
