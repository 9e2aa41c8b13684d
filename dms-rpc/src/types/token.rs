//! Tokens for development.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A token for trying things out: `GET /auth/token`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema), schema(as = Token))]
pub struct TokenBody {
    /// The token, to be shown as `Authorization: Bearer TOKEN`.
    pub access_token: String,
    /// Always `bearer`.
    pub token_type: String,
    /// Whom it is for.
    pub user_id: String,
    /// Address of whom it is for.
    pub email: String,
}

impl fmt::Debug for TokenBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBody").field("user_id", &self.user_id).finish_non_exhaustive()
    }
}
