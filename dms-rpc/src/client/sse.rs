//! The event stream format (WHATWG HTML, "Server-sent events"): bytes to events, without I/O.

/// Most bytes that one event may have.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// An event that has data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEvent {
    /// The last id that was set, by this event or one before.
    pub id: Option<String>,
    pub data: String,
}

/// An event larger than [`EVENT_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Takes events out of bytes as they come.
#[derive(Debug, Default)]
pub struct Parser {
    /// The beginning of a line whose end hasn't come yet.
    line: Vec<u8>,
    /// Whether the last byte was a carriage return, which a line feed may follow.
    after_return: bool,
    /// Whether the first line, which may begin with a byte order mark, is over.
    begun: bool,
    data: Option<String>,
    id: Option<String>,
}

impl Parser {
    /// A parser of a stream that goes on after the event with this id.
    pub fn after(id: Option<String>) -> Self {
        Self { id, ..Self::default() }
    }

    /// Takes the next bytes, and puts the events they complete into `events`.
    pub fn feed(&mut self, bytes: &[u8], mut events: impl FnMut(RawEvent)) -> Result<(), TooLarge> {
        for &byte in bytes {
            if std::mem::replace(&mut self.after_return, byte == b'\r') && byte == b'\n' {
                continue;
            }
            if byte == b'\r' || byte == b'\n' {
                if let Some(event) = self.end_line() {
                    events(event);
                }
            } else {
                self.line.push(byte);
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > EVENT_BYTES_MAX {
                return Err(TooLarge);
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Option<RawEvent> {
        let line = std::mem::take(&mut self.line);
        let mut line = &*String::from_utf8_lossy(&line);
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            return self.data.take().map(|data| RawEvent { id: self.id.clone(), data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => {
                self.id = (!value.is_empty()).then(|| value.to_owned());
            }
            // A comment, an event's name, a time to reconnect, or something of the future.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(chunks: &[&[u8]]) -> Vec<(Option<String>, String)> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for chunk in chunks {
            parser.feed(chunk, |event| events.push((event.id, event.data))).unwrap();
        }
        events
    }

    #[test]
    fn an_event_ends_with_an_empty_line() {
        assert_eq!(parse(&[b"data: a\n\n"]), [(None, "a".into())]);
        assert_eq!(parse(&[b"data: a\n"]), []);
    }

    #[test]
    fn lines_of_data_are_joined() {
        assert_eq!(parse(&[b"data: a\ndata:b\ndata\n\n"]), [(None, "a\nb\n".into())]);
    }

    #[test]
    fn every_kind_of_line_end_is_taken() {
        for text in ["data: a\r\rdata: b\r\r", "data: a\r\n\r\ndata: b\r\n\r\n"] {
            assert_eq!(parse(&[text.as_bytes()]), [(None, "a".into()), (None, "b".into())]);
        }
    }

    #[test]
    fn comments_and_unknown_fields_are_skipped() {
        assert_eq!(parse(&[b": keep\n\nevent: x\nretry: 3\ndata: a\nother: y\n\n"]).len(), 1);
    }

    #[test]
    fn an_id_stays_until_another_is_set() {
        let events = parse(&[b"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\nid\ndata: d\n\n"]);
        let ids: Vec<_> = events.iter().map(|(id, _)| id.as_deref()).collect();
        assert_eq!(ids, [Some("1"), Some("1"), Some("2"), None]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert_eq!(parse(&["\u{feff}data: a\n\n".as_bytes()]), [(None, "a".into())]);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        let line = [b"data: ".to_vec(), vec![b'x'; 1 << 10], b"\n".to_vec()].concat();
        let refused = (0..2_000).any(|_| parser.feed(&line, |_| {}).is_err());
        assert!(refused);
        assert_eq!(Parser::default().feed(&vec![b'x'; EVENT_BYTES_MAX + 1], |_| {}), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_bytes_are_cut(
            text in "(data: [ab]{0,3}|id: [0-9]|: c|x)?(\r\n|\r|\n){1,2}|(data: é\n\n){0,2}",
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            at in 0..64_usize,
        ) {
            for whole in [text.repeat(3).into_bytes(), bytes] {
                let (head, tail) = whole.split_at(at.min(whole.len()));
                prop_assert_eq!(parse(&[head, tail]), parse(&[&whole]));
            }
        }
    }
}
