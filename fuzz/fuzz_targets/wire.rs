//! The parser of answers returns a reading or a failure for any status and bytes. It never panics.
#![no_main]

use campos_operator::camposcloud::error::{RawAnswer, app, identity, page, receipt};
use campos_operator::platform::PageRequest;
use campos_operator::reconcile::redacted::Secrets;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (status, body) = input;
    let secrets = Secrets::default();
    let answer = RawAnswer::new(status, |_| None, body, 1 << 20, secrets);
    let request = PageRequest { number: 1, limit: None, team: None };
    let id = "60c72b2f9b1e8d001c8e4f3a".parse().expect("an id");
    drop((page(&answer, &request), app(&answer, &id), receipt(&answer, "fuzzing", &id), identity(&answer)));
});
