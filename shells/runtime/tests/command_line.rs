//! Options, help and the exit status of a program made with the shared command line.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use dms_runtime::settings::{self, Backends, Migrate};
use dms_runtime::{
    Cli, ExitStatus, HealthRegistry, HealthcheckCommand, Program, Server, SettingFlags, Settings,
    metrics_handle,
};
use tokio_util::sync::CancellationToken;

const PROGRAM: Program = Program {
    name: "example-service",
    version: "1.2.3",
    http_port: 8042,
    grpc_port: Some(50042),
    backends: Backends { document_service: true, ..Backends::ALL },
};

/// Serves examples.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Cli,
    #[command(subcommand)]
    command: Option<Commands>,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// Serves
    Serve(Cli),
    /// Exits with 0 when the running service is ready
    Healthcheck(HealthcheckCommand),
}

fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
    PROGRAM.parse(
        std::iter::once("example-service").chain(arguments.iter().copied()).map(OsString::from),
    )
}

fn help(arguments: &[&str]) -> String {
    let error = parse(arguments).expect_err("help");
    assert_eq!(error.kind(), ErrorKind::DisplayHelp);
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_setting_is_an_option_before_or_after_the_subcommand() {
    for setting in settings::all() {
        for option in [Some(setting.option()), setting.file_option()].into_iter().flatten() {
            let given = format!("--{option}=value");
            let expected = SettingFlags::default().with(&option, "value");
            let arguments = parse(&[&given]).expect("accepted");
            assert_eq!(arguments.common.settings, expected);
            let Some(Commands::Serve(cli)) = parse(&["serve", &given]).expect("accepted").command
            else {
                panic!("not the subcommand")
            };
            assert_eq!(cli.settings, expected);
        }
    }
    assert!(parse(&["--check"]).expect("accepted").common.check);
}

#[test]
fn help_leaves_out_what_the_program_has_no_use_for() {
    let program = Program { backends: Backends::NONE, grpc_port: None, ..PROGRAM };
    let error = program.parse::<Arguments>(["x".into(), "--help".into()]).expect_err("help");
    let text = error.to_string();
    for absent in ["--database-url", "--aws-region", "--search-url", "--grpc-addr", "--data-dir"] {
        assert!(!text.contains(absent), "{absent}\n{text}");
    }
    assert!(text.contains("--http-addr"), "{text}");
}

#[test]
fn help_names_each_option_with_its_variable_and_default() {
    for text in [help(&["--help"]), help(&["serve", "--help"])] {
        for setting in settings::all() {
            let option = setting.option();
            assert!(
                text.contains(&format!("--{option} <{}>", setting.value_name)),
                "{option}\n{text}"
            );
            assert!(text.contains(&format!("[env: {}]", setting.name)), "{option}\n{text}");
            assert!(text.contains(&format!("{}: ", setting.heading)), "{option}\n{text}");
            if let Some(name) = setting.file_name() {
                assert!(text.contains(&format!("[env: {name}]")), "{name}");
            }
            if !setting.name.ends_with("_ADDR") {
                assert!(
                    text.contains(&format!("[default: {}]", setting.default)),
                    "{option}\n{text}"
                );
            }
        }
        assert!(text.contains("[env: DMS_HTTP_ADDR] [default: 127.0.0.1:8042]"), "{text}");
        assert!(text.contains("[env: DMS_GRPC_ADDR] [default: 127.0.0.1:50042]"), "{text}");
    }
    let first = help(&["--help"]);
    assert!(first.find("Where it listens:") < first.find("What it logs:"), "in order");
    assert!(first.contains("Exit status: 0 all went well"));
    assert!(help(&["healthcheck", "--help"]).contains("DMS_HTTP_ADDR"));
}

#[test]
fn no_value_shows_in_help_or_in_a_usage_error() {
    let text = help(&["--jwt-secret", "hunter2", "--help"]);
    assert!(!text.contains("hunter2"), "{text}");
    for arguments in [
        &["--jwt-secert=hunter2"][..],
        &["--jwt-secret=hunter2", "--jwt-secret=hunter2"],
        &["--jwt-secret=hunter2", "--unknown"],
        &["--service-token=hunter2", "--log"],
    ] {
        let error = parse(arguments).expect_err("refused");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let arguments = parse(&["--jwt-secret=hunter2"]).expect("accepted");
    assert!(!format!("{arguments:?}").contains("hunter2"));
}

#[test]
fn help_and_version_succeed_and_other_refusals_are_usage_errors() {
    let shown = |arguments: &[&str]| {
        let error = parse(arguments).expect_err("stops");
        (dms_runtime::report_arguments(&error), error.to_string())
    };
    let same = |code: std::process::ExitCode, status: ExitStatus| {
        format!("{code:?}") == format!("{:?}", std::process::ExitCode::from(status))
    };
    let (code, text) = shown(&["--version"]);
    assert!(same(code, ExitStatus::Success));
    assert_eq!(text, "example-service 1.2.3\n");
    assert!(same(shown(&["--help"]).0, ExitStatus::Success));
    assert!(same(shown(&["--nonsense"]).0, ExitStatus::Usage));
    assert!(same(shown(&["--log"]).0, ExitStatus::Usage));
}

#[test]
fn parsed_options_win_over_variables() {
    let arguments = parse(&["--migrate", "off"]).expect("accepted");
    let variables = HashMap::from([("DMS_MIGRATE", "auto"), ("DMS_LOG", "warn")]);
    let settings =
        Settings::read(&PROGRAM, &arguments.common.settings, &variables).expect("accepted");
    assert_eq!(settings.storage.migrate, Migrate::Off);
    assert_eq!(settings.log.filter, "warn");
}

async fn ask(address: &str) -> ExitStatus {
    let arguments = parse(&["healthcheck", "--http-addr", address]).expect("accepted");
    let Some(Commands::Healthcheck(command)) = arguments.command else {
        panic!("not the subcommand")
    };
    // whatever else is wrong with the settings doesn't matter to a health check
    let variables = BTreeMap::from([("DMS_AUTH", "nonsense")]);
    command.run(&PROGRAM, &arguments.common.settings, &variables).await
}

#[tokio::test]
async fn healthcheck_tells_ready_from_not_ready() {
    let health = HealthRegistry::new();
    let server =
        Server::bind(&settings::names::HTTP_ADDR, ([127, 0, 0, 1], 0).into()).await.expect("bound");
    let port = server.local_addr().port();
    let stop = CancellationToken::new();
    let router = health.router(metrics_handle());
    let serving = tokio::spawn(server.serve(router, stop.clone(), Duration::from_secs(5)));
    let anywhere = format!("0.0.0.0:{port}");
    assert_eq!(ask(&anywhere).await, ExitStatus::Failure);
    health.set_serving();
    assert_eq!(ask(&anywhere).await, ExitStatus::Success);
    health.set_draining();
    assert_eq!(ask(&anywhere).await, ExitStatus::Failure);
    stop.cancel();
    let drained = serving.await.expect("no panic");
    assert_eq!(drained.cut_off, 0);
    assert_eq!(ask(&anywhere).await, ExitStatus::Failure);
    assert_eq!(ask("nonsense").await, ExitStatus::Usage);
}
