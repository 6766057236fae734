//! Whatever is in a manifest file: an answer or an error, never a panic, in bounded time; and `serde_yaml` reads the same
//! values from every document that is accepted.
#![no_main]

use campos_operator::manifest::load;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    drop(load::parse(&"fuzz.yaml".into(), bytes));
    assert_eq!(load::disagreement(bytes), None);
});
