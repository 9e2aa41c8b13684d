//! Poolers that keep prepared statements apart, and such as don't.

use dms_core::model::text::{TextFormat, TextKey};
use dms_core::ports::{DocumentRepository as _, TextRepository as _};
use dms_core::{ErrorKind, ListQuery, NewDocument, Sha256};
use dms_store::postgres::{PostgresDatabase, PostgresOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::bed::{Bed, new_document, patient, prepared};

const TASKS: usize = 16;

/// Rounds of three statements in each task; some 10 s on two cores that do nothing else.
const ROUNDS: usize = 500;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PgBouncer"]
async fn every_answer_through_the_pooler_is_right() {
    let bed = Bed::new().await;
    // Each process has its own connections, and prepares its statements in another order.
    let one = prepared(bed.pooled()).await;
    let other = prepared(bed.pooled()).await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let database = if task % 2 == 0 { one.clone() } else { other.clone() };
        tasks.spawn(async move {
            let (documents, texts) = (database.documents(), database.texts());
            let created_by = format!("creator {task}");
            let new = NewDocument { created_by: created_by.clone(), ..new_document() };
            let created = documents.create(new, None, None).await.unwrap();
            let mine = ListQuery { created_by: Some(created_by), ..ListQuery::default() };
            let key = TextKey {
                content_sha256: Sha256::of(&task.to_le_bytes()),
                format: TextFormat::Html,
            };
            let text = format!("text of {task}");
            texts.put_many(&[(key, text.clone())]).await.unwrap();
            for round in 0..ROUNDS {
                for statement in 0..3 {
                    match (task + round + statement) % 3 {
                        0 => assert_eq!(documents.get(created.id).await.unwrap(), created),
                        1 => {
                            let page = documents.list(&mine).await.unwrap();
                            assert_eq!(page.documents, std::slice::from_ref(&created));
                        }
                        _ => {
                            let texts = texts.get_many(&[key]).await.unwrap();
                            assert_eq!(texts.get(&key), Some(&text));
                        }
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    one.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PgBouncer"]
async fn a_pooler_that_is_fit_is_accepted() {
    let bed = Bed::new().await;
    prepared(bed.pooled()).await.check().await.unwrap();
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], length.to_be_bytes().as_slice(), body].concat()
}

/// One row of texts, as the console of a pooler gives them.
fn answer(columns: &[&str]) -> Vec<u8> {
    let count = u16::try_from(columns.len()).unwrap().to_be_bytes();
    let mut description = count.to_vec();
    let mut row = count.to_vec();
    for column in columns {
        description
            .extend_from_slice(b"column\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        row.extend_from_slice(&u32::try_from(column.len()).unwrap().to_be_bytes());
        row.extend_from_slice(column.as_bytes());
    }
    [
        message(b'T', &description),
        message(b'D', &row),
        message(b'C', b"SHOW\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// Speaks as much of the protocol
/// (<https://www.postgresql.org/docs/current/protocol-flow.html>) as the console of a pooler does.
async fn console(mut client: TcpStream, version: &str, prepared_max: &str) -> std::io::Result<()> {
    loop {
        let length = client.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        client.read_exact(&mut body).await?;
        // No TLS here; then the client says who it is.
        if body.starts_with(&80_877_103_u32.to_be_bytes()) {
            client.write_all(b"N").await?;
            continue;
        }
        break;
    }
    client.write_all(&message(b'R', &0_u32.to_be_bytes())).await?;
    client.write_all(&message(b'Z', b"I")).await?;
    loop {
        let kind = client.read_u8().await?;
        let length = client.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        client.read_exact(&mut body).await?;
        let reply = match (kind, body.as_slice()) {
            (b'Q', b"SHOW VERSION\0") => answer(&[version]),
            (b'Q', b"SHOW CONFIG\0") => {
                answer(&["max_prepared_statements", prepared_max, "0", "yes"])
            }
            _ => return Ok(()),
        };
        client.write_all(&reply).await?;
    }
}

/// The port of a pooler that says this of itself.
async fn fake_pooler(version: &'static str, prepared_max: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(console(client, version, prepared_max));
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_pooler_that_gives_wrong_answers_is_refused_with_what_to_do() {
    let bed = Bed::new().await;
    for (version, prepared_max, says) in [
        ("PgBouncer 1.20.1", "200", "use pgbouncer 1.21 or newer"),
        ("PgBouncer 1.18.0", "0", "PgBouncer 1.18.0"),
        ("PgBouncer 1.24.1", "0", "set max_prepared_statements above 0"),
    ] {
        let port = fake_pooler(version, prepared_max).await;
        let options = PostgresOptions {
            direct_url: Some(bed.direct_url()),
            ..patient(&format!("postgres://docs@127.0.0.1:{port}/docs_db"))
        };
        let database = PostgresDatabase::new(options).unwrap();
        let error = database.prepare().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Conflict, "pooler_unfit"),
            "{version}"
        );
        assert!(error.to_string().contains(says), "{error}");
    }
    let port = fake_pooler("PgBouncer 1.21.0", "1").await;
    let options = PostgresOptions {
        direct_url: Some(bed.direct_url()),
        ..patient(&format!("postgres://docs@127.0.0.1:{port}/docs_db"))
    };
    PostgresDatabase::new(options).unwrap().prepare().await.unwrap();
}
