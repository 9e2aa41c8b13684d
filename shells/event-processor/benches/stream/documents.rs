//! Documents that are the same in every run, as rows, as Debezium's envelopes and as entries of an
//! index.

use std::fmt::Write as _;
use std::time::SystemTime;

use dms_core::model::change::DocumentRow;
use dms_core::model::search::IndexEntry;
use dms_core::model::timestamp;
use dms_core::{DocumentId, DocumentStatus, Sha256};
use sqlx::postgres::PgPoolOptions;

use crate::system::System;

/// Rows inserted in one statement.
const INSERT: usize = 2_000;
const WRITTEN_AT: &str = "2026-11-26T08:16:05.763837Z";

/// So many documents, each with so much text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Documents {
    pub(crate) count: u64,
    pub(crate) text_bytes: usize,
}

impl Documents {
    pub(crate) fn all(self) -> impl Iterator<Item = IndexEntry> {
        (0..self.count).map(move |number| self.entry(number))
    }

    fn entry(self, number: u64) -> IndexEntry {
        let mut words = Words(number);
        let text = words.text(self.text_bytes);
        let has_text = !text.is_empty();
        let id = format!("0198c0de-0000-7000-8000-{number:012x}");
        let id: DocumentId = id.parse().expect("an id");
        let at = timestamp::parse(WRITTEN_AT).expect("a time");
        let content_sha256 = if has_text {
            Sha256::of(text.as_bytes())
        } else {
            Sha256::of(id.as_uuid().as_bytes())
        };
        let row = DocumentRow {
            id,
            title: format!("Agreement {}", words.text(30)),
            // Of the one kind text is known, of the other there is none.
            content_type: if has_text { "text/plain" } else { "application/pdf" }.to_owned(),
            content_size: if has_text { text.len() as u64 } else { 48_211 },
            content_sha256: Some(content_sha256),
            s3_key: Some(format!("{id}/content")),
            status: DocumentStatus::Created,
            created_by: format!("user{}@example.org", number % 1_000),
            created_at: at,
            updated_at: at,
            version: 1,
            deleted: false,
        };
        IndexEntry { row, text }
    }

    /// Makes the rows and the texts, so that the index is to have what the topic says.
    pub(crate) async fn insert(self, system: &System) {
        let pool = PgPoolOptions::new().max_connections(1).connect(&system.database_url()).await;
        let pool = pool.expect("PostgreSQL runs");
        // What the disk can do isn't measured.
        sqlx::query("SET synchronous_commit = off").execute(&pool).await.expect("set");
        let mut documents = self.all();
        loop {
            let batch: Vec<_> = documents.by_ref().take(INSERT).collect();
            if batch.is_empty() {
                break;
            }
            let column =
                |value: fn(&IndexEntry) -> String| batch.iter().map(value).collect::<Vec<_>>();
            let sha256 = column(|entry| entry.row.content_sha256.expect("content").to_string());
            sqlx::query(
                "INSERT INTO documents (id, title, content_type, content_size, content_sha256,
                    s3_key, created_by, created_at, updated_at)
                SELECT id::uuid, title, content_type, content_size::bigint, sha256,
                    id || '/content', created_by, $7::timestamptz, $7::timestamptz
                FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
                    AS row (id, title, content_type, content_size, sha256, created_by)",
            )
            .bind(column(|entry| entry.row.id.to_string()))
            .bind(column(|entry| entry.row.title.clone()))
            .bind(column(|entry| entry.row.content_type.clone()))
            .bind(column(|entry| entry.row.content_size.to_string()))
            .bind(&sha256)
            .bind(column(|entry| entry.row.created_by.clone()))
            .bind(WRITTEN_AT)
            .execute(&pool)
            .await
            .expect("inserted");
            if self.text_bytes > 0 {
                sqlx::query(
                    "INSERT INTO texts (content_sha256, format, text)
                    SELECT sha256, 'plain', convert_to(text, 'UTF8')
                    FROM unnest($1::text[], $2::text[]) AS row (sha256, text)",
                )
                .bind(&sha256)
                .bind(column(|entry| entry.text.clone()))
                .execute(&pool)
                .await
                .expect("inserted");
            }
        }
        sqlx::query("ANALYZE").execute(&pool).await.expect("analyzed");
        pool.close().await;
    }
}

/// Key and value of the record that says that a document was created.
pub(crate) fn envelope(prefix: &str, entry: &IndexEntry) -> (String, String) {
    let row = &entry.row;
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
    let (millis, micros) = (now.as_millis(), now.as_micros());
    let key = format!(r#"{{"id":"{}"}}"#, row.id);
    // Nothing in these values has to be escaped.
    let value = format!(
        concat!(
            r#"{{"before":null,"after":{{"id":"{id}","title":"{title}","content_type":"{content_type}","#,
            r#""content_size":{content_size},"content_sha256":"{sha256}","s3_key":"{id}/content","#,
            r#""status":"created","created_by":"{created_by}","created_at":"{at}","#,
            r#""updated_at":"{at}","version":1,"deleted_at":null}},"#,
            r#""source":{{"version":"3.4.3.Final","connector":"postgresql","name":"{prefix}","#,
            r#""ts_ms":{millis},"snapshot":"false","db":"{prefix}","#,
            r#""sequence":"[\"387046640\",\"387046680\"]","ts_us":{micros},"ts_ns":{micros}000,"#,
            r#""schema":"public","table":"documents","txId":5786,"lsn":387046680,"xmin":null}},"#,
            r#""transaction":null,"op":"c","ts_ms":{millis},"ts_us":{micros},"ts_ns":{micros}000}}"#,
        ),
        id = row.id,
        title = row.title,
        content_type = row.content_type,
        content_size = row.content_size,
        sha256 = row.content_sha256.expect("stored content"),
        created_by = row.created_by,
        at = WRITTEN_AT,
        prefix = prefix,
        millis = millis,
        micros = micros,
    );
    (key, value)
}

/// Words that look random and follow from a seed; some come often, most seldom.
struct Words(u64);

impl Words {
    /// The next number (`SplitMix64`).
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// Words of about so many bytes; none if they are to have none.
    fn text(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 16);
        while text.len() < bytes {
            let separator = if text.is_empty() { "" } else { " " };
            let bound = 1 << (1 + self.below(14));
            // Writing to a string can't fail.
            let _ = write!(text, "{separator}word{}", self.below(bound));
        }
        text
    }
}
