//! Identifiers: `UUIDv7` (RFC 9562), so that they sort by creation time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Result};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, greater than every one this process made before.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id with these bytes, whatever its UUID version.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID inside.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            /// Reads the hyphenated form, in either case.
            ///
            /// # Errors
            /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for anything else.
            fn from_str(text: &str) -> Result<Self> {
                if text.len() != 36 {
                    return Err(Error::invalid($field, "must be a UUID such as 0198c0de-0000-7000-8000-000000000000"));
                }
                Uuid::try_parse(text).map(Self).map_err(|e| {
                    Error::invalid($field, "must be a UUID such as 0198c0de-0000-7000-8000-000000000000")
                        .with_source(e)
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// Identifies a document.
    DocumentId,
    "document_id"
);
id!(
    /// Identifies a signature.
    SignatureId,
    "signature_id"
);
