//! The parser of manifests and of calendars returns an answer or an error for any bytes. It never panics, and its time
//! is bounded. `serde_yaml` reads the same values from every document that the parser accepts.
#![no_main]

use campos_operator::manifest::load;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    drop(load::parse(&"fuzz.yaml".into(), bytes));
    drop(load::parse(&"fuzz.ics".into(), bytes));
    assert_eq!(load::disagreement(bytes), None);
});
