//! Lists of documents: pages, filters, scans.

use std::collections::HashSet;
use std::slice;

use uuid::Uuid;

use super::new_document;
use crate::ports::DocumentRepository;
use crate::{Document, DocumentId, DocumentPatch, DocumentStatus, ListQuery, NewDocument};

pub(super) fn ids(documents: &[Document]) -> Vec<DocumentId> {
    documents.iter().map(|document| document.id).collect()
}

/// An id of a given millisecond; within it, ids are ordered by `random`.
fn id_at(unix_millis: u64, random: u64) -> DocumentId {
    let time = u128::from(unix_millis & 0xffff_ffff_ffff) << 80;
    let random = u128::from(random & 0x3fff_ffff_ffff_ffff);
    DocumentId::from_uuid(Uuid::from_u128(time | 0x7abc << 64 | 0b10 << 62 | random))
}

pub(super) async fn pages(documents: &dyn DocumentRepository) {
    let created_by = new_document().created_by;
    // All but one of the same millisecond, created in no order.
    let start =
        u64::from_be_bytes(DocumentId::generate().as_uuid().as_bytes()[8..].try_into().unwrap());
    let start = start & 0x0fff_ffff_ffff_ffff;
    let mut made = Vec::new();
    for n in [3, 0, 6, 2, 5, 1, 4] {
        let id = id_at(1_500_000_000_000, start + n);
        let new = NewDocument { id, created_by: created_by.clone(), ..new_document() };
        made.push(documents.create(new, None, None).await.expect("create").id);
    }
    made.sort_unstable_by(|a, b| b.cmp(a));
    let deleted = made.remove(2);
    documents.delete(deleted, None).await.expect("delete");

    for limit in 1..=7 {
        let mut seen = Vec::new();
        let mut query =
            ListQuery { limit, created_by: Some(created_by.clone()), ..ListQuery::default() };
        loop {
            let page = documents.list(&query).await.expect("list");
            assert!(page.documents.len() <= limit as usize, "page of {limit}");
            seen.extend(ids(&page.documents));
            match page.next {
                Some(next) => {
                    assert_eq!(page.documents.len(), limit as usize, "page before the last");
                    assert_eq!(seen.last(), Some(&next), "next page begins after the last seen");
                    query.before = Some(next);
                }
                None => break,
            }
        }
        assert_eq!(seen, made, "pages of {limit}");
    }
    let before_deleted = ListQuery {
        before: Some(deleted),
        created_by: Some(created_by.clone()),
        ..ListQuery::default()
    };
    let page = documents.list(&before_deleted).await.expect("list");
    assert_eq!(ids(&page.documents), made[2..], "before a deleted document");

    let newest = documents.create(new_document(), None, None).await.expect("create");
    let query = ListQuery { limit: 1, ..ListQuery::default() };
    let page = documents.list(&query).await.expect("list");
    assert_eq!(page.documents, slice::from_ref(&newest), "newest first");
    assert_eq!(page.next, Some(newest.id), "more follow the newest");
}

pub(super) async fn filters(documents: &dyn DocumentRepository) {
    let created_by = new_document().created_by;
    let mut made = Vec::new();
    for n in 0..12 {
        let new = NewDocument { created_by: created_by.clone(), ..new_document() };
        let id = documents.create(new, None, None).await.expect("create").id;
        let status = DocumentStatus::ALL[n % 3];
        documents.update(id, &DocumentPatch::status(status), None, None).await.expect("update");
        made.push((id, status));
    }
    made.reverse();
    let stranger = documents.create(new_document(), None, None).await.expect("create").id;

    for status in DocumentStatus::ALL {
        let mine = ListQuery {
            limit: 3,
            status: Some(status),
            created_by: Some(created_by.clone()),
            ..ListQuery::default()
        };
        let expected: Vec<_> = made.iter().filter(|(_, s)| *s == status).map(|m| m.0).collect();
        let page = documents.list(&mine).await.expect("list");
        assert_eq!(ids(&page.documents), expected[..3], "mine with status {status}");
        let rest = ListQuery { before: page.next, ..mine };
        let page = documents.list(&rest).await.expect("list");
        assert_eq!(ids(&page.documents), expected[3..], "rest of mine with status {status}");
        assert_eq!(page.next, None, "nothing follows the rest");

        let all = ListQuery { limit: 5, status: Some(status), ..ListQuery::default() };
        let page = documents.list(&all).await.expect("list");
        assert!(page.documents.iter().all(|d| d.status == status), "all with status {status}");
        let mine_of_all: Vec<_> =
            ids(&page.documents).into_iter().filter(|id| *id != stranger).collect();
        assert!(mine_of_all.starts_with(&expected), "newest with status {status}");
    }
    let mine = ListQuery { created_by: Some(created_by.clone()), ..ListQuery::default() };
    let page = documents.list(&mine).await.expect("list");
    assert_eq!(ids(&page.documents), made.iter().map(|m| m.0).collect::<Vec<_>>(), "mine");
    let part = created_by[..created_by.len() - 1].to_owned();
    for other in [part, created_by.to_uppercase(), format!("{created_by} "), "%".into()] {
        let query = ListQuery { created_by: Some(other.clone()), ..ListQuery::default() };
        let page = documents.list(&query).await.expect("list");
        assert_eq!(page.documents, [], "creator {other} is another one");
    }
}

pub(super) async fn scan(documents: &dyn DocumentRepository) {
    let live = documents.create(new_document(), None, None).await.expect("create");
    let deleted = documents.create(new_document(), None, None).await.expect("create");
    documents.delete(deleted.id, None).await.expect("delete");

    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let part = documents.scan(after, 7).await.expect("scan");
        assert!(part.len() <= 7, "part of a scan");
        let Some(last) = part.last() else { break };
        after = Some(last.id);
        rows.extend(part);
    }
    assert!(rows.is_sorted_by(|a, b| a.id < b.id), "a scan goes by id");
    let found = |id| rows.iter().find(|row| row.id == id).cloned();
    assert_eq!(found(live.id), Some(live.into()), "scan of a live document");
    let row = found(deleted.id).expect("scan of a deleted document");
    assert!(row.deleted, "scan of a deleted document");
    assert_eq!(row.version, 2, "scan of a deleted document");
    assert_eq!(row.content_sha256, Some(deleted.content_sha256), "scan of a deleted document");
}

pub(super) async fn referenced(documents: &dyn DocumentRepository) {
    let live = documents.create(new_document(), None, None).await.expect("create").id;
    let deleted = documents.create(new_document(), None, None).await.expect("create").id;
    documents.delete(deleted, None).await.expect("delete");
    let unknown: Vec<_> = (0..500).map(|_| DocumentId::generate()).collect();
    let asked: Vec<_> = [live, deleted].into_iter().chain(unknown).collect();
    let found = documents.referenced(&asked).await.expect("referenced");
    assert_eq!(found, HashSet::from([live, deleted]), "referenced");
    let none = documents.referenced(&[]).await.expect("referenced");
    assert_eq!(none, HashSet::new(), "referenced among none");
}
