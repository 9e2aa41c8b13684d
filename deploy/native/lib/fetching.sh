# shellcheck shell=bash
# What several components need in order to fetch: Debian packages, jars, folders that appear whole.

need() { # COMMAND WHAT
    command -v "$1" > /dev/null || fail "$1 is missing: $2"
}

debian() { # PACKAGE...: installs those that are missing
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'ok installed' ||
            missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || fail "run as root once, or install: ${missing[*]}"
    # PostgreSQL's package would make a cluster of its own on port 5432.
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
    fi
    # Run level 1: packages don't start their services.
    local install=(env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q
        --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold)
    logged apt "${install[@]}" "${missing[@]}" 2> /dev/null && return
    logged apt apt-get update -q -o DPkg::Lock::Timeout=300
    logged apt "${install[@]}" "${missing[@]}"
}

logged() { # LOG COMMAND...: output to a log, whose end is shown if the command fails
    local log=$1
    shift
    "$@" > "$RUN/log/$log.log" 2>&1 || {
        show_log "$log" "failed ($1)"
        return 1
    }
}

jars() { # POM FOLDER [-Dproperty...]: a POM's dependencies
    local pom=$1 folder=$2
    shift 2
    need java 'install a JDK of version 17 (openjdk-17-jdk-headless)'
    need mvn 'install Maven (maven)'
    # Not the folder the POM lies in: Maven would look for settings there.
    (cd "$CACHE" && logged maven mvn -B -q -ntp -Dmaven.repo.local="$CACHE/m2" -f "$pom" \
        dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$folder" "$@")
}

appear() { # STAGING FINAL: a folder is there whole or not at all
    rm -rf "$2"
    mv "$1" "$2"
}
