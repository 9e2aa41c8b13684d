//! What is asked, as tantivy's queries: built from a taken-apart text, never parsed from a language.

use dms_core::model::search::SearchFilter;
use dms_core::model::text_query::{Phrase, TextQuery};
use tantivy::Term;
use tantivy::query::{
    BooleanQuery, BoostQuery, ConstScoreQuery, Occur, PhraseQuery, Query, TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use super::schema::Fields;

/// How much more a match in the title counts than one in the content.
const TITLE_BOOST: f32 = 3.0;

/// A query that is ready to run.
#[derive(Debug)]
pub(super) struct Plan {
    /// What to match; none if nothing can.
    pub(super) query: Option<Box<dyn Query>>,
    /// What of it to leave out. Not part of the query: a `PhraseQuery` among the exclusions of a
    /// `BooleanQuery` is sought backwards, which debug builds of tantivy 0.27 panic at.
    pub(super) excluded: Option<Box<dyn Query>>,
    /// Whether some hits are better than others.
    pub(super) is_scored: bool,
    /// If the query matches any of some terms and asks for nothing else: each of them by itself.
    pub(super) union: Option<Vec<Box<dyn Query>>>,
}

/// Decides how to find what is asked for.
pub(super) fn plan(fields: &Fields, text: Option<&TextQuery>, filter: &SearchFilter) -> Plan {
    if text.is_some_and(TextQuery::is_empty) {
        return Plan { query: None, excluded: None, is_scored: false, union: None };
    }
    let is_scored = text.is_some_and(TextQuery::is_scored);
    let mut clauses = filters(fields, filter);
    let union = text.filter(|text| clauses.is_empty() && asks_for_any_word(text));
    let union = union.map(|text| in_fields_each(fields, &text.any));
    if let Some(text) = text {
        clauses.extend(text_clauses(fields, text));
    }
    if clauses.is_empty() {
        clauses.push((Occur::Must, unscored(fields.live_term())));
    }
    let query: Box<dyn Query> = match <[_; 1]>::try_from(clauses) {
        Ok([(_, only)]) => only,
        Err(clauses) => Box::new(BooleanQuery::new(clauses)),
    };
    let excluded = text.and_then(|text| any_of(fields, &text.none));
    Plan { query: Some(query), excluded, is_scored, union }
}

/// Whether a document matches that has any of the words, and no other.
fn asks_for_any_word(text: &TextQuery) -> bool {
    let is_word = |phrase: &Phrase| phrase.len() == 1;
    text.is_scored() && text.all.is_empty() && text.none.is_empty() && text.any.iter().all(is_word)
}

type Clause = (Occur, Box<dyn Query>);

fn filters(fields: &Fields, filter: &SearchFilter) -> Vec<Clause> {
    let terms = [
        (fields.status_exact, filter.status.map(dms_core::DocumentStatus::as_str)),
        (fields.created_by_exact, filter.created_by.as_deref()),
        (fields.content_type_exact, filter.content_type.as_deref()),
    ];
    let wanted = terms.into_iter().filter_map(|(field, value)| Some((field, value?)));
    wanted
        .map(|(field, value)| (Occur::Must, unscored(Term::from_field_text(field, value))))
        .collect()
}

/// A condition that says nothing about how good a hit is.
fn unscored(term: Term) -> Box<dyn Query> {
    let query = TermQuery::new(term, IndexRecordOption::Basic);
    Box::new(ConstScoreQuery::new(Box::new(query), 0.0))
}

fn text_clauses(fields: &Fields, text: &TextQuery) -> Vec<Clause> {
    // With something that must be there, the rest only decides about the order.
    let occur = if text.all.is_empty() { Occur::Must } else { Occur::Should };
    let any = any_of(fields, &text.any).map(|any| (occur, any));
    let all = text.all.iter().map(|phrase| -> Clause {
        (Occur::Must, Box::new(BooleanQuery::union(in_fields(fields, phrase))))
    });
    any.into_iter().chain(all).collect()
}

/// Any of the phrases in any of the fields that are analysed; none if there is no phrase.
fn any_of(fields: &Fields, phrases: &[Phrase]) -> Option<Box<dyn Query>> {
    let queries = in_fields_each(fields, phrases);
    (!queries.is_empty()).then(|| -> Box<dyn Query> { Box::new(BooleanQuery::union(queries)) })
}

/// Each phrase in each of the fields that are analysed.
fn in_fields_each(fields: &Fields, phrases: &[Phrase]) -> Vec<Box<dyn Query>> {
    phrases.iter().flat_map(|phrase| in_fields(fields, phrase)).collect()
}

/// The phrase in each of the fields that are analysed.
fn in_fields(fields: &Fields, phrase: &Phrase) -> Vec<Box<dyn Query>> {
    vec![
        Box::new(BoostQuery::new(in_field(fields.title, phrase), TITLE_BOOST)),
        in_field(fields.created_by, phrase),
        in_field(fields.content, phrase),
    ]
}

fn in_field(field: Field, phrase: &Phrase) -> Box<dyn Query> {
    let mut terms: Vec<_> = phrase.iter().map(|word| Term::from_field_text(field, word)).collect();
    match terms.len() {
        1 => Box::new(TermQuery::new(terms.remove(0), IndexRecordOption::WithFreqs)),
        _ => Box::new(PhraseQuery::new(terms)),
    }
}
