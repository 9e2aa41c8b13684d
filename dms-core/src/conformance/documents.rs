//! Documents: [`DocumentRepository`].

mod lists;

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;

use futures_util::future::{join, join_all};

use crate::model::text::{TextFormat, TextKey};
use crate::ports::{
    DocumentRepository, IdempotencyKey, IdempotencyRecord, IdempotencyRepository, Reservation,
    TextRepository,
};
use crate::{
    Document, DocumentId, DocumentPatch, DocumentStatus, Error, ErrorKind, ListQuery, NewDocument,
    Result, Sha256,
};

/// Strings that have broken stores before.
const AWKWARD: [&str; 8] = [
    "it's",
    "\"quoted\"",
    "back\\slash",
    "'; DROP TABLE documents; --",
    "{\"json\":[1,null]}",
    "100 % _ * ?",
    "Ærøskøbing 文書 🖋️ e\u{301}",
    "$1 ?1 :a @b",
];

/// The three ports that meet in [`DocumentRepository::create`], on one database.
#[derive(Clone, Copy)]
pub struct DocumentPorts<'a> {
    /// What is checked.
    pub documents: &'a dyn DocumentRepository,
    /// Shows the texts that are kept with documents.
    pub texts: &'a dyn TextRepository,
    /// Shows the keys that are completed with documents.
    pub idempotency: &'a dyn IdempotencyRepository,
}

/// Checks everything that [`DocumentRepository`] promises, except durability and cancellation,
/// which depend on what an implementation is made of. Leaves its documents behind.
///
/// # Panics
/// If a promise is broken.
pub async fn suite(ports: DocumentPorts<'_>) {
    ports.documents.check().await.expect("check of a repository that works");
    create_and_get(ports.documents).await;
    awkward_strings(ports.documents).await;
    text_is_kept_with_the_document(ports).await;
    key_is_completed_with_the_document(ports).await;
    concurrent_creates(ports).await;
    update(ports.documents).await;
    update_once(ports).await;
    concurrent_updates(ports.documents).await;
    delete(ports.documents).await;
    lists::pages(ports.documents).await;
    lists::filters(ports.documents).await;
    lists::scan(ports.documents).await;
    lists::referenced(ports.documents).await;
}

/// A document that nobody has seen yet, of a creator nobody has seen yet.
pub(super) fn new_document() -> NewDocument {
    let id = DocumentId::generate();
    NewDocument {
        id,
        title: format!("title of {id}"),
        content_type: "text/plain".into(),
        content_size: 11,
        content_sha256: Sha256::of(id.as_uuid().as_bytes()),
        s3_key: Document::content_key(id),
        created_by: format!("creator of {id}"),
    }
}

/// A key that nobody has used yet, of a request with this digest.
pub(super) fn record(request: &[u8]) -> IdempotencyRecord {
    let key = DocumentId::generate().to_string();
    IdempotencyRecord {
        key: IdempotencyKey::new("conformance", Some("suite"), &key).expect("a valid key"),
        request_sha256: Sha256::of(request),
    }
}

/// The error of a call that must fail.
pub(super) fn refusal<T: Debug>(
    result: Result<T>,
    kind: ErrorKind,
    code: &str,
    step: &str,
) -> Error {
    match result {
        Ok(value) => panic!("{step}: succeeded with {value:?}"),
        Err(error) => {
            assert_eq!((error.kind(), error.code()), (kind, code), "{step}: {error:?}");
            error
        }
    }
}

fn not_found<T: Debug>(result: Result<T>, step: &str) {
    refusal(result, ErrorKind::NotFound, "not_found", step);
}

fn version_mismatch<T: Debug>(result: Result<T>, current: i32, step: &str) {
    let error = refusal(result, ErrorKind::VersionMismatch, "version_mismatch", step);
    assert_eq!(error.current_version(), Some(current), "{step}: current version");
}

