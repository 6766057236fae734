//! Whatever is in a manifest file: an answer or an error, never a panic, in bounded time.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    drop(campos_operator::manifest::load::parse(&"fuzz.yaml".into(), bytes));
});
