//! `dms token`: a token for a subject.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use dms_core::ports::{Clock as _, SystemClock};
use dms_realtime::token::{NewToken, TokenRules, issue};
use dms_rpc::client::DmsClient;
use dms_runtime::settings::{Source, TokenKey, reachable};
use dms_runtime::{ExitStatus, SettingFlags, StartupError};

use super::{CommandResult, read_settings};

#[derive(Debug, Args)]
pub(super) struct TokenCommand {
    /// Whom the token is for
    subject: String,
    /// Address of whom it is for
    #[arg(long)]
    email: Option<String>,
    /// How long it holds, in seconds; only with `DMS_JWT_SECRET`
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    ttl: u64,
    #[command(flatten)]
    settings: SettingFlags,
}

impl TokenCommand {
    pub(super) async fn run(self, outer: &SettingFlags, source: &dyn Source) -> CommandResult {
        let settings = read_settings(&self.settings.or(outer), source)?;
        let token = match &settings.auth.key {
            TokenKey::Shared(secret) => {
                let rules = TokenRules {
                    issuer: settings.auth.issuer.clone(),
                    audience: settings.auth.audience.clone(),
                };
                let token = NewToken {
                    subject: &self.subject,
                    email: self.email.as_deref(),
                    ttl: Duration::from_secs(self.ttl),
                };
                issue(secret.expose_bytes(), &token, &rules, SystemClock.now())
                    .map_err(|error| StartupError::from_part("the token", error))?
            }
            TokenKey::Development(_) => {
                let url = format!("http://{}", reachable(settings.listen.http));
                let email = self.email.as_deref().unwrap_or("nobody@localhost");
                ask(&url, &self.subject, email).await?
            }
            _ => {
                return Err(StartupError::usage(
                    "tokens are signed by whoever holds the private key of the configured public \
                     one: ask there",
                ));
            }
        };
        // Nobody listens if this fails.
        let _ = writeln!(std::io::stdout(), "{token}");
        Ok(ExitStatus::Success)
    }
}

async fn ask(url: &str, subject: &str, email: &str) -> Result<String, StartupError> {
    let client = DmsClient::builder(url).retries_max(0).build().map_err(|error| {
        StartupError::usage(format!("{url} can't be asked for a token")).with_source(error)
    })?;
    let token = client.development_token(subject, email).await.map_err(|error| {
        let message = format!(
            "no token from the server at {url}: start one with `dms serve`, or set DMS_JWT_SECRET \
             to sign tokens here"
        );
        StartupError::new(ExitStatus::Unavailable, message).with_source(error)
    })?;
    Ok(token.access_token)
}