async fn create_and_get(documents: &dyn DocumentRepository) {
    let new = new_document();
    not_found(documents.get(new.id).await, "get before create");
    let created = documents.create(new.clone(), None, None).await.expect("create");
    assert_eq!(created.id, new.id, "create: id");
    assert_eq!(created.title, new.title, "create: title");
    assert_eq!(created.content_type, new.content_type, "create: content type");
    assert_eq!(created.content_size, new.content_size, "create: content size");
    assert_eq!(created.content_sha256, new.content_sha256, "create: digest");
    assert_eq!(created.s3_key, new.s3_key, "create: key of the content");
    assert_eq!(created.created_by, new.created_by, "create: creator");
    assert_eq!(created.status, DocumentStatus::Created, "create: status");
    assert_eq!(created.version, 1, "create: version");
    assert_eq!(created.created_at, created.updated_at, "create: times");
    assert_eq!(created.created_at.nanosecond() % 1_000, 0, "create: finer than microseconds");
    assert_eq!(documents.get(new.id).await.expect("get"), created, "get after create");

    let other = NewDocument { id: new.id, ..new_document() };
    refusal(
        documents.create(other, None, None).await,
        ErrorKind::Conflict,
        "already_exists",
        "create with an id that is taken",
    );
    assert_eq!(documents.get(new.id).await.expect("get"), created, "refused create changed it");
}

async fn awkward_strings(documents: &dyn DocumentRepository) {
    let longest: String = "ß".repeat(500);
    for text in AWKWARD.into_iter().chain([longest.as_str()]) {
        let new = NewDocument {
            title: text.into(),
            created_by: text.chars().take(320).collect(),
            content_size: (1 << 53) - 1,
            ..new_document()
        };
        let created = documents.create(new.clone(), None, None).await.expect("create");
        assert_eq!((&created.title, &created.created_by), (&new.title, &new.created_by));
        let query = ListQuery { created_by: Some(new.created_by.clone()), ..ListQuery::default() };
        let page = documents.list(&query).await.expect("list");
        assert_eq!(page.documents.first(), Some(&created), "list by creator {text}");

        let title = format!("{}!", text.chars().take(499).collect::<String>());
        let patch = DocumentPatch { title: Some(title.clone()), status: None };
        let updated = documents.update(new.id, &patch, None, None).await.expect("update");
        assert_eq!(updated.document.title, title, "update to {title}");
        assert_eq!(documents.get(new.id).await.expect("get"), updated.document);
    }
}

async fn text_is_kept_with_the_document(ports: DocumentPorts<'_>) {
    let new = new_document();
    let key = TextKey { content_sha256: new.content_sha256, format: TextFormat::Plain };
    let text = "first\0text".to_owned();
    ports.documents.create(new.clone(), Some((key, text.clone())), None).await.expect("create");
    let kept = ports.texts.get_many(&[key]).await.expect("get_many");
    assert_eq!(kept, HashMap::from([(key, text.clone())]), "text after create");

    let same_content = NewDocument { content_sha256: new.content_sha256, ..new_document() };
    let other = Some((key, "other".to_owned()));
    ports.documents.create(same_content, other, None).await.expect("create with a known text");
    let kept = ports.texts.get_many(&[key]).await.expect("get_many");
    assert_eq!(kept.get(&key), Some(&text), "a text that is there stays");

    let digest = Sha256::of(new.id.to_string().as_bytes());
    let unused = TextKey { content_sha256: digest, format: TextFormat::Plain };
    let again = NewDocument { id: new.id, ..new_document() };
    let refused = ports.documents.create(again, Some((unused, "x".into())), None).await;
    refusal(refused, ErrorKind::Conflict, "already_exists", "create with text and a taken id");
    let kept = ports.texts.get_many(&[unused]).await.expect("get_many");
    assert_eq!(kept, HashMap::new(), "a refused create keeps no text");
}

