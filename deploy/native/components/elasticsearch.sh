# shellcheck shell=bash
# Elasticsearch 8, from Maven Central. What its archive has beyond that is stood in for by two small
# classes in java/. deploy/elasticsearch has its settings.

ELASTICSEARCH_VERSION=8.19.21
ELASTICSEARCH_JARS=$CACHE/elasticsearch-$ELASTICSEARCH_VERSION
# Our classes belong to their source: a change of it makes another folder.
ELASTICSEARCH_HOME=$ELASTICSEARCH_JARS-home-$(cat "$NATIVE"/java/*.java | sha256sum | cut -c-12)

port_elasticsearch=$((9200 + OFFSET))
port_elasticsearch_transport=$((9300 + OFFSET))

fetch_elasticsearch() {
    fetch_elasticsearch_jars
    build_elasticsearch_home
}

fetch_elasticsearch_jars() {
    local new=$ELASTICSEARCH_JARS.new module
    [ ! -d "$ELASTICSEARCH_JARS" ] || return 0
    debian unzip
    rm -rf "$new"
    jars "$NATIVE/java/elasticsearch-pom.xml" "$new/lib" -Des.version="$ELASTICSEARCH_VERSION"
    module=$new/modules/transport-netty4
    mkdir -p "$module"
    mv "$new"/lib/netty-*.jar "$new"/lib/transport-netty4-*.jar "$module"
    unzip -q -j "$module"/transport-netty4-*.jar 'META-INF/es-plugins/transport-netty4/*' -d "$module"
    # The server runs from the class path here, so its module is loaded the plain way too.
    sed -i '/^modulename=/d' "$module/plugin-descriptor.properties"
    appear "$new" "$ELASTICSEARCH_JARS"
}

build_elasticsearch_home() {
    local new=$ELASTICSEARCH_HOME.new
    [ ! -d "$ELASTICSEARCH_HOME" ] || return 0
    rm -rf "$new"
    mkdir -p "$new"/{launcher,plugins,modules/stack,classes}
    cp -r "$ELASTICSEARCH_JARS/modules/transport-netty4" "$new/modules/"
    javac -cp "$ELASTICSEARCH_JARS/lib/*" -d "$new/launcher" "$NATIVE/java/EsNode.java"
    javac -cp "$ELASTICSEARCH_JARS/lib/*" -d "$new/classes" "$NATIVE/java/StackPlugin.java"
    jar --create --file "$new/modules/stack/stack.jar" -C "$new/classes" .
    rm -r "$new/classes"
    printf '%s\n' name=stack 'description=GET / and some analysis' version=1 java.version=17 \
        "elasticsearch.version=$ELASTICSEARCH_VERSION" classname=StackPlugin \
        > "$new/modules/stack/plugin-descriptor.properties"
    appear "$new" "$ELASTICSEARCH_HOME"
}

start_elasticsearch() {
    require_free 'elasticsearch (transport)' "$port_elasticsearch_transport"
    local conf=$RUN/conf/elasticsearch
    mkdir -p "$conf" "$RUN/data/elasticsearch"
    cp "$NATIVE/java/log4j2-elasticsearch.properties" "$conf/log4j2.properties"
    cp "$DEPLOY/elasticsearch/elasticsearch.yml" "$conf/elasticsearch.yml"
    # The disk of a machine that tests may be nearly full for reasons of its own.
    echo 'cluster.routing.allocation.disk.threshold_enabled: false' >> "$conf/elasticsearch.yml"
    # Without the threshold, each look at the disk lifts read-only blocks, also those that a test has set.
    echo 'cluster.info.update.interval: 1d' >> "$conf/elasticsearch.yml"
    launch elasticsearch env ES_DATA="$RUN/data/elasticsearch" ES_LOGS="$RUN/log" \
        ES_HOST=127.0.0.1 ES_HTTP_PORT="$port_elasticsearch" \
        ES_TRANSPORT_PORT="$port_elasticsearch_transport" \
        java -Xms1g -Xmx1g -XX:+UseG1GC -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError \
        -Djava.awt.headless=true -Dfile.encoding=UTF-8 -Dlog4j2.formatMsgNoLookups=true \
        -Dlog4j.shutdownHookEnabled=false -Des.path.home="$ELASTICSEARCH_HOME" \
        -Des.path.conf="$conf" -Des.distribution.type=tar \
        -cp "$ELASTICSEARCH_HOME/launcher:$ELASTICSEARCH_JARS/lib/*" EsNode
}

ready_elasticsearch() {
    wait_for elasticsearch 180 curl -sf -m 5 \
        "http://127.0.0.1:$port_elasticsearch/_cluster/health?wait_for_status=yellow&timeout=1s"
}

stop_elasticsearch() { halt elasticsearch TERM 30; }
