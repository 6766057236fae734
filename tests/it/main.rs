//! Tests in real time, against a real disk and real events. Each waits for a state, with a deadline.

mod source;
