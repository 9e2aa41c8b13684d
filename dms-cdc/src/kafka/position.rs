//! Places in topics, and positions as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dms_core::model::change::Position;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// A partition of one of the topics that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// Which of the topics.
    pub(super) topic: usize,
    pub(super) partition: i32,
}

/// The next offset of partitions.
pub(super) type Offsets = BTreeMap<Place, i64>;

/// A position, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// Of everything.
    All(Offsets),
    /// Of one record; the offset is the one after it.
    One(Place, i64),
}

impl Mark {
    pub(super) fn offsets(&self) -> Offsets {
        match self {
            Self::All(offsets) => offsets.clone(),
            Self::One(place, next) => Offsets::from([(*place, *next)]),
        }
    }
}

/// Names of the topics that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topics(Vec<String>);

impl Topics {
    pub(super) fn new(mut names: Vec<String>) -> Self {
        names.sort_unstable();
        names.dedup();
        Self(names)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    pub(super) fn name(&self, topic: usize) -> &str {
        self.0.get(topic).map_or("", String::as_str)
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|known| known == name)
    }

    pub(super) fn place(&self, name: &str, partition: i32) -> Option<Place> {
        Some(Place { topic: self.index(name)?, partition })
    }

    /// Offsets as a position.
    pub(super) fn write(&self, offsets: &Offsets) -> Position {
        let mut text = String::new();
        for (topic, name) in self.0.iter().enumerate() {
            let separator = if topic == 0 { "" } else { ";" };
            // Writing to a string can't fail.
            let _ = write!(text, "{separator}{name}:");
            let partitions = offsets.iter().filter(|(place, _)| place.topic == topic);
            for (at, (place, offset)) in partitions.enumerate() {
                let separator = if at == 0 { "" } else { "," };
                let _ = write!(text, "{separator}{}={offset}", place.partition);
            }
        }
        Position::new(text)
    }

    /// The position that a text is; none if it isn't one of these topics.
    pub(super) fn read(&self, position: &Position) -> Option<Mark> {
        let text = position.as_str();
        if let Some((name, rest)) = text.split_once('/') {
            let (partition, offset) = rest.split_once('@')?;
            let place = self.place(name, number(partition)?)?;
            return Some(Mark::One(place, number::<i64>(offset)?.checked_add(1)?));
        }
        let mut offsets = Offsets::new();
        for part in text.split(';') {
            let (name, partitions) = part.split_once(':')?;
            let topic = self.index(name)?;
            for pair in partitions.split(',').filter(|pair| !pair.is_empty()) {
                let (partition, offset) = pair.split_once('=')?;
                let place = Place { topic, partition: number(partition)? };
                if offsets.insert(place, number(offset)?).is_some() {
                    return None;
                }
            }
        }
        Some(Mark::All(offsets))
    }

    /// Offsets as the client takes them. With `metadata`, which is kept beside them.
    pub(super) fn list(&self, offsets: &Offsets, metadata: &str) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (place, offset) in offsets {
            let mut element = list.add_partition(self.name(place.topic), place.partition);
            // Only an offset beyond what Kafka has can't be set.
            let _ = element.set_offset(Offset::Offset(*offset));
            element.set_metadata(metadata);
        }
        list
    }

    /// Partitions as the client takes them.
    pub(super) fn list_of(&self, places: impl IntoIterator<Item = Place>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for place in places {
            list.add_partition(self.name(place.topic), place.partition);
        }
        list
    }

    /// The partitions of a list, those of other topics left out.
    pub(super) fn places(&self, list: &TopicPartitionList) -> Vec<Place> {
        let elements = list.elements();
        elements.iter().filter_map(|e| self.place(e.topic(), e.partition())).collect()
    }
}

/// A number that isn't negative.
fn number<T: std::str::FromStr + PartialOrd + Default>(text: &str) -> Option<T> {
    let number = text.parse().ok()?;
    (number >= T::default() && !text.starts_with('+')).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topics() -> Topics {
        Topics::new(vec!["cdc.signatures".to_owned(), "cdc.documents".to_owned()])
    }

    fn place(topic: usize, partition: i32) -> Place {
        Place { topic, partition }
    }

    #[test]
    fn positions_read_as_they_are_written() {
        let topics = topics();
        let offsets = Offsets::from([(place(0, 0), 12), (place(0, 1), 7), (place(1, 0), 4)]);
        let position = topics.write(&offsets);
        assert_eq!(position.as_str(), "cdc.documents:0=12,1=7;cdc.signatures:0=4");
        assert_eq!(topics.read(&position), Some(Mark::All(offsets)));
        let none = topics.write(&Offsets::new());
        assert_eq!(topics.read(&none), Some(Mark::All(Offsets::new())));
        let record = Position::new("cdc.documents/2@11");
        assert_eq!(topics.read(&record), Some(Mark::One(place(0, 2), 12)));
    }

    #[test]
    fn foreign_positions_are_refused() {
        for text in [
            "",
            "7",
            "other:0=1",
            "cdc.documents",
            "cdc.documents:0",
            "cdc.documents:0=-1",
            "cdc.documents:0=1,0=2",
            "cdc.documents/0",
            "cdc.documents/0@x",
            "other/0@1",
            "cdc.documents/0@9223372036854775807",
            "no position of any log",
            "cdc.documents:0=+1",
        ] {
            assert_eq!(topics().read(&Position::new(text)), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z.:;=,/@0-9-]{0,40}") {
            if let Some(Mark::All(offsets)) = topics().read(&Position::new(text)) {
                prop_assert_eq!(
                    topics().read(&topics().write(&offsets)), Some(Mark::All(offsets)));
            }
        }
    }
}