async fn completed(ports: DocumentPorts<'_>, record: &IdempotencyRecord) -> Option<Reservation> {
    let lease = std::time::Duration::from_mins(1);
    match ports.idempotency.reserve(&record.key, lease).await.expect("reserve") {
        Reservation::Acquired => {
            ports.idempotency.release(&record.key).await.expect("release");
            None
        }
        Reservation::Running => panic!("key {:?} still reserved", record.key),
        completed @ Reservation::Completed { .. } => Some(completed),
    }
}

async fn key_is_completed_with_the_document(ports: DocumentPorts<'_>) {
    let record = record(b"create");
    let new = new_document();
    let created =
        ports.documents.create(new, None, Some(record.clone())).await.expect("create with a key");
    let expected = Reservation::Completed {
        request_sha256: record.request_sha256,
        resource_id: created.id.as_uuid(),
        first_answer: serde_json::to_value(&created).expect("JSON of a document"),
    };
    assert_eq!(completed(ports, &record).await, Some(expected.clone()), "key after create");

    let patch = DocumentPatch::status(DocumentStatus::Signed);
    ports.documents.update(created.id, &patch, None, None).await.expect("update");
    assert_eq!(completed(ports, &record).await, Some(expected), "the first answer is kept");

    let late = new_document();
    let text = TextKey { content_sha256: late.content_sha256, format: TextFormat::Plain };
    refusal(
        ports.documents.create(late.clone(), Some((text, "late".into())), Some(record)).await,
        ErrorKind::Conflict,
        "idempotency_key_completed",
        "create with a completed key",
    );
    not_found(ports.documents.get(late.id).await, "document of a completed key");
    let kept = ports.texts.get_many(&[text]).await.expect("get_many");
    assert_eq!(kept, HashMap::new(), "text of a completed key");

    let unused = self::record(b"create");
    let taken = NewDocument { id: created.id, ..new_document() };
    refusal(
        ports.documents.create(taken, None, Some(unused.clone())).await,
        ErrorKind::Conflict,
        "already_exists",
        "create with a key and a taken id",
    );
    assert_eq!(completed(ports, &unused).await, None, "a refused create completes no key");
}

async fn concurrent_creates(ports: DocumentPorts<'_>) {
    let by = new_document().created_by;
    let news: Vec<_> =
        (0..64).map(|_| NewDocument { created_by: by.clone(), ..new_document() }).collect();
    let creates = news.iter().map(|new| ports.documents.create(new.clone(), None, None));
    for created in join_all(creates).await {
        created.expect("one of many creates");
    }
    let query = ListQuery { limit: 100, created_by: Some(by), ..ListQuery::default() };
    let page = ports.documents.list(&query).await.expect("list");
    let mut expected: Vec<_> = news.iter().map(|new| new.id).collect();
    expected.reverse();
    assert_eq!(lists::ids(&page.documents), expected, "many creates are all there");

    let record = record(b"race");
    let racers: Vec<_> = (0..16).map(|_| new_document()).collect();
    let creates =
        racers.iter().map(|new| ports.documents.create(new.clone(), None, Some(record.clone())));
    let results = join_all(creates).await;
    let winners = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(winners, 1, "creates with one key");
    for (new, result) in racers.iter().zip(results) {
        if let Err(error) = result {
            assert_eq!(error.code(), "idempotency_key_completed", "creates with one key");
            not_found(ports.documents.get(new.id).await, "the loser of creates with one key");
        }
    }
}

