//! What searches and counts answer.

use super::{
    count, counts, entry, next, progress, query, row, search, sorted_titles, start, titles, write,
};
use crate::model::change::DocumentRow;
use crate::model::search::{
    AggregationField, AggregationQuery, SearchFilter, SearchQuery, SearchResults,
};
use crate::ports::{IndexProgress, SearchIndex};
use crate::{DocumentStatus, ErrorKind};

pub(super) async fn a_new_index_has_nothing(index: &dyn SearchIndex) {
    let step = "a new index has nothing";
    start(index, Vec::new(), step).await;
    assert_eq!(count(index, step).await, 0, "{step}: count");
    assert_eq!(progress(index, step).await, IndexProgress::New, "{step}: progress");
    let everything = search(index, &SearchQuery::default(), step).await;
    assert_eq!(everything, SearchResults::default(), "{step}: without text");
    assert!(titles(index, "anything", step).await.is_empty(), "{step}: with text");
    for field in
        [AggregationField::Status, AggregationField::CreatedBy, AggregationField::ContentType]
    {
        let query =
            AggregationQuery { field, text: None, filter: SearchFilter::default(), size: 10 };
        assert!(counts(index, &query, step).await.is_empty(), "{step}: {field}");
    }
    index.check().await.unwrap_or_else(|e| panic!("{step}: check: {e:?}"));
}

pub(super) async fn what_is_written_is_found(index: &dyn SearchIndex) {
    let step = "what is written is found";
    let written = DocumentRow {
        content_type: "text/html; charset=utf-8".to_owned(),
        content_size: u64::from(u32::MAX) + 1,
        status: DocumentStatus::Signed,
        version: 7,
        ..row("Lease of a boat", "Ann Example <ann@example.org>")
    };
    start(index, vec![entry(&written, "The harbour is quiet.")], step).await;
    for text in ["boat", "harbour", "ann", "ann@example.org"] {
        let found = search(index, &query(text), step).await;
        assert_eq!(found.total, 1, "{step}: {text}");
        let [hit] = &found.hits[..] else { panic!("{step}: {text}: {found:?}") };
        let expected = written.clone().into_document();
        assert_eq!(Some(&hit.document), expected.as_ref(), "{step}: {text}");
        assert!(hit.score > 0.0, "{step}: score for {text}");
    }
    assert_eq!(count(index, step).await, 1, "{step}: count");
}

pub(super) async fn words_are_found_whatever_their_spelling(index: &dyn SearchIndex) {
    let step = "words are found whatever their spelling";
    let entries = vec![
        entry(&row("german", "a"), "Die STRASSE nach Köln"),
        entry(&row("vietnamese", "a"), "Thành phố Đà Nẵng"),
        entry(&row("russian", "a"), "Договор аренды"),
        entry(&row("chinese", "a"), "本契約書は有効です"),
        entry(&row("decomposed", "a"), "cafe\u{301}"),
        entry(&row("punctuated", "a"), "state-of-the-art, v2.0 (x_y)"),
    ];
    start(index, entries, step).await;
    for (text, expected) in [
        ("straße", "german"),
        ("KOLN", "german"),
        ("da nang", "vietnamese"),
        ("ДОГОВОР", "russian"),
        ("契約書", "chinese"),
        ("café", "decomposed"),
        ("cafe", "decomposed"),
        ("state-of-the-art", "punctuated"),
        ("art", "punctuated"),
        ("Y", "punctuated"),
    ] {
        assert_eq!(titles(index, text, step).await, [expected], "{step}: {text}");
    }
    for absent in ["stras", "契書", "state-of-art", "договоры"] {
        assert!(titles(index, absent, step).await.is_empty(), "{step}: {absent}");
    }
}

pub(super) async fn phrases_and_exclusions_are_exact(index: &dyn SearchIndex) {
    let step = "phrases and exclusions are exact";
    let entries = vec![
        entry(&row("one", "ann"), "the annual report"),
        entry(&row("two", "ann"), "report of the annual meeting"),
        entry(&row("three", "bob"), "meeting notes"),
        entry(&row("annual", "report"), ""),
    ];
    start(index, entries, step).await;
    for (text, expected) in [
        ("annual report", &["annual", "one", "two"][..]),
        ("annual meeting", &["annual", "one", "three", "two"]),
        ("\"annual report\"", &["one"]),
        ("\"annual report\" meeting", &["one"]),
        ("\"annual report\" \"the annual\"", &["one"]),
        ("\"annual report\" \"meeting notes\"", &[]),
        ("annual -meeting", &["annual", "one"]),
        ("annual -\"annual report\"", &["annual", "two"]),
        ("-annual", &["three"]),
        ("-bob -meeting", &["annual", "one"]),
        ("annual -annual", &[]),
        ("annual-report", &["one"]),
    ] {
        assert_eq!(sorted_titles(index, text, step).await, expected, "{step}: {text}");
    }
    let excluded = search(index, &query("-annual"), step).await;
    assert_eq!(excluded.hits[0].score.to_bits(), 0, "{step}: score of exclusions alone");
}

