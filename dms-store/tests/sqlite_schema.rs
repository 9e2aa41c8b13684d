//! The file: migrations, and that nobody changes a row behind the change log's back.
#![cfg(feature = "sqlite")]

use std::collections::BTreeMap;
use std::path::Path;

use dms_core::ports::{
    DocumentRepository as _, IdempotencyKey, IdempotencyRecord, IdempotencyRepository as _,
    Reservation, SignatureRepository as _,
};
use dms_core::{
    Document, DocumentId, ErrorKind, NewDocument, NewSignature, Sha256, Signature, SignatureId,
};
use dms_store::sqlite::{SqliteDatabase, SqliteOptions};
use proptest::prelude::*;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection};

async fn open(path: &Path) -> SqliteDatabase {
    SqliteDatabase::open(path, SqliteOptions::default()).await.unwrap()
}

fn new_document() -> NewDocument {
    let id = DocumentId::generate();
    NewDocument {
        id,
        title: "it's \"a\" title".into(),
        content_type: "text/plain".into(),
        content_size: 5,
        content_sha256: Sha256::of(b"hello"),
        s3_key: Document::content_key(id),
        created_by: "jane".into(),
    }
}

fn new_signature(document_id: DocumentId, signer_email: &str) -> NewSignature {
    let id = SignatureId::generate();
    NewSignature {
        id,
        document_id,
        signer_email: signer_email.into(),
        signer_name: "Jane".into(),
        image_key: Signature::image_key(id),
        image_content_type: "image/png".into(),
    }
}

/// A connection such as the sqlite3 shell has: nothing is set, foreign keys aren't enforced.
async fn shell(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).foreign_keys(false);
    options.connect().await.unwrap()
}

async fn run(connection: &mut SqliteConnection, sql: &str) -> Result<u64, sqlx::Error> {
    Ok(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await?.rows_affected())
}

/// What a follower of the change log makes of it, and what is in the tables.
async fn replayed_and_stored(
    connection: &mut SqliteConnection,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    type Log = Vec<(String, String, Option<String>, Option<String>)>;
    let log: Log =
        sqlx::query_as("SELECT entity, operation, before, after FROM change_log ORDER BY seq")
            .fetch_all(&mut *connection)
            .await
            .unwrap();
    let mut replayed = BTreeMap::new();
    for (entity, operation, before, after) in log {
        let id = |json: &str| {
            let row: serde_json::Value = serde_json::from_str(json).unwrap();
            format!("{entity} {}", row["id"].as_str().unwrap())
        };
        let key = after.as_deref().or(before.as_deref()).map(id).unwrap();
        assert_eq!(replayed.get(&key), before.as_ref(), "before of {operation} of {key}");
        let expected = match (&before, &after) {
            (None, Some(_)) => "create",
            (Some(_), Some(_)) => "update",
            _ => "delete",
        };
        assert_eq!(operation, expected);
        match after {
            Some(after) => replayed.insert(key, after),
            None => replayed.remove(&key),
        };
    }
    let stored: Vec<(String, String)> = sqlx::query_as(
        "SELECT 'document ' || id, json_object(
            'id', id, 'title', title, 'content_type', content_type, 'content_size', content_size,
            'content_sha256', content_sha256, 's3_key', s3_key, 'status', status,
            'created_by', created_by, 'created_at', created_at, 'updated_at', updated_at,
            'version', version, 'deleted', json(iif(deleted_at IS NULL, 'false', 'true')))
        FROM documents
        UNION ALL
        SELECT 'signature ' || id, json_object(
            'id', id, 'document_id', document_id, 'signer_email', signer_email,
            'signer_name', signer_name, 'created_at', created_at)
        FROM signatures",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    (replayed, stored.into_iter().collect())
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dms.db");
    let database = open(&path).await;
    let key = IdempotencyKey::new("documents", None, "key").unwrap();
    let record = IdempotencyRecord { key: key.clone(), request_sha256: Sha256::of(b"request") };
    let document = database.documents().create(new_document(), None, Some(record)).await.unwrap();
    let new = new_signature(document.id, "jane@example.com");
    let signature = database.signatures().create(new, None).await.unwrap();
    database.close().await.unwrap();
    assert!(!folder.path().join("dms.db-wal").exists(), "the log was moved into the file");

    let options = SqliteOptions { migrate: false, ..SqliteOptions::default() };
    let database = SqliteDatabase::open(&path, options).await.unwrap();
    assert_eq!(database.documents().get(document.id).await.unwrap(), document);
    assert_eq!(database.signatures().get(signature.id).await.unwrap(), signature);
    let lease = std::time::Duration::from_mins(1);
    let reservation = database.idempotency().reserve(&key, lease).await.unwrap();
    assert!(matches!(reservation, Reservation::Completed { .. }), "{reservation:?}");
    let mut shell = shell(&path).await;
    let mode: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut shell).await.unwrap();
    assert_eq!(mode, "wal");
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dms.db");
    open(&path).await.close().await.unwrap();
    let mut shell = shell(&path).await;
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9999, 'of tomorrow', TRUE, x'00', 0)";
    run(&mut shell, newer).await.unwrap();
    for migrate in [true, false] {
        let options = SqliteOptions { migrate, ..SqliteOptions::default() };
        let error = SqliteDatabase::open(&path, options).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "schema_newer"));
        assert!(error.to_string().contains("9999"), "{error}");
    }
}

