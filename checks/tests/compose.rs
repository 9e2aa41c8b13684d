//! The compose file: pinned, bounded, reachable from this machine only, started in order, without a
//! secret in it.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Map, Value};
use support::{object, root, text, texts, yaml};

/// The programs, with the ports of the contract: HTTP, and gRPC where it is served.
const PROGRAMS: [(&str, u16, Option<u16>); 6] = [
    ("dms", 8000, Some(50051)),
    ("document-service", 8005, Some(50051)),
    ("signature-service", 8002, None),
    ("search-service", 8003, None),
    ("websocket-service", 8004, None),
    ("event-processor", 8006, None),
];

/// Run once and end.
const ONE_SHOTS: [&str; 4] = ["secrets", "bucket", "topics", "connector"];

fn services() -> Map<String, Value> {
    object(&yaml("docker-compose.yml")["services"])
}

fn environment(service: &Value) -> BTreeMap<String, String> {
    object(&service["environment"])
        .into_iter()
        .map(|(name, value)| (name, texts(&value).concat()))
        .collect()
}

/// Source and target of each volume and mounted file.
fn mounts(service: &Value) -> Vec<(String, String)> {
    texts(&service["volumes"])
        .iter()
        .map(|mount| {
            let mut parts = mount.split(':');
            let mut part = || parts.next().unwrap_or_else(|| panic!("{mount}")).to_owned();
            (part(), part())
        })
        .collect()
}

#[test]
fn images_are_pinned_and_ours_are_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
        let (repository, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{name}: {image}"));
        assert!(tag.contains(|c: char| c.is_ascii_digit()), "{name}: {image}");
        if repository == "dms" {
            assert_eq!(tag, version, "{name}");
        } else if service["build"].is_null() {
            assert!(tag.contains('.'), "{name}: {image} isn't a whole version");
        }
    }
}

#[test]
fn base_images_are_pinned() {
    for file in ["Dockerfile", "deploy/images/Dockerfile"] {
        let mut stages = BTreeSet::from(["scratch".to_owned()]);
        let mut seen = 0;
        for line in text(file).lines().filter(|line| line.starts_with("FROM ")) {
            let words: Vec<_> = line.split_whitespace().collect();
            let tagged = words[1].rsplit_once(':').is_some_and(|(_, tag)| {
                tag.starts_with(|c: char| c.is_ascii_digit()) && tag.contains('.')
            });
            assert!(stages.contains(words[1]) || tagged, "{file}: {line}");
            stages.extend(words.get(3).map(|stage| (*stage).to_owned()));
            seen += 1;
        }
        assert!(seen > 3, "{file} has {seen} stages");
    }
}

#[test]
fn ports_are_published_on_loopback_only_and_once_for_each_profile() {
    for profile in ["full", "middle"] {
        let mut published = BTreeSet::new();
        for (name, service) in services() {
            let profiles = texts(&service["profiles"]);
            if !profiles.is_empty() && !profiles.iter().any(|one| one == profile) {
                continue;
            }
            assert!(service["network_mode"].is_null() || name == "secrets", "{name}");
            for port in texts(&service["ports"]) {
                let host = port.strip_prefix("127.0.0.1:");
                let host = host.unwrap_or_else(|| panic!("{name} publishes {port}"));
                let host = host.split(':').next().expect("a port").to_owned();
                assert!(published.insert(host), "{name} publishes {port} once more");
            }
        }
    }
}

#[test]
fn no_secret_stands_in_the_file() {
    let file = text("docker-compose.yml");
    for (name, service) in services() {
        for (variable, value) in environment(&service) {
            let secret = ["PASSWORD", "SECRET", "TOKEN", "ACCESS_KEY", "ROOT_USER"]
                .iter()
                .any(|word| variable.contains(word));
            if secret {
                assert!(variable.ends_with("_FILE"), "{name}: {variable}");
                assert!(value.starts_with("/run/dms/"), "{name}: {variable}={value}");
            }
        }
    }
    let credentials = regex::Regex::new("://[^/ ]*:[^/ ]*@").expect("a pattern");
    assert!(!credentials.is_match(&file), "a URL has credentials");
}