pub(super) async fn filters_are_exact(index: &dyn SearchIndex) {
    let step = "filters are exact";
    let signed = next(&row("signed", "ann@example.org"), |row| row.status = DocumentStatus::Signed);
    let html = DocumentRow {
        content_type: "text/html; charset=utf-8".to_owned(),
        ..row("html", "ann@example.org")
    };
    let entries = vec![
        entry(&row("ann", "ann"), "text"),
        entry(&row("whole", "ann@example.org"), "text"),
        entry(&row("upper", "Ann@example.org"), "text"),
        entry(&signed, "text"),
        entry(&html, "text"),
    ];
    start(index, entries, step).await;
    let creator =
        |name: &str| SearchFilter { created_by: Some(name.to_owned()), ..SearchFilter::default() };
    let media = |name: &str| SearchFilter {
        content_type: Some(name.to_owned()),
        ..SearchFilter::default()
    };
    let status = |status| SearchFilter { status: Some(status), ..SearchFilter::default() };
    let both = SearchFilter { status: Some(DocumentStatus::Signed), ..creator("ann@example.org") };
    for (filter, expected) in [
        (creator("ann@example.org"), &["html", "signed", "whole"][..]),
        (creator("ann"), &["ann"]),
        (creator("example.org"), &[]),
        (creator("\" OR *"), &[]),
        (status(DocumentStatus::Signed), &["signed"]),
        (status(DocumentStatus::Viewed), &[]),
        (media("text/html; charset=utf-8"), &["html"]),
        (media("text/html"), &[]),
        (both, &["signed"]),
    ] {
        for text in [None, Some("text")] {
            let query = SearchQuery {
                text: text.map(str::to_owned),
                filter: filter.clone(),
                ..SearchQuery::default()
            };
            let found = search(index, &query, step).await;
            let mut titles: Vec<_> =
                found.hits.iter().map(|hit| hit.document.title.as_str()).collect();
            titles.sort_unstable();
            assert_eq!(titles, expected, "{step}: {filter:?} with {text:?}");
            assert_eq!(found.total, expected.len() as u64, "{step}: total of {filter:?}");
        }
    }
}

pub(super) async fn better_matches_come_first(index: &dyn SearchIndex) {
    let step = "better matches come first";
    let filler = "some other words that say nothing of it at all";
    let entries = vec![
        entry(&row("Blue boat", "ann"), filler),
        entry(&row("Green house", "bob"), "boat, seen once"),
        entry(&row("Red house", "bob"), "blue boat"),
        entry(&row("White house", "bob"), filler),
    ];
    start(index, entries, step).await;
    let blue_boat = titles(index, "blue boat", step).await;
    assert_eq!(blue_boat.len(), 3, "{step}: any word is enough");
    assert_eq!(blue_boat[2], "Green house", "{step}: more words are better");
    assert_eq!(titles(index, "boat", step).await[0], "Blue boat", "{step}: the title counts more");
    let found = search(index, &query("blue boat house"), step).await;
    let scores: Vec<_> = found.hits.iter().map(|hit| hit.score).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{step}: scores fall: {scores:?}");
}

pub(super) async fn ties_come_newest_first_and_pages_do_not_overlap(index: &dyn SearchIndex) {
    let step = "ties come newest first and pages do not overlap";
    let rows: Vec<_> = (0..60).map(|_| row("same title", "ann")).collect();
    index.clear().await.unwrap_or_else(|e| panic!("{step}: clear: {e:?}"));
    // Several writes, not in order of age, so that the index can't lean on the order of arrival.
    for part in [&rows[40..], &rows[..20], &rows[20..40]] {
        write(index, part.iter().map(|row| entry(row, "same text")).collect(), step).await;
    }
    let mut expected: Vec<_> = rows.iter().map(|row| row.id).collect();
    expected.sort();
    expected.reverse();
    for text in [None, Some("same"), Some("\"same title\" text"), Some("-other")] {
        let mut seen = Vec::new();
        for from in (0..63).step_by(7) {
            let query = SearchQuery {
                text: text.map(str::to_owned),
                filter: SearchFilter::default(),
                from,
                size: 7,
            };
            let page = search(index, &query, step).await;
            assert_eq!(page.total, 60, "{step}: total with {text:?}");
            seen.extend(page.hits.iter().map(|hit| hit.document.id));
        }
        assert_eq!(seen, expected, "{step}: {text:?}");
    }
    let last = SearchQuery { from: 9_990, size: 10, ..SearchQuery::default() };
    let beyond = search(index, &last, step).await;
    assert_eq!((beyond.total, beyond.hits.len()), (60, 0), "{step}: beyond the end");
    let none = SearchQuery { size: 0, ..query("same") };
    let none = search(index, &none, step).await;
    assert_eq!((none.total, none.hits.len()), (60, 0), "{step}: size 0");
}

