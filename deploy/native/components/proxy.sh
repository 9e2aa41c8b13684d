# shellcheck shell=bash
# Stands in for Kong: nginx, Debian's package, with settings made from deploy/kong/kong.yml.

port_proxy=$((8000 + OFFSET))

fetch_proxy() { debian nginx python3 python3-yaml; }

start_proxy() {
    local home=$RUN/conf/proxy
    mkdir -p "$home"
    /usr/bin/python3 "$NATIVE/gateway.py" --listen "127.0.0.1:$port_proxy" --port-offset "$OFFSET" \
        --home "$home" "$DEPLOY/kong/kong.yml" > "$home/nginx.conf"
    logged proxy-test nginx -t -q -c "$home/nginx.conf" -e stderr
    launch proxy nginx -c "$home/nginx.conf" -e stderr -g 'daemon off;'
}

ready_proxy() { wait_for proxy 10 bash -c "exec 3<> /dev/tcp/127.0.0.1/$port_proxy"; }

# Lets requests in flight finish.
stop_proxy() { halt proxy QUIT 10; }
