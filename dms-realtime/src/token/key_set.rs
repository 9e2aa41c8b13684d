//! Sets of keys (RFC 7517, section 5).

use std::error::Error;
use std::sync::Arc;

use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::Jwk;
use serde_json::Value;

use super::key::Key;

/// Keys with their ids.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<(Option<String>, Arc<Key>)>);

impl KeySet {
    /// The keys in the JSON text of a set, which holds at most `keys_max` of any kind.
    pub(super) fn parse(set: &[u8], keys_max: usize) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let set: Value = serde_json::from_slice(set)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("there are no keys")?;
        if keys.len() > keys_max {
            return Err("there are too many keys".into());
        }
        // Keys of kinds that aren't known must be passed over (RFC 7517, section 5).
        let known = keys
            .iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok())
            .filter_map(|jwk| {
                let key = Key::from_jwk(&jwk)?;
                Some((jwk.common.key_id, Arc::new(key)))
            });
        Ok(Self(known.collect()))
    }

    /// The key for a token. Without a key id, the one key there is for the algorithm, if there is
    /// just one.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Arc<Key>> {
        let mut found = self.0.iter().filter(|(id, key)| {
            key.algorithm == algorithm && (kid.is_none() || id.as_deref() == kid)
        });
        let (_, key) = found.next()?;
        (kid.is_some() || found.next().is_none()).then(|| Arc::clone(key))
    }
}
