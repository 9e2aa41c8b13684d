#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dms_fuzz_targets::conditions(input));
