//! Pages of lists, kept until the next commit.
//!
//! Most lists ask for the first page, and reading one takes several times what sending it does. All
//! writes go through one writer, which counts a commit before it answers for it: a page that was read
//! after a commit was counted is what the database says until the next one is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dms_core::{DocumentPage, ListQuery, Result};
use tokio::sync::watch;

/// Documents in all pages that are kept: about a megabyte.
const DOCUMENTS_MAX: usize = 2_000;

pub(super) struct Pages {
    commits: watch::Receiver<u64>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Commits that had been counted before any of the pages was read.
    commits: u64,
    pages: HashMap<ListQuery, Arc<DocumentPage>>,
    documents: usize,
}

impl Pages {
    /// `commits` counts the commits of the only writer.
    pub(super) fn new(commits: watch::Receiver<u64>) -> Self {
        Self { commits, kept: Mutex::default() }
    }

    /// The page of a query; `read` asks the database for it.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) async fn get(
        &self,
        query: &ListQuery,
        read: impl Future<Output = Result<DocumentPage>>,
    ) -> Result<DocumentPage> {
        let commits = *self.commits.borrow();
        let page = self.kept_at(commits).pages.get(query).map(Arc::clone);
        if let Some(page) = page {
            return Ok((*page).clone());
        }
        let page = Arc::new(read.await?);
        let mut kept = self.kept_at(commits);
        // Others may have read after a later commit meanwhile.
        if kept.commits == commits {
            kept.documents += page.documents.len();
            if kept.documents > DOCUMENTS_MAX {
                kept.pages.clear();
                kept.documents = page.documents.len();
            }
            kept.pages.insert(query.clone(), Arc::clone(&page));
        }
        drop(kept);
        Ok(Arc::unwrap_or_clone(page))
    }

    /// What is kept, without anything from before `commits`.
    fn kept_at(&self, commits: u64) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.commits < commits {
            *kept = Kept { commits, ..Kept::default() };
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::lazy;

    use super::*;

    fn query(limit: u32) -> ListQuery {
        ListQuery { limit, ..ListQuery::default() }
    }

    /// A page that can be told from others; counts how often it is read.
    struct Database(Cell<usize>);

    impl Database {
        fn read(&self) -> impl Future<Output = Result<DocumentPage>> {
            lazy(|_| {
                self.0.set(self.0.get() + 1);
                Ok(DocumentPage { documents: Vec::new(), next: None })
            })
        }
    }

    #[tokio::test]
    async fn a_page_is_read_once_between_two_commits() {
        let (committed, commits) = watch::channel(0);
        let (pages, database) = (Pages::new(commits), Database(Cell::new(0)));
        for (commit, reads) in [(0, 2), (1, 4), (2, 6)] {
            committed.send_replace(commit);
            for limit in [1, 1, 2, 2, 1] {
                pages.get(&query(limit), database.read()).await.expect("a page");
            }
            assert_eq!(database.0.get(), reads, "after commit {commit}");
        }
    }

    #[tokio::test]
    async fn a_page_that_a_commit_overtook_is_not_kept() {
        let (committed, commits) = watch::channel(0);
        let (pages, database) = (Pages::new(commits), Database(Cell::new(0)));
        let overtaken = async {
            let page = database.read().await;
            committed.send_replace(1);
            pages.get(&query(2), database.read()).await.expect("another page");
            page
        };
        pages.get(&query(1), overtaken).await.expect("a page");
        assert_eq!(database.0.get(), 2);
        pages.get(&query(1), database.read()).await.expect("a page");
        assert_eq!(database.0.get(), 3, "it was read again");
        pages.get(&query(2), database.read()).await.expect("a page");
        assert_eq!(database.0.get(), 3, "the newer one was kept");
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let (_committed, commits) = watch::channel(0);
        let (pages, database) = (Pages::new(commits), Database(Cell::new(0)));
        let failure = async { Err(dms_core::Error::unavailable("database", "away")) };
        pages.get(&query(1), failure).await.expect_err("away");
        pages.get(&query(1), database.read()).await.expect("a page");
        assert_eq!(database.0.get(), 1);
    }
}
