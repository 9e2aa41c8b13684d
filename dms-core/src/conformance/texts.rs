//! Extracted texts: [`TextRepository`].

use std::collections::HashMap;

use futures_util::future::join_all;

use crate::model::text::{TextFormat, TextKey};
use crate::ports::TextRepository;
use crate::{DocumentId, Sha256};

/// Checks everything that [`TextRepository`] promises, except durability.
///
/// # Panics
/// If a promise is broken.
pub async fn suite(texts: &dyn TextRepository) {
    put_and_get(texts).await;
    first_text_stays(texts).await;
    awkward_texts(texts).await;
    many_texts(texts).await;
    concurrent_puts(texts).await;
}

fn key(format: TextFormat) -> TextKey {
    let fresh = DocumentId::generate();
    TextKey { content_sha256: Sha256::of(fresh.as_uuid().as_bytes()), format }
}

async fn put_and_get(texts: &dyn TextRepository) {
    let plain = key(TextFormat::Plain);
    let html = TextKey { format: TextFormat::Html, ..plain };
    let markdown = TextKey { format: TextFormat::Markdown, ..plain };
    let unknown = key(TextFormat::Plain);
    assert_eq!(texts.get_many(&[plain, unknown]).await.expect("get"), HashMap::new(), "of none");
    let put = [(plain, "<b>plain</b>".to_owned()), (html, "plain".to_owned())];
    texts.put_many(&put).await.expect("put");
    let asked = [html, unknown, plain, markdown, html];
    let got = texts.get_many(&asked).await.expect("get");
    assert_eq!(got, HashMap::from(put), "those that are there, each format its own");
    assert_eq!(texts.get_many(&[]).await.expect("get"), HashMap::new(), "get of nothing");
    texts.put_many(&[]).await.expect("put of nothing");
}

async fn first_text_stays(texts: &dyn TextRepository) {
    let (known, new) = (key(TextFormat::Plain), key(TextFormat::Plain));
    texts.put_many(&[(known, "first".into())]).await.expect("put");
    let put = [(known, "second".into()), (new, "new".into()), (new, "newer".into())];
    texts.put_many(&put).await.expect("put again");
    let got = texts.get_many(&[known, new]).await.expect("get");
    let expected = HashMap::from([(known, "first".to_owned()), (new, "new".to_owned())]);
    assert_eq!(got, expected, "texts already there stay as they are");
}

async fn awkward_texts(texts: &dyn TextRepository) {
    let long = "0123456789abcdef é\n".repeat(1 << 16);
    let awkward = [
        "",
        "\0",
        "before\0after\0\0",
        "\u{1}\u{1f}\u{7f}\r\n\t",
        "'\"\\ $1 ?1 {\"a\":null}",
        "文書 🖋️ \u{feff}\u{10ffff}\u{fffd}",
        &long,
    ];
    for text in awkward {
        let key = key(TextFormat::Markdown);
        texts.put_many(&[(key, text.to_owned())]).await.expect("put");
        let got = texts.get_many(&[key]).await.expect("get");
        assert!(got.get(&key).is_some_and(|got| got == text), "{text:.40?} comes back");
    }
}

async fn many_texts(texts: &dyn TextRepository) {
    let many: HashMap<_, _> =
        (0..300).map(|n| (key(TextFormat::Plain), format!("text {n}"))).collect();
    let put: Vec<_> = many.clone().into_iter().collect();
    texts.put_many(&put).await.expect("put many");
    let keys: Vec<_> = many.keys().copied().collect();
    assert_eq!(texts.get_many(&keys).await.expect("get many"), many, "many at once");
}

async fn concurrent_puts(texts: &dyn TextRepository) {
    let key = key(TextFormat::Html);
    let rivals: Vec<_> = (0..8).map(|n| [(key, format!("rival {n}"))]).collect();
    for result in join_all(rivals.iter().map(|rival| texts.put_many(rival))).await {
        result.expect("one of several puts");
    }
    let first = texts.get_many(&[key]).await.expect("get");
    assert!(rivals.iter().any(|rival| first.get(&key) == Some(&rival[0].1)), "one of them");
    texts.put_many(&rivals[0]).await.expect("put");
    assert_eq!(texts.get_many(&[key]).await.expect("get"), first, "it stays");
}
