//! Settings of the engines: one file each, the same for the compose file and for the native stack, and
//! they hold what the services rely on.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use support::{object, properties, root, text, texts, yaml};

/// Files that both ways of running the engines use, and who uses them natively.
const SHARED: [(&str, &str); 12] = [
    ("debezium/connect.properties", "connect"),
    ("debezium/connector.json", "connector"),
    ("debezium/register.sh", "connector"),
    ("elasticsearch/elasticsearch.yml", "elasticsearch"),
    ("kafka/server.properties", "kafka"),
    ("kafka/topics.conf", "connector"),
    ("kong/kong.yml", "proxy"),
    ("minio/bucket.sh", "minio"),
    ("pgbouncer/pgbouncer.ini", "pgbouncer"),
    ("postgres/init.sh", "postgres"),
    ("postgres/postgresql.conf", "postgres"),
    ("redis/redis.conf", "redis"),
];

fn component(name: &str) -> String {
    text(&format!("deploy/native/components/{name}.sh"))
}

fn settings(path: &str) -> BTreeMap<String, String> {
    properties(path).into_iter().collect()
}

fn connector() -> Value {
    serde_json::from_str(&text("deploy/debezium/connector.json")).expect("JSON")
}

#[test]
fn each_file_of_settings_is_used_natively_and_by_the_compose_file() {
    let compose = object(&yaml("docker-compose.yml")["services"]);
    let mounted: BTreeSet<String> = compose
        .values()
        .flat_map(|service| texts(&service["volumes"]))
        .filter_map(|mount| Some(mount.strip_prefix("./deploy/")?.split(':').next()?.to_owned()))
        .collect();
    for (file, user) in SHARED {
        assert!(mounted.contains(file), "the compose file doesn't mount {file}");
        assert!(component(user).contains(&format!("$DEPLOY/{file}")), "{user} doesn't use {file}");
    }
    let only_there = BTreeSet::from(["pgbouncer/compose.ini", "secrets/generate.sh"]);
    let shared = SHARED.map(|(file, _)| file);
    for file in mounted {
        let known = shared.contains(&file.as_str()) || only_there.contains(file.as_str());
        assert!(known, "{file} is mounted, and not known to the native stack");
    }
}

#[test]
fn postgres_has_a_change_stream_and_room_for_connections() {
    let file = settings("deploy/postgres/postgresql.conf");
    assert_eq!(file["wal_level"], "logical");
    assert_eq!(file["max_connections"], "200");
    assert_eq!(file["password_encryption"], "scram-sha-256");
    // A forgotten slot must not fill the disk.
    assert!(file.contains_key("max_slot_wal_keep_size"));
}

#[test]
fn pgbouncer_shares_few_connections_and_keeps_prepared_statements() {
    let file = settings("deploy/pgbouncer/pgbouncer.ini");
    for (setting, value) in [
        ("pool_mode", "transaction"),
        ("auth_type", "scram-sha-256"),
        ("max_client_conn", "1000"),
        ("default_pool_size", "50"),
        ("reserve_pool_size", "10"),
        // Without it, answers of other clients' statements.
        ("max_prepared_statements", "200"),
    ] {
        assert_eq!(file[setting], value, "{setting}");
    }
}

#[test]
fn redis_keeps_counters_and_forgets_what_has_a_time_to_live() {
    let file = text("deploy/redis/redis.conf");
    for line in ["appendonly yes", "maxmemory-policy volatile-lru"] {
        assert!(file.lines().any(|one| one == line), "{line}");
    }
}

#[test]
fn the_connector_streams_what_the_services_publish_to_topics_that_are_made_before() {
    let connector = connector();
    let value = |key: &str| connector[key].as_str().unwrap_or_else(|| panic!("no {key}"));
    // The publication is the services' own; the connector's would want a superuser or come too early.
    assert_eq!(value("publication.autocreate.mode"), "disabled");
    assert_eq!(value("publication.name"), "cdc");
    assert_eq!(value("slot.name"), "cdc");
    assert_eq!(value("table.include.list"), "public.documents,public.signatures");

    // What the router makes of the names that Debezium gives, PREFIX.SCHEMA.TABLE.
    let pattern = regex::Regex::new(&format!("^(?:{})$", value("transforms.table.regex")));
    let pattern = pattern.expect("a pattern");
    let replacement = value("transforms.table.replacement").replace("$1", "${1}");
    let routed: BTreeSet<String> = value("table.include.list")
        .split(',')
        .map(|table| format!("{}.{table}", value("topic.prefix")))
        .map(|name| pattern.replace(&name, replacement.as_str()).into_owned())
        .collect();
    assert_eq!(routed, BTreeSet::from(["cdc.documents", "cdc.signatures"].map(str::to_owned)));

    let topics = text("deploy/kafka/topics.conf");
    let made: BTreeMap<&str, &str> = topics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(' ').expect("a name and a number"))
        .collect();
    assert_eq!(made.keys().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), routed);
    for partitions in made.values() {
        assert_eq!(*partitions, value("topic.creation.default.partitions"));
    }
    let broker = settings("deploy/kafka/server.properties");
    assert_eq!(broker["auto.create.topics.enable"], "false");
}