async fn update(documents: &dyn DocumentRepository) {
    let created = documents.create(new_document(), None, None).await.expect("create");
    let id = created.id;

    let patch = DocumentPatch::status(DocumentStatus::Viewed);
    let updated = documents.update(id, &patch, None, None).await.expect("update the status");
    assert!(updated.changed, "update the status: changed");
    let updated = updated.document;
    assert_eq!(updated.version, 2, "update the status: version");
    assert_eq!(updated.status, DocumentStatus::Viewed, "update the status");
    assert_eq!(updated.title, created.title, "update the status: title");
    assert_eq!(updated.created_at, created.created_at, "update the status: time of creation");
    assert!(updated.updated_at >= created.updated_at, "update the status: time of update");
    assert_eq!(documents.get(id).await.expect("get"), updated, "get after update");

    let both =
        DocumentPatch { status: Some(DocumentStatus::Signed), title: Some("another title".into()) };
    let updated = documents.update(id, &both, Some(2), None).await.expect("update both").document;
    assert_eq!((updated.version, updated.status), (3, DocumentStatus::Signed), "update both");
    assert_eq!(updated.title, "another title", "update both");

    let title_only = DocumentPatch { title: Some("another title".into()), status: None };
    for noop in [&both, &title_only, &DocumentPatch::default()] {
        let same = documents.update(id, noop, Some(3), None).await.expect("update to the same");
        assert!(!same.changed, "update to the same: changed");
        assert_eq!(same.document, updated, "update to the same");
    }
    assert_eq!(documents.get(id).await.expect("get"), updated, "updates to the same change it");

    version_mismatch(documents.update(id, &patch, Some(2), None).await, 3, "update at 2 of 3");
    version_mismatch(documents.update(id, &patch, Some(4), None).await, 3, "update at 4 of 3");
    version_mismatch(documents.update(id, &both, Some(2), None).await, 3, "same at 2 of 3");
    assert_eq!(documents.get(id).await.expect("get"), updated, "refused updates change it");

    let back = DocumentPatch::status(DocumentStatus::Created);
    let updated = documents.update(id, &back, None, None).await.expect("update back");
    assert_eq!(updated.document.version, 4, "any status may follow any other");
    not_found(
        documents.update(DocumentId::generate(), &patch, None, None).await,
        "update of an unknown document",
    );
    not_found(
        documents.update(DocumentId::generate(), &patch, Some(1), None).await,
        "update of an unknown document at a version",
    );
}

async fn update_once(ports: DocumentPorts<'_>) {
    let documents = ports.documents;
    let id = documents.create(new_document(), None, None).await.expect("create").id;
    let signed = DocumentPatch::status(DocumentStatus::Signed);
    let viewed = DocumentPatch::status(DocumentStatus::Viewed);
    let once = record(b"sign");

    let refused = documents.update(id, &signed, Some(7), Some(once.clone())).await;
    version_mismatch(refused, 1, "update with a key at a wrong version");
    assert_eq!(completed(ports, &once).await, None, "a refused update completes no key");

    let first = documents.update(id, &signed, None, Some(once.clone())).await.expect("first");
    assert!(first.changed, "first update with a key");
    assert_eq!(first.document.version, 2, "first update with a key");
    match completed(ports, &once).await {
        Some(Reservation::Completed { request_sha256, resource_id, .. }) => {
            assert_eq!(request_sha256, once.request_sha256, "digest of the update");
            assert_eq!(resource_id, id.as_uuid(), "resource of the update");
        }
        other => panic!("key after an update: {other:?}"),
    }

    let meanwhile = documents.update(id, &viewed, None, None).await.expect("meanwhile").document;
    let again = documents.update(id, &signed, None, Some(once.clone())).await.expect("again");
    assert!(!again.changed, "second update with a key");
    assert_eq!(again.document, meanwhile, "second update with a key gives it as it is now");
    let again = documents.update(id, &signed, Some(1), Some(once.clone())).await;
    assert_eq!(again.expect("again").document, meanwhile, "whatever version the first expected");

    let other = IdempotencyRecord { request_sha256: Sha256::of(b"other"), ..once.clone() };
    refusal(
        documents.update(id, &signed, None, Some(other)).await,
        ErrorKind::Invalid,
        "idempotency_key_reused",
        "another update with the key",
    );

    let noop = record(b"view");
    let same = documents.update(id, &viewed, None, Some(noop.clone())).await.expect("no change");
    assert!(!same.changed, "update to the same with a key");
    documents.update(id, &signed, None, None).await.expect("update");
    let again = documents.update(id, &viewed, None, Some(noop)).await.expect("again");
    assert_eq!(again.document.status, DocumentStatus::Signed, "an update to the same is used up");

    let unknown = record(b"unknown");
    let refused = documents.update(DocumentId::generate(), &viewed, None, Some(unknown.clone()));
    not_found(refused.await, "update of an unknown document with a key");
    assert_eq!(completed(ports, &unknown).await, None, "nothing found completes no key");

    let race = record(b"race");
    let racers = (0..8).map(|_| documents.update(id, &viewed, None, Some(race.clone())));
    let changed = join_all(racers).await.into_iter().filter(|r| r.as_ref().unwrap().changed);
    assert_eq!(changed.count(), 1, "concurrent updates with one key");

    documents.delete(id, None).await.expect("delete");
    let gone = documents.update(id, &signed, None, Some(once)).await;
    not_found(gone, "second update with a key of a deleted document");
}