#[test]
fn each_secret_that_is_read_is_made_at_the_first_start_and_never_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let generate = || {
        let script = root().join("deploy/secrets/generate.sh");
        let ended = Command::new("sh").arg(script).arg(folder.path()).status().expect("a shell");
        assert!(ended.success());
    };
    for audience in ["database", "storage", "cache", "services"] {
        std::fs::create_dir(folder.path().join(audience)).expect("a folder");
    }
    generate();
    let named = regex::Regex::new(r"/run/dms/([a-z]+)/([a-z0-9.-]+)").expect("a pattern");
    let mut read = BTreeMap::new();
    let files = text("docker-compose.yml") + &text("deploy/pgbouncer/compose.ini");
    for path in named.captures_iter(&files) {
        let file = folder.path().join(&path[1]).join(&path[2]);
        let content = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", &path[0]));
        assert!(!content.is_empty() && content.trim_end_matches('\n').lines().count() == 1);
        read.insert(file, content);
    }
    assert!(read.len() >= 10, "only {read:?}");
    let secret = |name: &str| read[&folder.path().join(name)].clone();
    assert!(secret("services/jwt-secret").len() >= dms_runtime::settings::JWT_SECRET_BYTES_MIN);
    assert_ne!(secret("services/jwt-secret"), secret("services/service-token"));
    assert!(secret("services/database-url").contains(&secret("database/docs-password")));
    assert!(secret("services/cache-url").contains(&secret("cache/password")));

    generate();
    for (file, content) in read {
        assert_eq!(std::fs::read_to_string(&file).expect("the file"), content, "{file:?}");
    }
}

#[test]
fn a_container_mounts_the_secrets_it_reads_and_no_others() {
    for (name, service) in services().into_iter().filter(|(name, _)| name != "secrets") {
        let text = service.to_string().replace("/run/dms/cache/password)", "/run/dms/cache/x");
        for (source, target) in mounts(&service) {
            let Some(audience) = source.strip_prefix("secrets-") else { continue };
            assert_eq!(target, format!("/run/dms/{audience}"), "{name}");
            // PgBouncer's own file names the path.
            let used = text.contains(&format!("{target}/")) || name == "pgbouncer";
            assert!(used, "{name} doesn't read {source}");
        }
        for audience in ["database", "storage", "cache", "services"] {
            let reads = text.contains(&format!("/run/dms/{audience}/"));
            let mounted = mounts(&service).iter().any(|(s, _)| *s == format!("secrets-{audience}"));
            assert!(mounted || !reads, "{name} reads secrets-{audience}");
        }
    }
}

#[test]
fn every_file_that_is_mounted_or_built_from_exists() {
    let volumes = object(&yaml("docker-compose.yml")["volumes"]);
    let mut used = BTreeSet::new();
    for (name, service) in services() {
        for (source, _) in mounts(&service) {
            if let Some(path) = source.strip_prefix("./") {
                assert!(root().join(path).is_file(), "{name} mounts {path}");
            } else {
                assert!(volumes.contains_key(&source), "{name} mounts {source}");
                used.insert(source);
            }
        }
        let build = &service["build"];
        let context = build.as_str().or(build["context"].as_str());
        if let Some(context) = context {
            let file = build["dockerfile"].as_str().unwrap_or("Dockerfile");
            let path = root().join(context).join(file);
            let text =
                std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{name}: {path:?}"));
            if let Some(target) = build["target"].as_str() {
                assert!(text.contains(&format!(" AS {target}\n")), "{name}: no stage {target}");
            }
        }
    }
    assert_eq!(used, volumes.keys().cloned().collect());
}

#[test]
fn everything_is_bounded_and_has_something_reserved() {
    for (name, service) in services() {
        let resources = &service["deploy"]["resources"];
        for bound in ["limits", "reservations"] {
            for resource in ["cpus", "memory"] {
                assert!(resources[bound][resource].is_string(), "{name}: {bound} of {resource}");
            }
        }
    }
}

#[test]
fn what_runs_on_tells_its_health_and_what_ends_does_not() {
    for (name, service) in services() {
        let once = ONE_SHOTS.contains(&name.as_str());
        assert_eq!(service["healthcheck"].is_null(), once, "{name}");
        assert_eq!(service["restart"].is_null(), once, "{name}");
    }
}

