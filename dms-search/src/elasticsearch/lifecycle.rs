//! The index itself: made, built, put in its place, removed.
//!
//! ```text
//! documents          alias of the index that serves
//! documents-staged   alias of the one that is being built
//! documents-outdated alias of the one that serves, too, if an older program laid it out
//! documents-vN       the indexes; which of them is which is said by the aliases alone
//! ```
//!
//! Everything is written through one of the two aliases, never to an index by its name, so that no
//! write can make an index. What an index says of itself is in its mapping's `_meta`. Of two
//! processes that build at once one gives way; should neither notice in time, both write the same
//! documents under the same versions, and one of them puts the index in its place.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use dms_core::ports::{index_missing, rebuild_running};
use dms_core::{Error, ErrorChain, Result};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::client::{Class, Client, Payload};
use super::error::{of_answer, refusal, unreadable};
use super::mapping::{self, Mapping, Meta};
use super::options::ElasticsearchOptions;

/// How often another number is tried for an index when somebody takes one at the same time.
const NUMBERS_MAX: usize = 5;

#[derive(Deserialize)]
struct MappingAnswer {
    mappings: Mapping,
}

#[derive(Deserialize)]
struct AliasAnswer {
    #[serde(default)]
    aliases: HashMap<String, Value>,
}

/// The indexes of one family, by number, with their aliases.
pub(super) struct Indexes {
    alias: String,
    aliases: BTreeMap<u64, Vec<String>>,
}

impl Indexes {
    fn name(&self, number: u64) -> String {
        format!("{}-v{number}", self.alias)
    }

    fn next(&self) -> u64 {
        self.aliases.last_key_value().map_or(1, |(last, _)| last + 1)
    }

    /// The number of the index that has an alias.
    fn with(&self, alias: &str) -> Option<u64> {
        let has = |aliases: &Vec<String>| aliases.iter().any(|name| name == alias);
        self.aliases.iter().rev().find(|(_, aliases)| has(aliases)).map(|(number, _)| *number)
    }
}

/// What can be done to the indexes.
#[derive(Clone, Copy)]
pub(super) struct Lifecycle<'a> {
    pub(super) client: &'a Client,
    pub(super) options: &'a ElasticsearchOptions,
}

