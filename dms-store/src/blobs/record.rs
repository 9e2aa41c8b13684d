//! What a volume of the journal holds: records, one after the other, until one isn't whole.
//!
//! ```text
//! epoch: u64 | content length: u32 | key length: u16 | kind: u8 | 0: u8 | checksum: 16 bytes | key | content
//! ```
//!
//! Numbers are little-endian. The checksum is the first half of a SHA-256 of lengths, kind, key and
//! content, combined with the epoch: what is left of an earlier use of the volume doesn't match.

use bytes::Bytes;
use dms_core::Sha256;

/// Names of the volumes in the folder of their store.
pub(super) const VOLUMES: [&str; 2] = ["0.journal", "1.journal"];

/// Length of what comes before the key.
pub(super) const HEADER_BYTES: usize = 32;

const LENGTHS: std::ops::Range<usize> = 8..16;
const CHECKSUM: std::ops::Range<usize> = 16..32;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Content = 1,
    Removal = 2,
}

/// A record without its epoch; [`seal`] completes it.
pub(super) fn body(kind: Kind, key: &str, content: &[Bytes]) -> Vec<u8> {
    let content_len: usize = content.iter().map(Bytes::len).sum();
    let mut body = Vec::with_capacity(HEADER_BYTES + key.len() + content_len);
    body.extend_from_slice(&[0; 8]);
    // Both are bounded far below these types.
    body.extend_from_slice(&u32::try_from(content_len).unwrap_or(u32::MAX).to_le_bytes());
    body.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend_from_slice(&[kind as u8, 0]);
    body.extend_from_slice(&[0; 16]);
    body.extend_from_slice(key.as_bytes());
    for part in content {
        body.extend_from_slice(part);
    }
    let checksum = checksum(&body);
    body[CHECKSUM].copy_from_slice(&checksum);
    body
}

/// Length of the record of a key's removal.
pub(super) fn removal_len(key: &str) -> usize {
    HEADER_BYTES + key.len()
}

/// Gives a record its epoch, once.
pub(super) fn seal(body: &mut [u8], epoch: u64) {
    let epoch = epoch.to_le_bytes();
    body[..8].copy_from_slice(&epoch);
    for (byte, epoch) in body[CHECKSUM].iter_mut().zip(epoch) {
        *byte ^= epoch;
    }
}

fn checksum(body: &[u8]) -> [u8; 16] {
    let parts = [&body[LENGTHS], &body[HEADER_BYTES..]].concat();
    let digest = Sha256::of(&parts);
    let (half, _) = digest.as_bytes().split_first_chunk().unwrap_or((&[0; 16], &[]));
    *half
}

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    pub(super) key: &'a str,
    pub(super) content: &'a [u8],
}

/// Epoch and records of a volume; none if its first record isn't whole.
pub(super) fn read(volume: &[u8]) -> Option<(u64, Vec<Record<'_>>)> {
    let (epoch, first, mut rest) = read_one(volume)?;
    let mut records = vec![first];
    while let Some((found, record, after)) = read_one(rest)
        && found == epoch
    {
        records.push(record);
        rest = after;
    }
    Some((epoch, records))
}

fn read_one(bytes: &[u8]) -> Option<(u64, Record<'_>, &[u8])> {
    let epoch_bytes: [u8; 8] = *bytes.first_chunk()?;
    let epoch = u64::from_le_bytes(epoch_bytes);
    let lengths: [u8; 8] = *bytes.get(LENGTHS)?.first_chunk()?;
    let [c0, c1, c2, c3, k0, k1, kind, _] = lengths;
    let content_len = usize::try_from(u32::from_le_bytes([c0, c1, c2, c3])).ok()?;
    let key_len = usize::from(u16::from_le_bytes([k0, k1]));
    let kind = match kind {
        1 => Kind::Content,
        2 => Kind::Removal,
        _ => return None,
    };
    let content_at = HEADER_BYTES.checked_add(key_len)?;
    let end = content_at.checked_add(content_len)?;
    let record = bytes.get(..end)?;
    let mut expected: [u8; 16] = *record.get(CHECKSUM)?.first_chunk()?;
    for (byte, epoch) in expected.iter_mut().zip(epoch_bytes) {
        *byte ^= epoch;
    }
    if checksum(record) != expected {
        return None;
    }
    let key = std::str::from_utf8(&record[HEADER_BYTES..content_at]).ok()?;
    Some((epoch, Record { kind, key, content: &record[content_at..] }, &bytes[end..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(epoch: u64, kind: Kind, key: &str, content: &'static str) -> Vec<u8> {
        let mut body = body(kind, key, &[Bytes::from_static(content.as_bytes())]);
        seal(&mut body, epoch);
        body
    }

    #[test]
    fn records_are_read_as_written_up_to_the_first_that_is_not_whole() {
        let first = sealed(3, Kind::Content, "a/content", "hello");
        let second = sealed(3, Kind::Removal, "a/content", "");
        let earlier = sealed(2, Kind::Content, "b/content", "left of before");
        let volume = [&*first, &second, &earlier, &[0; 100]].concat();
        let expected = vec![
            Record { kind: Kind::Content, key: "a/content", content: b"hello" },
            Record { kind: Kind::Removal, key: "a/content", content: b"" },
        ];
        assert_eq!(read(&volume), Some((3, expected)));
        assert_eq!(removal_len("a/content"), second.len());
        for torn in 0..first.len() {
            assert_eq!(read(&volume[..torn]), None, "{torn} bytes");
        }
        for at in 0..first.len() {
            let mut damaged = volume.clone();
            damaged[at] ^= 1;
            assert_eq!(read(&damaged), None, "byte {at}");
        }
        assert_eq!(read(&[0; 4096]), None, "a new volume is empty");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
