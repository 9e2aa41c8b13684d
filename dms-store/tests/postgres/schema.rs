//! The schema: migrations, and what the database sees to itself, whoever writes.

use std::time::Duration;

use dms_core::ports::{DocumentRepository as _, IdempotencyRepository as _, Reservation};
use dms_core::ports::{IdempotencyKey, SignatureRepository as _};
use dms_core::{ErrorKind, ListQuery};
use dms_store::postgres::{PostgresDatabase, PostgresOptions};
use futures_util::future::join_all;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, query_as};

use super::bed::{Bed, new_document, new_signature, prepared, run};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn several_instances_migrate_at_once() {
    let bed = Bed::new().await;
    let databases: Vec<_> = (0..8).map(|_| PostgresDatabase::new(bed.direct()).unwrap()).collect();
    for prepared in join_all(databases.iter().map(PostgresDatabase::prepare)).await {
        prepared.unwrap();
    }
    let applied: Vec<(i64, bool)> =
        query_as("SELECT version, success FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&mut bed.shell().await)
            .await
            .unwrap();
    assert_eq!(applied, [(1, true), (2, true), (3, true), (4, true)]);
    let document = databases[0].documents().create(new_document(), None, None).await.unwrap();
    assert_eq!(databases[7].documents().get(document.id).await.unwrap(), document);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PgBouncer"]
async fn migrations_through_the_pooler_do_when_there_is_no_other_way() {
    let bed = Bed::new().await;
    let options = PostgresOptions { direct_url: None, ..bed.pooled() };
    let databases: Vec<_> =
        (0..4).map(|_| PostgresDatabase::new(options.clone()).unwrap()).collect();
    for prepared in join_all(databases.iter().map(PostgresDatabase::prepare)).await {
        prepared.unwrap();
    }
    databases[0].check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn another_schema_is_refused_and_left_alone() {
    let bed = Bed::new().await;
    let refused = async |migrate: bool, code: &str, says: &str| {
        let database = PostgresDatabase::new(PostgresOptions { migrate, ..bed.direct() }).unwrap();
        let error = database.prepare().await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, code), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        database
    };
    let empty = refused(false, "schema_older", "at 0").await;
    let error = empty.documents().list(&ListQuery::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "not migrated yet: {error:?}");
    assert!(error.retry_after().is_some());
    assert_eq!(empty.check().await.unwrap_err().dependency(), Some("database"));

    prepared(bed.direct()).await.close().await;
    empty.check().await.expect("migrated by another process");
    prepared(PostgresOptions { migrate: false, ..bed.direct() }).await.close().await;

    let mut shell = bed.shell().await;
    run(&mut shell, "DELETE FROM _sqlx_migrations WHERE version = 4").await.unwrap();
    refused(false, "schema_older", "at 3").await;
    run(
        &mut shell,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9999, 'of tomorrow', TRUE, '', 0)",
    )
    .await
    .unwrap();
    refused(true, "schema_newer", "9999").await;
    refused(false, "schema_newer", "9999").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_migration_that_was_changed_afterwards_is_refused() {
    let bed = Bed::new().await;
    prepared(bed.direct()).await.close().await;
    let mut shell = bed.shell().await;
    run(&mut shell, "UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = 2").await.unwrap();
    let database = PostgresDatabase::new(bed.direct()).unwrap();
    assert_eq!(database.prepare().await.unwrap_err().kind(), ErrorKind::Internal);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn versions_rise_whoever_writes_and_whatever_they_say() {
    let bed = Bed::new().await;
    let database = prepared(bed.direct()).await;
    let created = database.documents().create(new_document(), None, None).await.unwrap();
    let mut shell = bed.shell().await;
    let mut version = 1;
    for forgetful in [
        "UPDATE documents SET title = 'another'",
        "UPDATE documents SET title = title",
        "UPDATE documents SET status = 'signed', version = 77, updated_at = '1999-01-01'",
        "UPDATE documents SET version = version",
        "UPDATE documents SET deleted_at = now()",
        "UPDATE documents SET deleted_at = NULL, version = version + 1",
    ] {
        run(&mut shell, forgetful).await.unwrap();
        version += 1;
        let rows = database.documents().scan(None, 10).await.unwrap();
        assert_eq!(rows[0].version, version, "{forgetful}");
        assert!(rows[0].updated_at >= created.updated_at, "{forgetful}");
    }
    let document = database.documents().get(created.id).await.unwrap();
    assert_eq!(document.created_at, created.created_at);
    assert_eq!(database.documents().delete(created.id, Some(version)).await.unwrap(), version + 1);

    for refused in [
        "UPDATE documents SET id = gen_random_uuid()",
        "UPDATE documents SET status = 'lost'",
        "UPDATE documents SET content_sha256 = 'x'",
        "UPDATE documents SET title = ''",
    ] {
        let error = run(&mut shell, refused).await.unwrap_err();
        let error = error.as_database_error().unwrap();
        assert!(error.constraint().is_some_and(|name| name.starts_with("documents_")), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn documents_and_signatures_are_published_whole_and_nothing_else() {
    let bed = Bed::new().await;
    let mut shell = bed.shell().await;
    // Somebody has made it beforehand.
    run(&mut shell, "CREATE PUBLICATION cdc").await.unwrap();
    prepared(bed.direct()).await.close().await;
    let published: Vec<(String, String)> = query_as(
        "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = 'cdc' ORDER BY 2",
    )
    .fetch_all(&mut shell)
    .await
    .unwrap();
    let public = |table: &str| ("public".to_owned(), table.to_owned());
    assert_eq!(published, [public("documents"), public("signatures")]);
    let whole: Vec<(String,)> = query_as(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relreplident = 'f' ORDER BY 1",
    )
    .fetch_all(&mut shell)
    .await
    .unwrap();
    assert_eq!(whole, [("documents".to_owned(),), ("signatures".to_owned(),)]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn lists_and_lookups_are_served_by_indexes() {
    let bed = Bed::new().await;
    prepared(bed.direct()).await.close().await;
    let mut shell = bed.shell().await;
    run(
        &mut shell,
        "INSERT INTO documents
            (id, title, content_type, content_size, content_sha256, s3_key, created_by, status)
        SELECT gen_random_uuid(), 't', 'text/plain', 1, repeat('0', 64), 'k', 'creator ' || n % 50,
            (ARRAY['created', 'viewed', 'signed'])[1 + n % 3]
        FROM generate_series(1, 20000) AS n;
        ANALYZE documents",
    )
    .await
    .unwrap();
    for (filter, index) in [
        ("TRUE", "documents_live"),
        ("status = 'viewed'", "documents_live_by_status"),
        ("created_by = 'creator 7' AND status = 'viewed'", "documents_live_by_creator"),
    ] {
        let sql = format!(
            "EXPLAIN SELECT * FROM documents WHERE deleted_at IS NULL AND {filter}
            AND id < 'ffffffff-ffff-ffff-ffff-ffffffffffff' ORDER BY id DESC LIMIT 21"
        );
        let plan: Vec<(String,)> =
            query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut shell).await.unwrap();
        let plan: String = plan.into_iter().map(|(line,)| line + "\n").collect();
        assert!(plan.contains(&format!("using {index} ")), "{filter}: {plan}");
        assert!(!plan.contains("Sort"), "{filter}: {plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PgBouncer"]
async fn sessions_of_either_kind_are_bounded_by_the_server() {
    const SETTINGS: &str = "SELECT current_setting('statement_timeout'),
        current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')";
    // What an operator has set stays.
    for (bed, lock_timeout) in
        [(Bed::new().await, "1s"), (Bed::new().await.with_lock_timeout("7s").await, "7s")]
    {
        prepared(bed.pooled()).await.close().await;
        for url in [bed.direct_url(), bed.pooled_url()] {
            let mut session = PgConnection::connect(&url).await.unwrap();
            let bounds: (String, String, String) =
                query_as(SETTINGS).fetch_one(&mut session).await.unwrap();
            assert_eq!(bounds, ("1min".into(), lock_timeout.into(), "5min".into()), "{url}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_reservation_holds_across_processes() {
    let bed = Bed::new().await;
    let one = prepared(bed.direct()).await;
    let other = prepared(bed.direct()).await;
    let lease = Duration::from_mins(1);
    for round in 0..20 {
        let key = IdempotencyKey::new("documents", Some("jane"), &round.to_string()).unwrap();
        let (one, other) = (one.idempotency(), other.idempotency());
        let racers = (0..8).map(|n| if n % 2 == 0 { &one } else { &other }.reserve(&key, lease));
        let reservations = join_all(racers).await;
        let acquired =
            reservations.iter().filter(|r| matches!(r, Ok(Reservation::Acquired))).count();
        assert_eq!(acquired, 1, "{reservations:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn text_that_the_database_cannot_hold_is_refused_by_name() {
    let bed = Bed::new().await;
    let database = prepared(bed.direct()).await;
    let mut new = new_document();
    new.title = "a\0b".into();
    let error = database.documents().create(new, None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    // The connection is as good as before.
    let document = database.documents().create(new_document(), None, None).await.unwrap();
    let signature = new_signature(document.id, "a@example.com");
    database.signatures().create(signature, None).await.unwrap();
    assert_eq!(database.pool_stats().idle, 1);
}
