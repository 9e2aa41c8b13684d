//! What follows from a sink's answers: which changes are done, and which go to the sink again.

use std::collections::HashSet;

use dms_core::model::change::Change;
use dms_core::ports::Outcome;

/// One pass of changes through a sink, judged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pass {
    /// Index and final outcome, in order; never [`Outcome::Retry`].
    pub(super) done: Vec<(usize, Outcome)>,
    /// Indices of the changes to give to the sink again, in order.
    pub(super) again: Vec<usize>,
    /// Why the first of those failed.
    pub(super) reason: Option<String>,
}

impl Pass {
    /// Judges the outcomes of `changes`, of which there are as many.
    ///
    /// Once a change is to be tried again, so are the later ones of the same key, whatever was
    /// answered for them: the sink then sees the key's changes in order, to the last.
    pub(super) fn of(changes: &[Change], outcomes: Vec<Outcome>) -> Self {
        let mut pass =
            Self { done: Vec::with_capacity(outcomes.len()), again: vec![], reason: None };
        let mut held_keys = HashSet::new();
        for (index, (change, outcome)) in changes.iter().zip(outcomes).enumerate() {
            if let Outcome::Retry(reason) = outcome {
                held_keys.extend(change.key());
                pass.again.push(index);
                pass.reason.get_or_insert(reason);
            } else if !held_keys.is_empty()
                && change.key().is_some_and(|key| held_keys.contains(&key))
            {
                pass.again.push(index);
            } else {
                pass.done.push((index, outcome));
            }
        }
        pass
    }
}

#[cfg(test)]
mod tests {
    use dms_core::SignatureId;
    use dms_core::model::change::{Operation, Position, RowChange, SignatureRow};
    use time::OffsetDateTime;

    use super::*;

    fn change(key: u128) -> Change {
        let row = SignatureRow {
            id: signature_id(key),
            document_id: dms_core::DocumentId::generate(),
            signer_email: String::new(),
            signer_name: String::new(),
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        Change {
            operation: Operation::Create,
            row: RowChange::Signature { before: None, after: Some(row) },
            position: Position::new("1"),
            committed_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn signature_id(key: u128) -> SignatureId {
        format!("00000000-0000-0000-0000-{key:012}").parse().expect("a UUID")
    }

    fn retry() -> Outcome {
        Outcome::Retry("busy".into())
    }

    #[test]
    fn later_changes_of_a_retried_key_go_again_whatever_was_answered() {
        let changes = [1, 2, 1, 1, 2].map(change);
        let outcomes = vec![
            Outcome::Applied,
            Outcome::Applied,
            retry(),
            Outcome::Rejected("no".into()),
            Outcome::AlreadyNewer,
        ];
        let pass = Pass::of(&changes, outcomes);
        let done = vec![(0, Outcome::Applied), (1, Outcome::Applied), (4, Outcome::AlreadyNewer)];
        let expected = Pass { done, again: vec![2, 3], reason: Some("busy".into()) };
        assert_eq!(pass, expected);
    }

    #[test]
    fn without_retries_everything_is_done() {
        let changes = [1, 1].map(change);
        let pass = Pass::of(&changes, vec![Outcome::Skipped("foreign"), Outcome::Applied]);
        assert_eq!(pass.done, [(0, Outcome::Skipped("foreign")), (1, Outcome::Applied)]);
        assert!(pass.again.is_empty());
    }
}