impl Lifecycle<'_> {
    /// The name of the alias of what is being built.
    pub(super) fn staged_alias(&self) -> String {
        format!("{}-staged", self.options.alias)
    }

    /// The name of the alias of a live index that an older program made.
    pub(super) fn outdated_alias(&self) -> String {
        format!("{}-outdated", self.options.alias)
    }

    /// Gives an index one more alias.
    pub(super) async fn add_alias(&self, name: &str, alias: &str) -> Result<()> {
        self.change_aliases(vec![json!({ "add": { "index": name, "alias": alias } })]).await
    }

    /// The name and mapping of the index behind an alias; none if there is none.
    pub(super) async fn mapping(&self, alias: &str) -> Result<Option<(String, Mapping)>> {
        let path = format!("{alias}/_mapping");
        let answer = self.client.send(Class::Admin, Method::GET, &path, Payload::Nothing).await?;
        if answer.status == StatusCode::NOT_FOUND && refusal(&answer).is_missing_index() {
            return Ok(None);
        }
        let all: BTreeMap<String, MappingAnswer> = answer.success()?.json()?;
        // An index of the alias's own name is none of ours.
        let mut ours = all.into_iter().filter(|(name, _)| name != alias);
        Ok(ours.next_back().map(|(name, answer)| (name, answer.mappings)))
    }

    /// Every index of the family.
    pub(super) async fn list(&self) -> Result<Indexes> {
        let alias = &self.options.alias;
        let path = format!("{alias}-v*/_alias");
        let answer = self.client.send(Class::Admin, Method::GET, &path, Payload::Nothing).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Indexes { alias: alias.clone(), aliases: BTreeMap::new() });
        }
        let all: HashMap<String, AliasAnswer> = answer.success()?.json()?;
        let number = |name: &str| name.strip_prefix(alias)?.strip_prefix("-v")?.parse().ok();
        let aliases = all
            .into_iter()
            .filter_map(|(name, answer)| {
                Some((number(&name)?, answer.aliases.into_keys().collect()))
            })
            .collect();
        Ok(Indexes { alias: alias.clone(), aliases })
    }

    /// Says something else of an index.
    pub(super) async fn set_meta(&self, name: &str, meta: &Meta) -> Result<()> {
        let path = format!("{name}/_mapping");
        let payload = Payload::Json(json!({ "_meta": meta.to_json() }));
        self.change(Method::PUT, &path, payload).await
    }

    /// Says that the index behind an alias was filled to the end.
    ///
    /// # Errors
    /// With the code of a missing index if there is none.
    pub(super) async fn set_built(&self, alias: &str) -> Result<()> {
        let Some((name, mapping)) = self.mapping(alias).await? else { return Err(index_missing()) };
        let meta = mapping.meta().cloned().unwrap_or_else(|| Meta::new(None));
        if meta.built {
            return Ok(());
        }
        self.set_meta(&name, &Meta { built: true, ..meta }).await
    }

    /// Puts a new, empty index in the place of everything there is.
    pub(super) async fn start_afresh(&self) -> Result<()> {
        let alias = self.options.alias.clone();
        let refresh = Some(self.options.refresh_interval);
        let (number, before) = self.create(&Meta::new(None), refresh, None).await?;
        let mut actions = vec![json!({ "add": { "index": before.name(number), "alias": alias } })];
        actions.extend(before.aliases.keys().map(|number| remove(&before.name(*number))));
        self.change_aliases(actions).await
    }

    /// The index that is being built: its name, what it says of itself, and whether it is new.
    pub(super) async fn staged(&self, builder: &str) -> Result<(String, Meta)> {
        for _ in 0..NUMBERS_MAX {
            if let Some((name, mapping)) = self.mapping(&self.staged_alias()).await? {
                match mapping.meta() {
                    Some(meta) if meta.mapping == mapping::MAPPING => {
                        return Ok((name, meta.clone()));
                    }
                    // Begun by another program: nothing to go on with.
                    _ => self.change(Method::DELETE, &name, Payload::Nothing).await?,
                }
            }
            let meta = Meta::new(Some(builder.to_owned()));
            match self.create(&meta, None, Some(self.staged_alias())).await {
                Ok((number, before)) => return Ok((before.name(number), meta)),
                // Somebody else began at the same time.
                Err(error) if error.code() == TAKEN => {}
                Err(error) => return Err(error),
            }
        }
        Err(rebuild_running())
    }

    /// Puts the index that is being built in the place of the live one, at one stroke, and removes
    /// all others once no search can be on its way to them.
    pub(super) async fn promote(&self, name: &str, meta: &Meta) -> Result<()> {
        self.change(Method::POST, &format!("{name}/_refresh"), Payload::Nothing).await?;
        let refresh = mapping::interval(Some(self.options.refresh_interval));
        let settings = Payload::Json(json!({ "index": { "refresh_interval": refresh } }));
        self.change(Method::PUT, &format!("{name}/_settings"), settings).await?;
        let meta = Meta { built: true, builder: None, ..meta.clone() };
        self.set_meta(name, &meta).await?;
        let (alias, staged) = (&self.options.alias, self.staged_alias());
        let indexes = self.list().await?;
        let mut actions = vec![
            json!({ "add": { "index": name, "alias": alias } }),
            json!({ "remove": { "index": name, "alias": staged, "must_exist": false } }),
        ];
        let others = indexes.aliases.keys().map(|number| indexes.name(*number));
        let others: Vec<_> = others.filter(|other| other != name).collect();
        let aliases = [alias, &staged, &self.outdated_alias()];
        actions.extend(others.iter().flat_map(|other| {
            aliases.map(|alias| {
                json!({ "remove": { "index": other, "alias": alias, "must_exist": false } })
            })
        }));
        self.change_aliases(actions).await?;
        if others.is_empty() {
            return Ok(());
        }
        // A search that was told the old name would find its shards gone, and fail.
        sleep(self.options.search_time_max).await;
        for other in others {
            let removed = self.change(Method::DELETE, &other, Payload::Nothing).await;
            if let Err(error) = removed {
                // The next one that is put in its place removes it.
                tracing::warn!(index = other, error = %ErrorChain(&error), "old search index not removed");
            }
        }
        Ok(())
    }

    /// Makes an index under the next number; the number, and what was there before.
    async fn create(
        &self,
        meta: &Meta,
        refresh: Option<Duration>,
        alias: Option<String>,
    ) -> Result<(u64, Indexes)> {
        for _ in 0..NUMBERS_MAX {
            let indexes = self.list().await?;
            if alias.as_ref().is_some_and(|alias| indexes.with(alias).is_some()) {
                return Err(rebuild_running().with_code(TAKEN));
            }
            let number = indexes.next();
            let mut body = mapping::index(self.options, meta, refresh);
            if let Some(alias) = &alias {
                body["aliases"] = json!({ alias: {} });
            }
            let name = indexes.name(number);
            let answer =
                self.client.send(Class::Admin, Method::PUT, &name, Payload::Json(body)).await?;
            if answer.status.is_success() {
                tracing::info!(index = name, "search index made");
                return Ok((number, indexes));
            }
            if refusal(&answer).name != "resource_already_exists_exception" {
                return Err(of_answer(&answer));
            }
            if alias.is_some() {
                return Err(rebuild_running().with_code(TAKEN));
            }
        }
        Err(Error::unavailable(super::DEPENDENCY, "somebody else keeps making search indexes"))
    }

    async fn change_aliases(&self, actions: Vec<Value>) -> Result<()> {
        self.change(Method::POST, "_aliases", Payload::Json(json!({ "actions": actions }))).await
    }

    /// A change that the whole cluster agrees on.
    pub(super) async fn change(&self, method: Method, path: &str, payload: Payload) -> Result<()> {
        let answer: Acknowledged = self.client.json(Class::Admin, method, path, payload).await?;
        // Of a refresh there is none.
        if answer.acknowledged == Some(false) {
            return Err(unreadable("says that not every node has agreed"));
        }
        Ok(())
    }
}

/// Code of the error when somebody else made the index in the same moment.
const TAKEN: &str = "index_taken";

fn remove(name: &str) -> Value {
    json!({ "remove_index": { "index": name } })
}

#[derive(Deserialize)]
struct Acknowledged {
    acknowledged: Option<bool>,
}