pub(super) async fn without_text_everything_comes_newest_first(index: &dyn SearchIndex) {
    let step = "without text everything comes newest first";
    let rows: Vec<_> = (0..5).map(|n| row(&format!("title {n}"), "ann")).collect();
    start(index, rows.iter().map(|row| entry(row, "text")).collect(), step).await;
    for text in [None, Some(""), Some(" \t\n")] {
        let query = SearchQuery { text: text.map(str::to_owned), ..SearchQuery::default() };
        let found = search(index, &query, step).await;
        let ids: Vec<_> = found.hits.iter().map(|hit| hit.document.id).collect();
        let expected: Vec<_> = rows.iter().rev().map(|row| row.id).collect();
        assert_eq!(ids, expected, "{step}: {text:?}");
        for hit in &found.hits {
            assert_eq!(hit.score.to_bits(), 0, "{step}: score with {text:?}");
            assert_eq!(hit.highlights, <_>::default(), "{step}: highlights with {text:?}");
        }
    }
}

pub(super) async fn highlights_mark_and_escape(index: &dyn SearchIndex) {
    let step = "highlights mark and escape";
    let hostile = row("<script>alert('boat')</script> & \"more\"", "ann");
    let plain = row("Nothing to see", "boat@example.org");
    let entries = vec![
        entry(&hostile, "<img src=x onerror=alert(1)> Tom & Jerry's Boat </em>"),
        entry(&plain, "no match here"),
    ];
    start(index, entries, step).await;
    let found = search(index, &query("BOAT"), step).await;
    let of = |id| {
        let hit = found.hits.iter().find(|hit| hit.document.id == id);
        hit.map_or_else(|| panic!("{step}: {id} is not found"), |hit| &hit.highlights)
    };
    let [title] = &of(hostile.id).title[..] else { panic!("{step}: one title") };
    assert!(title.contains("<em>boat</em>"), "{step}: {title}");
    let [content] = &of(hostile.id).content[..] else { panic!("{step}: one fragment") };
    assert!(content.contains("Tom &amp; Jerry"), "{step}: {content}");
    assert!(content.contains("<em>Boat</em>"), "{step}: {content}");
    for html in [title, content] {
        let rest = html.replace("<em>", "").replace("</em>", "");
        assert!(!rest.contains(['<', '>', '"', '\'']), "{step}: not escaped: {html}");
    }
    // Matched by its creator alone, which is not among the highlights.
    assert_eq!(of(plain.id), &<_>::default(), "{step}: no match in title and content");
}

pub(super) async fn matches_far_inside_a_text_are_shown(index: &dyn SearchIndex) {
    let step = "matches far inside a text are shown";
    let filler = "lorem ipsum dolor sit amet consectetur ".repeat(5_000);
    let text = format!("{filler} here is the needle, and so on {filler}");
    start(index, vec![entry(&row("haystack", "ann"), &text)], step).await;
    let found = search(index, &query("needle"), step).await;
    let [hit] = &found.hits[..] else { panic!("{step}: one hit: {}", found.total) };
    let [fragment] = &hit.highlights.content[..] else { panic!("{step}: one fragment") };
    assert!(fragment.contains("the <em>needle</em>, and"), "{step}: {fragment}");
    let length = fragment.chars().count();
    assert!(length <= 400, "{step}: a fragment is short: {length}");
    let many = search(index, &query("lorem"), step).await;
    let count = many.hits[0].highlights.content.len();
    assert!((1..=3).contains(&count), "{step}: one to three fragments: {count}");
}

