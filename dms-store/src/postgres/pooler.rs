//! Whether what stands before the database keeps the prepared statements of its clients apart.
//!
//! In transaction mode a pooler gives a client another server connection for each transaction.
//! `PgBouncer` before 1.21 leaves prepared statements behind on the one before: a client then meets
//! none, or another client's of the same name, and gets a **wrong answer**. It is asked what it is,
//! on its console, the database `pgbouncer` of the same address; where it won't say, it is tried.

use std::time::Duration;

use dms_core::{Error, ErrorChain, ErrorKind, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Row as _, query_scalar, raw_sql};
use tokio::time::timeout;

use super::error::{from_sqlx, no_answer, sqlstate};

/// The oldest `PgBouncer` that follows prepared statements.
const VERSION_MIN: (u32, u32) = (1, 21);

const CONSOLE: &str = "pgbouncer";

/// How often statements are tried.
const TRIALS: i32 = 4;

/// How long a trial may wait for a second server connection, which there may never be.
const TRIAL_TIMEOUT: Duration = Duration::from_millis(500);

/// What answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gate {
    /// The server itself.
    Server,
    /// `PgBouncer`, which said this of itself.
    PgBouncer { version: String },
    /// Something that said nothing of itself.
    Unknown,
}

/// Finds out what answers, and whether it can be used.
///
/// # Errors
/// - `Conflict` with code `pooler_unfit`, and a message that says what to do;
/// - `Unavailable`.
pub(super) async fn check(options: &PgConnectOptions, patience: Duration) -> Result<Gate> {
    let gate = timeout(patience, ask(options)).await.map_err(no_answer)??;
    if gate == Gate::Unknown {
        timeout(patience, attempt(options)).await.map_err(no_answer)??;
    }
    Ok(gate)
}

fn unfit(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Conflict, message).with_code("pooler_unfit")
}

async fn ask(options: &PgConnectOptions) -> Result<Gate> {
    let mut console = match options.clone().database(CONSOLE).connect().await {
        Ok(console) => console,
        Err(error) => {
            return match sqlstate(&error) {
                Some("3D000") => Ok(Gate::Server),
                // Whoever may not see the console is told so in many ways.
                Some(code) if !matches!(code, "53300" | "57P03") => {
                    tracing::debug!(error = %ErrorChain(&error), "no pooler console");
                    Ok(Gate::Unknown)
                }
                _ => Err(from_sqlx(error)),
            };
        }
    };
    let version = match first_texts(&mut console, "SHOW VERSION").await {
        Ok(rows) => rows.into_iter().next().map(|(version, _)| version).unwrap_or_default(),
        // A server may have a database of this name; it knows no such setting.
        Err(error) if sqlstate(&error) == Some("42704") => return Ok(Gate::Server),
        Err(error) if error.as_database_error().is_some() => return Ok(Gate::Unknown),
        Err(error) => return Err(from_sqlx(error)),
    };
    let Some(number) = version.strip_prefix("PgBouncer ").and_then(version_number) else {
        return Ok(Gate::Unknown);
    };
    if number < VERSION_MIN {
        return Err(unfit(format!(
            "{version} mixes up prepared statements and gives wrong answers: use pgbouncer 1.21 \
             or newer with max_prepared_statements above 0"
        )));
    }
    let settings = match first_texts(&mut console, "SHOW CONFIG").await {
        Ok(settings) => settings,
        Err(error) if error.as_database_error().is_some() => return Ok(Gate::Unknown),
        Err(error) => return Err(from_sqlx(error)),
    };
    // Closing politely is no use to anybody who has answered all this.
    drop(console);
    let setting = settings.iter().find(|(name, _)| name == "max_prepared_statements");
    match setting.and_then(|(_, value)| value.parse::<u64>().ok()) {
        Some(0) | None => Err(unfit(format!(
            "{version} doesn't follow prepared statements: set max_prepared_statements above 0, \
             for instance to 200, and reload it"
        ))),
        Some(_) => Ok(Gate::PgBouncer { version }),
    }
}

/// The first two columns of each row, of a console that knows simple queries only.
async fn first_texts(
    console: &mut PgConnection,
    command: &'static str,
) -> sqlx::Result<Vec<(String, String)>> {
    let rows = raw_sql(command).fetch_all(console).await?;
    let text = |row: &sqlx::postgres::PgRow, column: usize| {
        row.try_get::<Option<String>, _>(column).ok().flatten().unwrap_or_default()
    };
    Ok(rows.iter().map(|row| (text(row, 0), text(row, 1))).collect())
}

/// Major and minor number.
fn version_number(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(|part| {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        part[..digits].parse().ok()
    });
    Some((numbers.next()??, numbers.next()??))
}

/// Uses statements of two clients in turn. sqlx gives the first statement of each connection the same
/// name, so they meet where they aren't kept apart.
async fn attempt(options: &PgConnectOptions) -> Result<()> {
    let mut one = options.connect().await.map_err(from_sqlx)?;
    let mut other = options.connect().await.map_err(from_sqlx)?;
    for trial in 0..TRIALS {
        expect(answer(&mut one, "SELECT $1 + 1", trial).await, trial + 1)?;
        expect(answer(&mut other, "SELECT $1 * 1000", trial).await, trial * 1_000)?;
        // Whoever holds the server connection of the moment sends the next one to another.
        raw_sql("BEGIN").execute(&mut other).await.map_err(from_sqlx)?;
        match timeout(TRIAL_TIMEOUT, answer(&mut one, "SELECT $1 + 1", trial)).await {
            Ok(answered) => expect(answered, trial + 1)?,
            // There is one server connection only, on which the two have met already.
            Err(_) => return Ok(()),
        }
        raw_sql("COMMIT").execute(&mut other).await.map_err(from_sqlx)?;
    }
    // Neither is used again; the other end learns it from the end of the connections.
    drop((one, other));
    Ok(())
}

async fn answer(
    connection: &mut PgConnection,
    statement: &'static str,
    number: i32,
) -> sqlx::Result<i32> {
    query_scalar(statement).bind(number).fetch_one(connection).await
}

fn expect(answer: sqlx::Result<i32>, expected: i32) -> Result<()> {
    let mixed_up = || {
        unfit(
            "the pooler before the database mixes up prepared statements: use pgbouncer 1.21 or \
             newer with max_prepared_statements above 0",
        )
    };
    match answer {
        Ok(answer) if answer == expected => Ok(()),
        Ok(_) => Err(mixed_up()),
        Err(error) => match sqlstate(&error) {
            // No such statement; there already; other parameters than it has.
            Some("26000" | "42P05" | "08P01") => Err(mixed_up().with_source(error)),
            _ => Err(from_sqlx(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_far_as_they_matter() {
        assert_eq!(version_number("1.24.1"), Some((1, 24)));
        assert_eq!(version_number("1.21rc1"), Some((1, 21)));
        assert_eq!(version_number("2.0dev"), Some((2, 0)));
        assert!(version_number("1.20.1") < Some(VERSION_MIN));
        assert!(version_number("1.9.0") < Some(VERSION_MIN));
        for text in ["", "1", "x.y", "1.", ".2"] {
            assert_eq!(version_number(text), None, "{text}");
        }
    }
}