#[test]
fn the_start_goes_by_health_and_has_no_circle() {
    let services = services();
    let mut waits: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, service) in &services {
        for (other, how) in object(&service["depends_on"]) {
            let target = services.get(&other).unwrap_or_else(|| panic!("{name} waits for {other}"));
            let condition = if ONE_SHOTS.contains(&other.as_str()) {
                "service_completed_successfully"
            } else {
                "service_healthy"
            };
            assert_eq!(how["condition"], condition, "{name} waits for {other}");
            // Whichever profile starts one starts the other.
            let (own, others) = (texts(&service["profiles"]), texts(&target["profiles"]));
            assert!(others.is_empty() || own == others, "{name} waits for {other}");
            waits.entry(name.clone()).or_default().push(other);
        }
    }
    let mut started: BTreeSet<String> = BTreeSet::new();
    while started.len() < services.len() {
        let next: Vec<_> = services
            .keys()
            .filter(|name| !started.contains(*name))
            .filter(|name| waits.get(*name).into_iter().flatten().all(|one| started.contains(one)))
            .cloned()
            .collect();
        assert!(!next.is_empty(), "a circle among what isn't in {started:?}");
        started.extend(next);
    }
}

#[test]
fn programs_listen_where_the_contract_says_and_ask_for_tokens() {
    let services = services();
    for (name, http, grpc) in PROGRAMS {
        let service = &services[name];
        let environment = environment(service);
        let value = |variable: &str| environment.get(variable).map(String::as_str);
        assert_eq!(value("DMS_HTTP_ADDR"), Some(format!("0.0.0.0:{http}").as_str()), "{name}");
        let grpc_address = grpc.map(|port| format!("0.0.0.0:{port}"));
        assert_eq!(value("DMS_GRPC_ADDR"), grpc_address.as_deref(), "{name}");
        let published: Vec<_> =
            [Some(http), grpc].iter().flatten().map(|p| format!("127.0.0.1:{p}:{p}")).collect();
        assert_eq!(texts(&service["ports"]), published, "{name}");
        assert_eq!(value("DMS_AUTH"), Some("required"), "{name}");
        assert_eq!(texts(&service["command"]), [name]);
        let check = ["CMD".to_owned(), format!("/usr/local/bin/{name}"), "healthcheck".to_owned()];
        assert_eq!(texts(&service["healthcheck"]["test"]), check, "{name}");
    }
}

#[test]
fn programs_can_write_and_do_nothing_they_need_not() {
    let services = services();
    for (name, ..) in PROGRAMS {
        let service = &services[name];
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        // Longer than the programs take to drain.
        assert_eq!(service["stop_grace_period"], "30s", "{name}");
    }
    let dockerfile = text("Dockerfile");
    let last = dockerfile.rsplit("\nFROM ").next().expect("a stage");
    assert!(last.starts_with("scratch\n") && last.contains("\nUSER 65532:65532\n"), "{last}");
}

#[test]
fn the_image_has_every_program() {
    let dockerfile = text("Dockerfile");
    for (name, ..) in PROGRAMS {
        let built = dockerfile.contains(&format!("-p {name}"));
        assert!(built && dockerfile.matches(name).count() > 1, "{name}");
    }
}

#[test]
fn the_image_is_built_of_packages_of_the_workspace() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(vec!["--locked".into()])
        .exec()
        .expect("cargo metadata of the workspace");
    for (name, ..) in PROGRAMS {
        let binary = metadata.workspace_packages().into_iter().any(|package| {
            package.name.as_str() == name
                && package.targets.iter().any(|target| target.is_bin() && target.name == name)
        });
        assert!(binary, "no package {name} with a program of that name");
    }
}

#[test]
fn every_setting_of_a_program_is_known() {
    let known: BTreeSet<String> = dms_runtime::settings::all()
        .flat_map(|setting| [Some(setting.name.to_owned()), setting.file_name()])
        .flatten()
        .collect();
    let services = services();
    for (name, ..) in PROGRAMS {
        for variable in environment(&services[name]).into_keys() {
            assert!(known.contains(&variable), "{name}: {variable}");
        }
    }
}

#[test]
fn one_profile_has_everything_and_the_other_is_light() {
    let in_profile = |profile: &str| -> BTreeSet<String> {
        services()
            .into_iter()
            .filter(|(_, service)| {
                let profiles = texts(&service["profiles"]);
                profiles.is_empty() || profiles.iter().any(|one| one == profile)
            })
            .map(|(name, _)| name)
            .collect()
    };
    let all: BTreeSet<String> = services().into_iter().map(|(name, _)| name).collect();
    let light = BTreeSet::from(["dms", "postgres", "secrets"].map(str::to_owned));
    assert_eq!(in_profile("middle"), light);
    let full: BTreeSet<_> = all.into_iter().filter(|name| name != "dms").collect();
    assert_eq!(in_profile("full"), full);
    assert!(text(".env").lines().any(|line| line == "COMPOSE_PROFILES=full"));
}
