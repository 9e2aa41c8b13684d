//! Text to store and to look for: words whose frequencies follow Zipf's law, the same in every run.

const VOCABULARY: u64 = 20_000;
const SYLLABLES: [&str; 20] = [
    "ba", "re", "mi", "to", "lu", "ka", "ne", "si", "do", "fu", "ra", "le", "vi", "mo", "pu", "ta",
    "ge", "ni", "so", "du",
];

/// A random number from a seed (`SplitMix64`).
pub(crate) fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The word of a rank.
pub(crate) fn word(rank: u64) -> String {
    let mut rest = rank + 20;
    let mut word = String::new();
    while rest > 0 {
        word.push_str(SYLLABLES[usize::try_from(rest % 20).unwrap_or_default()]);
        rest /= 20;
    }
    word
}

/// A rank with a probability about inverse to it.
pub(crate) fn rank(seed: u64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "a probability")]
    let uniform = (random(seed) >> 11) as f64 / (1_u64 << 53) as f64;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let rank = (VOCABULARY as f64).powf(uniform);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 20,000")]
    let rank = rank as u64;
    rank
}

/// About `bytes` bytes of words.
pub(crate) fn text(seed: u64, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut n = 0;
    while text.len() < bytes {
        if n > 0 {
            text.push(' ');
        }
        text.push_str(&word(rank(random(seed).wrapping_add(n))));
        n += 1;
    }
    text.truncate(bytes);
    text
}

/// A document to create, of 1 KiB of content.
pub(crate) fn document(seed: u64) -> String {
    format!(
        r#"{{"title":"{}","content":"{}","created_by":"user{}@example.org"}}"#,
        text(seed ^ 1, 40).trim_end(),
        text(seed, 1024),
        seed % 100
    )
}
