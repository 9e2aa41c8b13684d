//! `dead-letters`: changes that the index couldn't take, and what becomes of them.

use std::io::Write as _;

use clap::{Args, Subcommand};
use dms_cdc::decode_dead_letter;
use dms_core::model::change::{Position, Record};
use dms_core::model::timestamp;
use dms_core::ports::{DeadLetter, Outcome};
use dms_core::{Error, Result};
use dms_runtime::{ExitStatus, SettingFlags, StartupError};

use crate::{INDEX_CONSUMER, Indexing};

/// Most letters looked at in one run; there is a budget far below.
const LETTERS_MAX: u32 = 100_000;

#[derive(Debug, Args)]
pub struct DeadLettersCommand {
    #[command(subcommand)]
    action: Action,
    /// The options of all settings.
    #[command(flatten)]
    pub(super) settings: SettingFlags,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List them, oldest first: position, key, time and reason
    List {
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Show one with its record as it came
    Show {
        /// Its position, as listed
        position: String,
    },
    /// Apply them again, and remove those that succeed
    Replay(Chosen),
    /// Remove them for good
    ///
    /// What they would have changed is then for `verify --repair` to find.
    Drop(Chosen),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Chosen {
    /// Their positions, as listed
    positions: Vec<String>,
    /// All of them
    #[arg(long)]
    all: bool,
}

impl DeadLettersCommand {
    pub(super) async fn run(self, indexing: &Indexing) -> Result<ExitStatus, StartupError> {
        let done = match self.action {
            Action::List { limit } => list(indexing, limit).await,
            Action::Show { position } => show(indexing, &position).await,
            Action::Replay(chosen) => replay(indexing, &chosen).await,
            Action::Drop(chosen) => drop_letters(indexing, &chosen).await,
        };
        done.map_err(|error| StartupError::from_part("the dead letters", error))
    }
}

/// Nobody listens if writing fails.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn list(indexing: &Indexing, limit: u32) -> Result<ExitStatus> {
    let letters = indexing.dead_letters();
    for letter in letters.list(INDEX_CONSUMER, limit).await? {
        say(format_args!(
            "{}  {}  {}  {}",
            letter.position,
            letter.key.as_deref().unwrap_or("-"),
            timestamp::format(letter.created_at),
            letter.reason
        ));
    }
    say(format_args!("{} in all", letters.count(INDEX_CONSUMER).await?));
    Ok(ExitStatus::Success)
}

async fn show(indexing: &Indexing, position: &str) -> Result<ExitStatus> {
    let letters = find(indexing, std::slice::from_ref(&position.to_owned())).await?;
    for letter in letters {
        say(format_args!("position  {}", letter.position));
        say(format_args!("key       {}", letter.key.as_deref().unwrap_or("-")));
        say(format_args!("refused   {}", timestamp::format(letter.created_at)));
        say(format_args!("reason    {}", letter.reason));
        say(format_args!("record    {}", String::from_utf8_lossy(&letter.raw)));
    }
    Ok(ExitStatus::Success)
}

async fn replay(indexing: &Indexing, chosen: &Chosen) -> Result<ExitStatus> {
    let (mut applied, mut kept) = (0_u64, 0_u64);
    for letter in chosen.letters(indexing).await? {
        match replay_one(indexing, &letter).await? {
            Ok(()) => {
                indexing.dead_letters().remove(INDEX_CONSUMER, &letter.position).await?;
                applied += 1;
            }
            Err(why) => {
                say(format_args!("{}  is kept: {why}", letter.position));
                kept += 1;
            }
        }
    }
    say(format_args!("{applied} applied and removed, {kept} kept"));
    Ok(if kept == 0 { ExitStatus::Success } else { ExitStatus::Failure })
}

/// Applies one as it is decoded today; says why it must be kept.
async fn replay_one(indexing: &Indexing, letter: &DeadLetter) -> Result<Result<(), String>> {
    let change = match decode_dead_letter(&letter.raw) {
        Some(Record::Change(change)) => change,
        Some(Record::Poison(poison)) => return Ok(Err(poison.reason)),
        None => return Ok(Err("the record isn't one of this program's".to_owned())),
    };
    let outcomes = indexing.replay(std::slice::from_ref(&*change)).await?;
    Ok(match outcomes.into_iter().next() {
        Some(Outcome::Rejected(why) | Outcome::Retry(why)) => Err(why),
        Some(Outcome::Applied | Outcome::AlreadyNewer | Outcome::Skipped(_)) => Ok(()),
        None => Err("the index gave no answer".to_owned()),
    })
}

async fn drop_letters(indexing: &Indexing, chosen: &Chosen) -> Result<ExitStatus> {
    let mut dropped = 0_u64;
    for letter in chosen.letters(indexing).await? {
        dropped +=
            u64::from(indexing.dead_letters().remove(INDEX_CONSUMER, &letter.position).await?);
    }
    say(format_args!("{dropped} dropped"));
    Ok(ExitStatus::Success)
}

impl Chosen {
    async fn letters(&self, indexing: &Indexing) -> Result<Vec<DeadLetter>> {
        if self.all {
            return indexing.dead_letters().list(INDEX_CONSUMER, LETTERS_MAX).await;
        }
        find(indexing, &self.positions).await
    }
}

/// Those at the positions, in the order of arrival.
///
/// # Errors
/// `NotFound` for a position that has none.
async fn find(indexing: &Indexing, positions: &[String]) -> Result<Vec<DeadLetter>> {
    let mut letters = indexing.dead_letters().list(INDEX_CONSUMER, LETTERS_MAX).await?;
    if let Some(missing) = positions
        .iter()
        .find(|position| !letters.iter().any(|letter| letter.position == Position::new(*position)))
    {
        return Err(Error::not_found("dead letter", missing));
    }
    letters.retain(|letter| positions.iter().any(|position| position == letter.position.as_str()));
    Ok(letters)
}