async fn concurrent_updates(documents: &dyn DocumentRepository) {
    let id = documents.create(new_document(), None, None).await.expect("create").id;
    for version in 1..=10 {
        let patches: Vec<_> = (0..8)
            .map(|n| DocumentPatch { title: Some(format!("{n} at {version}")), status: None })
            .collect();
        let writers = patches.iter().map(|p| documents.update(id, p, Some(version), None));
        let (results, read) = join(join_all(writers), documents.get(id)).await;
        assert!((version..=version + 1).contains(&read.expect("get").version), "read meanwhile");
        let mut winners = Vec::new();
        for result in results {
            match result {
                Ok(updated) => winners.push(updated.document),
                Err(_) => version_mismatch(result, version + 1, "the loser of updates"),
            }
        }
        assert_eq!(winners.len(), 1, "updates that expect version {version}");
        assert_eq!(documents.get(id).await.expect("get"), winners[0], "the winner of updates");
    }

    let patches: Vec<_> = (0..32)
        .map(|n| DocumentPatch { title: Some(format!("unconditional {n}")), status: None })
        .collect();
    let writers = patches.iter().map(|patch| documents.update(id, patch, None, None));
    let versions: HashSet<_> =
        join_all(writers).await.into_iter().map(|r| r.unwrap().document.version).collect();
    assert_eq!(versions, (12..44).collect(), "each update raises the version by one");
}

async fn delete(documents: &dyn DocumentRepository) {
    let created = documents.create(new_document(), None, None).await.expect("create");
    let id = created.id;
    let deleted = documents.delete(id, Some(2)).await;
    version_mismatch(deleted, 1, "delete at a wrong version");
    assert_eq!(documents.get(id).await.expect("get"), created, "refused delete changed it");
    assert_eq!(documents.delete(id, Some(1)).await.expect("delete"), 2, "version of the deletion");

    not_found(documents.get(id).await, "get of a deleted document");
    let patch = DocumentPatch::status(DocumentStatus::Viewed);
    not_found(documents.update(id, &patch, None, None).await, "update of a deleted document");
    not_found(documents.update(id, &patch, Some(2), None).await, "update at its version");
    not_found(documents.delete(id, None).await, "delete of a deleted document");
    not_found(documents.delete(DocumentId::generate(), None).await, "delete of an unknown one");
    let query = ListQuery { created_by: Some(created.created_by), ..ListQuery::default() };
    let page = documents.list(&query).await.expect("list");
    assert_eq!(page.documents, [], "list of a deleted document");
    let again = NewDocument { id, ..new_document() };
    refusal(
        documents.create(again, None, None).await,
        ErrorKind::Conflict,
        "already_exists",
        "create with the id of a deleted document",
    );

    let id = documents.create(new_document(), None, None).await.expect("create").id;
    let results = join_all((0..4).map(|_| documents.delete(id, None))).await;
    let won = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1, "concurrent deletes");
}
