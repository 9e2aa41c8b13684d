//! Places in the log.

use std::fmt;
use std::str::FromStr;

use dms_core::model::change::Position;

/// A byte position in the write-ahead log (`pg_lsn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Lsn(pub(super) u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (high, low) = text.split_once('/').ok_or(())?;
        let half = |digits: &str| {
            // `from_str_radix` would take a sign.
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            u32::from_str_radix(digits, 16).ok().filter(|_| is_hex).ok_or(())
        };
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

/// A place in the stream: after the `index`th change of the transaction whose commit record is at
/// `lsn`, or, with index 0, before any transaction that commits there or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct WalPosition {
    pub(super) lsn: Lsn,
    pub(super) index: u64,
}

impl WalPosition {
    /// Between transactions.
    pub(super) const fn between(lsn: Lsn) -> Self {
        Self { lsn, index: 0 }
    }

    /// The place a port's position means, if it is one of ours.
    pub(super) fn parse(position: &Position) -> Option<Self> {
        position.as_str().parse().ok()
    }

    pub(super) fn to_position(self) -> Position {
        Position::new(self.to_string())
    }
}

impl fmt::Display for WalPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            0 => self.lsn.fmt(f),
            index => write!(f, "{}+{index}", self.lsn),
        }
    }
}

impl FromStr for WalPosition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let Some((lsn, index)) = text.split_once('+') else {
            return Ok(Self::between(text.parse()?));
        };
        let is_number = index.bytes().all(|digit| digit.is_ascii_digit());
        let index = index.parse().ok().filter(|index| *index > 0 && is_number).ok_or(())?;
        Ok(Self { lsn: lsn.parse()?, index })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_is_read_back_and_order_is_kept(a: (u64, u64), b: (u64, u64)) {
            let place = |(lsn, index)| WalPosition { lsn: Lsn(lsn), index };
            prop_assert_eq!(place(a).to_string().parse(), Ok(place(a)));
            prop_assert_eq!(place(a).cmp(&place(b)), a.cmp(&b));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,40}") {
            if let Ok(place) = text.parse::<WalPosition>() {
                prop_assert_eq!(place.to_string().parse(), Ok(place));
            }
        }
    }

    #[test]
    fn foreign_text_is_no_position() {
        for text in ["", "12", "/", "0/", "/0", "+1/0", "0/0+", "0/0+0", "0/0+-1", "0/1+2+3", "g/0"]
        {
            assert_eq!(text.parse::<WalPosition>(), Err(()), "{text}");
        }
        assert_eq!("16/B374D848+3".parse::<WalPosition>().map(|at| at.index), Ok(3));
    }
}