#[tokio::test]
async fn an_older_schema_is_refused_unless_migrations_are_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dms.db");
    let off = SqliteOptions { migrate: false, ..SqliteOptions::default() };
    let error = SqliteDatabase::open(&path, off.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "schema_older"));
    open(&path).await.close().await.unwrap();
    SqliteDatabase::open(&path, off).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_migration_that_was_tampered_with_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dms.db");
    open(&path).await.close().await.unwrap();
    let mut shell = shell(&path).await;
    run(&mut shell, "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1")
        .await
        .unwrap();
    let error = SqliteDatabase::open(&path, SqliteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(std::error::Error::source(&error).is_some(), "the cause is kept");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dms.db");
    let letter = "Dear Jane, ".repeat(500);
    std::fs::write(&path, &letter).unwrap();
    let error = SqliteDatabase::open(&path, SqliteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), letter);

    let missing = folder.path().join("missing").join("dms.db");
    let error = SqliteDatabase::open(&missing, SqliteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_may_create_the_file_at_once() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dms.db");
        let opened = futures_util::future::join_all((0..4).map(|_| {
            let path = path.clone();
            tokio::spawn(async move { open(&path).await })
        }));
        for database in opened.await {
            database.unwrap().close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn who_forgets_the_version_gets_it_raised_and_logged_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dms.db");
    let database = open(&path).await;
    let documents = database.documents();
    let first = documents.create(new_document(), None, None).await.unwrap();
    let second = documents.create(new_document(), None, None).await.unwrap();
    for recursive in ["OFF", "ON"] {
        let mut shell = shell(&path).await;
        run(&mut shell, &format!("PRAGMA recursive_triggers = {recursive}")).await.unwrap();
        run(&mut shell, "UPDATE documents SET title = title || '!'").await.unwrap();
        let (replayed, stored) = replayed_and_stored(&mut shell).await;
        assert_eq!(replayed, stored);
        shell.close().await.unwrap();
    }
    for document in [first, second] {
        let read = documents.get(document.id).await.unwrap();
        assert_eq!(read.version, 3);
        assert_eq!(read.title, format!("{}!!", document.title));
        assert!(read.updated_at > document.updated_at);
    }
    let logged: i64 = sqlx::query_scalar("SELECT count(*) FROM change_log")
        .fetch_one(&database.read_pool())
        .await
        .unwrap();
    assert_eq!(logged, 6);
    database.close().await.unwrap();
}

#[tokio::test]
async fn rows_are_not_changed_behind_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dms.db");
    let database = open(&path).await;
    let one = database.documents().create(new_document(), None, None).await.unwrap().id;
    let two = database.documents().create(new_document(), None, None).await.unwrap().id;
    for email in ["a@example.com", "b@example.com"] {
        database.signatures().create(new_signature(one, email), None).await.unwrap();
    }
    let mut shell = shell(&path).await;
    let before = replayed_and_stored(&mut shell).await;
    for refused in [
        "UPDATE documents SET version = version + 2".to_owned(),
        "UPDATE documents SET version = version - 1".to_owned(),
        "UPDATE documents SET version = 7, title = 'x'".to_owned(),
        format!("UPDATE OR REPLACE documents SET id = '{one}' WHERE id = '{two}'"),
        format!("UPDATE documents SET id = '{}' WHERE id = '{two}'", DocumentId::generate()),
        "INSERT OR REPLACE INTO documents SELECT * FROM documents".to_owned(),
        "REPLACE INTO signatures SELECT * FROM signatures".to_owned(),
        "UPDATE OR REPLACE signatures SET signer_email = 'B@example.com'".to_owned(),
        "UPDATE OR REPLACE documents SET rowid = 1".to_owned(),
        "UPDATE documents SET updated_at = datetime('now')".to_owned(),
        "UPDATE documents SET status = 'lost'".to_owned(),
        "UPDATE documents SET title = ''".to_owned(),
        "UPDATE documents SET content_size = 'many'".to_owned(),
    ] {
        let result = run(&mut shell, &refused).await;
        assert!(result.is_err(), "{refused}");
        assert_eq!(replayed_and_stored(&mut shell).await, before, "{refused}");
    }
    shell.close().await.unwrap();
    database.close().await.unwrap();
}

