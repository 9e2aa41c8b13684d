//! Each target with its seeds and with what can be made of them, without instrumentation.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use dms_fuzz_targets::TARGETS;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// Chooses the mutations; `DMS_FUZZ_SEED` chooses others.
const SEED: u64 = 0x5eed;
/// How many inputs are made for each target; `DMS_FUZZ_INPUTS` says otherwise.
const INPUTS: u64 = 1_000;
const INPUT_BYTES_MAX: usize = 8 << 10;

/// What parsers tell apart, to be put into inputs.
const WORDS: [&str; 24] = [
    "\0",
    "\n",
    "\r\n",
    "\"",
    "\\",
    "null",
    "{}",
    "[",
    "-1",
    "0",
    "9223372036854775808",
    "1e309",
    "\u{feff}",
    "\u{202e}",
    "é",
    "🦀",
    "\\ud800",
    "=",
    "&",
    "<",
    "%00",
    "://",
    "@",
    "*",
];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder above").to_owned()
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz().join(folder)).expect("a readable folder");
    let name = |entry: fs::DirEntry| {
        entry.path().file_stem().expect("a name").to_string_lossy().into_owned()
    };
    entries.map(|entry| name(entry.expect("an entry"))).collect()
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = fuzz().join("seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("no seeds of {target}: {e}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a readable seed")).collect()
}

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

#[test]
fn every_target_has_a_binary_and_seeds() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("seeds"), targets);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("a manifest");
    for target in &targets {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} isn't built");
        assert!(!seeds(target).is_empty(), "{target} has no seeds");
    }
}

#[test]
fn no_target_finds_anything_in_its_seeds_or_near_them() {
    let (seed, inputs) = (number("DMS_FUZZ_SEED", SEED), number("DMS_FUZZ_INPUTS", INPUTS));
    println!("DMS_FUZZ_SEED={seed} DMS_FUZZ_INPUTS={inputs}");
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        let mut random = SmallRng::seed_from_u64(seed);
        let mutated = (0..inputs).map(|_| mutated(&seeds, &mut random));
        let mut inputs = seeds.iter().cloned().chain(mutated);
        let finds = |input: &Vec<u8>| catch_unwind(AssertUnwindSafe(|| target(input))).is_err();
        if let Some(input) = inputs.find(finds) {
            println!("{name} fails on b\"{}\"", input.escape_ascii());
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?} found something");
}

/// A seed with some bytes changed, cut out, doubled, put in, or taken from another one.
fn mutated(seeds: &[Vec<u8>], random: &mut SmallRng) -> Vec<u8> {
    let mut input = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..=4_u32) {
        let at = random.random_range(0..=input.len());
        let end = input.len().min(at + random.random_range(0..16));
        match random.random_range(0..7_u32) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8_u32),
            1 if at < input.len() => input[at] = random.random(),
            2 => drop(input.drain(at..end)),
            3 => {
                let part = input[at..end].repeat(random.random_range(1..8));
                input.splice(at..at, part);
            }
            4 => input.truncate(at),
            5 => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let word = WORDS[random.random_range(0..WORDS.len())];
                input.splice(at..at, word.bytes());
            }
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}