#[test]
fn what_differs_from_place_to_place_is_given_in_each_place() {
    let compose = object(&yaml("docker-compose.yml")["services"]);
    let given = |service: &str, variable: &str| {
        let here = object(&compose[service]["environment"]).contains_key(variable);
        here || texts(&compose[service]["command"]).concat().contains(&format!("export {variable}"))
    };
    let named = regex::Regex::new(r"\$\{(?:env:)?([A-Z_]+)\}").expect("a pattern");
    let mut seen = 0;
    for (file, service) in [
        ("debezium/connect.properties", "connect"),
        ("debezium/connector.json", "connect"),
        ("elasticsearch/elasticsearch.yml", "elasticsearch"),
        ("kafka/server.properties", "kafka"),
    ] {
        let content = text(&format!("deploy/{file}"));
        let lines = content.lines().filter(|line| !line.starts_with('#'));
        for found in lines.flat_map(|line| named.captures_iter(line)) {
            let variable = &found[1];
            assert!(given(service, variable), "{service}: {variable} of {file}");
            let native = component(service);
            let native =
                native.contains(&format!("{variable}=")) || native.contains(" DOCS_PASSWORD\n");
            assert!(native, "native {service}: {variable} of {file}");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} variables");
}

#[test]
fn versions_are_the_same_in_both_places() {
    let constant = |file: &str, name: &str| {
        let content = text(file);
        let line = content.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{file} has no {name}")).to_owned()
    };
    let compose = object(&yaml("docker-compose.yml")["services"]);
    let tag = |service: &str| {
        let image = compose[service]["image"].as_str().expect("an image");
        image.rsplit_once(':').expect("a tag").1.to_owned()
    };
    let images = text("deploy/images/Dockerfile");

    let kafka = constant("deploy/native/lib/java.sh", "KAFKA_VERSION");
    assert_eq!(tag("kafka"), kafka);
    assert_eq!(tag("topics"), kafka);
    assert!(images.contains(&format!("FROM apache/kafka:{kafka} AS connect")));

    let debezium = constant("deploy/native/components/connect.sh", "DEBEZIUM_VERSION");
    assert_eq!(tag("connect"), debezium.trim_end_matches(".Final"));
    let pom = text("deploy/debezium/pom.xml");
    assert!(pom.contains(&format!("<debezium.version>{debezium}<")), "{debezium}");

    let search = "deploy/native/components/elasticsearch.sh";
    assert_eq!(tag("elasticsearch"), constant(search, "ELASTICSEARCH_VERSION"));

    let minio = constant("deploy/native/components/minio.sh", "MINIO_VERSION");
    assert!(images.contains(&format!("ARG MINIO_VERSION={minio}\n")), "{minio}");
    assert!(minio.contains(&tag("minio")), "{minio}");

    assert!(component("postgres").contains("debian postgresql-15"));
    assert!(tag("postgres").starts_with("15."));
    assert!(images.contains(&format!("pgbouncer={}-*", tag("pgbouncer"))));
    assert_eq!(constant("deploy/native/components/pgbouncer.sh", "PGBOUNCER_SUITE"), "trixie");
    assert!(images.contains("FROM debian:13.") && tag("redis").starts_with("7."));
}

#[test]
fn scripts_stop_at_the_first_error() {
    let mut waiting = vec![root().join("deploy")];
    let mut seen = 0;
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a readable folder");
            waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let Ok(script) = std::fs::read_to_string(&path) else { continue };
        let expected = match script.lines().next() {
            Some("#!/usr/bin/env bash") => "\nset -euo pipefail\n",
            Some("#!/bin/sh") => "\nset -eu\n",
            _ => continue,
        };
        assert!(script.contains(expected), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 5, "{seen} scripts");
}