/// Statements that somebody might type, whether they are accepted or not.
fn typed() -> impl Strategy<Value = String> {
    let n = 0..4_u8;
    let id = n.prop_map(|n| format!("0198c0de-0000-7000-8000-00000000000{n}"));
    let verb = prop_oneof!["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE", "REPLACE"]
        .prop_map(|verb: String| verb);
    let verb = verb.boxed();
    let at = "'2026-01-01T00:00:00.000000Z'";
    let sha = "a".repeat(64);
    let insert_document = (verb.clone(), id.clone(), 1..3_i32).prop_map(move |(verb, id, version)| {
        format!(
            "{verb} INTO documents VALUES ('{id}', 't', 'text/plain', 1, '{sha}', 'k', 'created', \
             'jane', {at}, {at}, {version}, NULL)"
        )
    });
    let insert_signature =
        (verb, id.clone(), id.clone(), 0..3_u8).prop_map(move |(verb, id, document, email)| {
            format!(
                "{verb} INTO signatures VALUES ('{id}', '{document}', '{email}@example.com', 'n', \
                 'k', 'image/png', {at}, 0)"
            )
        });
    let set = prop::sample::select(vec![
        "title = title || 'x'",
        "title = 'y', version = version + 1",
        "version = version + 1",
        "version = version + 2",
        "version = 1",
        "status = 'signed', created_by = 'john'",
        "deleted_at = '2026-01-02T00:00:00.000000Z'",
        "deleted_at = NULL, updated_at = '2026-01-03T00:00:00.000000Z'",
        "id = '0198c0de-0000-7000-8000-000000000002'",
    ]);
    let or = prop::sample::select(vec!["", "OR REPLACE", "OR IGNORE", "OR ROLLBACK"]);
    let filter = (id.clone(), any::<bool>())
        .prop_map(|(id, all)| if all { String::new() } else { format!("WHERE id = '{id}'") });
    let update_documents = (or.clone(), set, filter.clone())
        .prop_map(|(or, set, filter)| format!("UPDATE {or} documents SET {set} {filter}"));
    let set = prop::sample::select(vec![
        "signer_name = signer_name || 'x'",
        "signer_email = '1@EXAMPLE.com'",
        "status_applied = 1",
        "image_key = 'other'",
        "document_id = '0198c0de-0000-7000-8000-000000000001'",
        "id = '0198c0de-0000-7000-8000-000000000003'",
    ]);
    let update_signatures = (or, set, filter.clone())
        .prop_map(|(or, set, filter)| format!("UPDATE {or} signatures SET {set} {filter}"));
    let delete = (prop::sample::select(vec!["documents", "signatures"]), filter)
        .prop_map(|(table, filter)| format!("DELETE FROM {table} {filter}"));
    let recursive = prop::sample::select(vec![
        "PRAGMA recursive_triggers = ON".to_owned(),
        "PRAGMA recursive_triggers = OFF".to_owned(),
    ]);
    prop_oneof![
        4 => insert_document,
        3 => insert_signature,
        4 => update_documents,
        3 => update_signatures,
        2 => delete,
        1 => recursive,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_replays_to_the_tables_whatever_is_typed(
        statements in prop::collection::vec(typed(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("dms.db");
            open(&path).await.close().await.unwrap();
            let mut shell = shell(&path).await;
            run(&mut shell, "PRAGMA synchronous = OFF").await.unwrap();
            let mut versions = BTreeMap::new();
            for sql in &statements {
                // Whether it is accepted doesn't matter here.
                let _ = run(&mut shell, sql).await;
                let (replayed, stored) = replayed_and_stored(&mut shell).await;
                assert_eq!(replayed, stored, "{sql}");
                let now: Vec<(String, i32)> = sqlx::query_as("SELECT id, version FROM documents")
                    .fetch_all(&mut shell)
                    .await
                    .unwrap();
                let now: BTreeMap<_, _> = now.into_iter().collect();
                for (id, version) in &now {
                    let before = versions.get(id).copied().unwrap_or_default();
                    assert!(before <= *version, "{sql} lowered a version");
                }
                versions = now;
            }
        });
    }
}
