//! A simulated Lease: the record as an API server keeps it, as a pure state machine.

use crate::kubernetes::elector::{Answer, Record, Request};

#[derive(Debug, Clone, Default)]
pub struct LeaseServer {
    pub record: Option<Record>,
    writes: u32,
}

impl LeaseServer {
    pub fn handle(&mut self, request: &Request) -> Answer {
        let new = match (request, &self.record) {
            (Request::Read, None) => return Answer::Absent,
            (Request::Read, Some(record)) => return Answer::Stored(record.clone()),
            (Request::Create(_), Some(_)) => return Answer::Conflict,
            (Request::Replace(new), Some(record)) if new.version != record.version => return Answer::Conflict,
            (Request::Replace(_), None) => return Answer::Absent,
            (Request::Create(new) | Request::Replace(new), _) => new.clone(),
        };
        self.writes += 1;
        let record = Record { version: self.writes.to_string().into(), ..new };
        self.record = Some(record.clone());
        Answer::Stored(record)
    }
}