pub(super) async fn hostile_texts_are_only_texts(index: &dyn SearchIndex) {
    let step = "hostile texts are only texts";
    start(index, vec![entry(&row("title", "ann"), "content")], step).await;
    let long = "a ".repeat(500);
    let nested = format!("{}x{}", "(".repeat(499), ")".repeat(499));
    for text in [
        "*",
        "?",
        "title:*",
        "t*",
        "/.*/",
        "\"",
        "\\",
        "\\\"",
        "-",
        "--",
        "+",
        "AND",
        "OR NOT",
        "a AND",
        "NOT",
        "(",
        ")",
        "[a TO z]",
        "{",
        "content~2",
        "content^1e308",
        "_exists_:title",
        "<script>",
        "'; DROP TABLE documents; --",
        "\u{0}",
        "\u{feff}",
        "\u{202e}",
        "🦀",
        "\"\"\"",
        "-\"",
        "\" \"",
        "%",
        "$ne",
        "{\"match_all\":{}}",
        &long,
        &nested,
    ] {
        let found = search(index, &query(text), step).await;
        let says = text.contains("title") || text.contains("content");
        assert!(found.total == 0 || says, "{step}: {text:?} finds {}", found.total);
        let aggregation = AggregationQuery {
            field: AggregationField::Status,
            text: Some(text.to_owned()),
            filter: SearchFilter::default(),
            size: 10,
        };
        let counted: u64 = counts(index, &aggregation, step).await.iter().map(|(_, n)| n).sum();
        assert_eq!(counted, found.total, "{step}: counts for {text:?}");
    }
}

pub(super) async fn bounds_are_checked(index: &dyn SearchIndex) {
    let step = "bounds are checked";
    let wide = SearchQuery { size: SearchQuery::SIZE_MAX + 1, ..SearchQuery::default() };
    let deep = SearchQuery { from: SearchQuery::WINDOW_MAX, ..SearchQuery::default() };
    let deepest = SearchQuery { from: u32::MAX, size: 0, ..SearchQuery::default() };
    for query in [wide, deep, deepest, query(&"x".repeat(SearchQuery::TEXT_CHARS_MAX + 1))] {
        let error = index.search(&query).await.err().map(|error| error.kind());
        assert_eq!(error, Some(ErrorKind::Invalid), "{step}: {query:?}");
    }
}

pub(super) async fn values_are_counted_exactly(index: &dyn SearchIndex) {
    let step = "values are counted exactly";
    index.clear().await.unwrap_or_else(|e| panic!("{step}: clear: {e:?}"));
    // Many values spread over several writes: none of the parts knows the whole.
    let mut rows = Vec::new();
    for creator in 0..40 {
        for n in 0..=creator % 5 {
            let mut row = row(&format!("title {n}"), &format!("creator-{creator:02}"));
            row.status = DocumentStatus::ALL[n % 3];
            rows.push(row);
        }
    }
    for part in 0..4 {
        let part = rows.iter().skip(part).step_by(4);
        write(index, part.map(|row| entry(row, "text")).collect(), step).await;
    }
    // What is deleted counts no more.
    let deleted = next(&rows[0], |row| row.deleted = true);
    write(index, vec![entry(&deleted, "")], step).await;
    let expected = |wanted: &dyn Fn(&DocumentRow) -> bool, field: AggregationField| {
        let mut counts: Vec<(String, u64)> = Vec::new();
        for row in rows[1..].iter().filter(|row| wanted(row)) {
            let key = match field {
                AggregationField::Status => row.status.as_str(),
                AggregationField::CreatedBy => &row.created_by,
                AggregationField::ContentType => &row.content_type,
            };
            match counts.iter_mut().find(|(known, _)| known == key) {
                Some((_, count)) => *count += 1,
                None => counts.push((key.to_owned(), 1)),
            }
        }
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts
    };
    let ask = |field, text: Option<&str>, filter, size| AggregationQuery {
        field,
        text: text.map(str::to_owned),
        filter,
        size,
    };
    for field in
        [AggregationField::Status, AggregationField::CreatedBy, AggregationField::ContentType]
    {
        let everything = counts(index, &ask(field, None, SearchFilter::default(), 100), step).await;
        assert_eq!(everything, expected(&|_| true, field), "{step}: {field}");
        let filter =
            SearchFilter { status: Some(DocumentStatus::Viewed), ..SearchFilter::default() };
        let filtered = counts(index, &ask(field, None, filter, 100), step).await;
        let viewed = expected(&|row| row.status == DocumentStatus::Viewed, field);
        assert_eq!(filtered, viewed, "{step}: {field} of those viewed");
        let filter =
            SearchFilter { created_by: Some("creator-09".to_owned()), ..SearchFilter::default() };
        let searched = counts(index, &ask(field, Some("4"), filter, 100), step).await;
        let both = expected(&|row| row.created_by == "creator-09" && row.title == "title 4", field);
        assert_eq!(searched, both, "{step}: {field} of a search");
    }
    let few = ask(AggregationField::CreatedBy, None, SearchFilter::default(), 3);
    let first = &expected(&|_| true, AggregationField::CreatedBy)[..3];
    assert_eq!(counts(index, &few, step).await, first, "{step}: the first three");
}
