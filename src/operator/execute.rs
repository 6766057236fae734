//! Sends one request and returns its outcome. It makes no decision; failures are isolated per app.

use std::sync::Arc;

use crate::clock::Clock;
use crate::platform::{Answered, Page, PageRequest, Platform, Seen};
use crate::reconcile::app::{AppId, AppName};
use crate::reconcile::clock_check::ServerClock;
use crate::reconcile::moment::Moment;
use crate::reconcile::outcome::{Failure, RateLimitHeaders, Receipt, Verdict};
use crate::reconcile::state::Action;
use crate::status::meters::Endpoint;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    Act { name: AppName, id: AppId, action: Action, attempt: u32 },
    Read { id: AppId },
    Page { page: PageRequest },
    Token,
}

impl Job {
    pub const fn endpoint(&self) -> Endpoint {
        match self {
            Self::Act { action: Action::Stop, .. } => Endpoint::Stop,
            Self::Act { action: Action::Start, .. } => Endpoint::Start,
            Self::Act { action: Action::Restart, .. } => Endpoint::Restart,
            Self::Read { .. } => Endpoint::Get,
            Self::Page { .. } => Endpoint::List,
            Self::Token => Endpoint::Me,
        }
    }
}

#[derive(Debug)]
pub enum JobResult {
    Acted(Result<Answered<Receipt>, Failure>),
    Read(Result<Answered<Seen>, Failure>),
    Listed(Result<Answered<Page>, Failure>),
    Token(Result<Answered<()>, Failure>),
}

impl JobResult {
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Acted(result) => result.as_ref().err(),
            Self::Read(result) => result.as_ref().err(),
            Self::Listed(result) => result.as_ref().err(),
            Self::Token(result) => result.as_ref().err(),
        }
    }

    pub fn failure_mut(&mut self) -> Option<&mut Failure> {
        match self {
            Self::Acted(result) => result.as_mut().err(),
            Self::Read(result) => result.as_mut().err(),
            Self::Listed(result) => result.as_mut().err(),
            Self::Token(result) => result.as_mut().err(),
        }
    }

    /// The HTTP status of the answer. A successful read is a 200: no other status has a body to read.
    pub fn http_status(&self) -> Option<u16> {
        match self {
            Self::Acted(Ok(answered)) => Some(answered.value.http_status),
            Self::Read(Ok(_)) | Self::Listed(Ok(_)) | Self::Token(Ok(_)) => Some(200),
            Self::Acted(Err(_)) | Self::Read(Err(_)) | Self::Listed(Err(_)) | Self::Token(Err(_)) => {
                self.failure().and_then(|failure| failure.http_status)
            }
        }
    }

    /// Number of times that the request was sent again.
    pub fn repeats(&self) -> u32 {
        match self {
            Self::Acted(Ok(answered)) => answered.repeats,
            Self::Read(Ok(answered)) => answered.repeats,
            Self::Listed(Ok(answered)) => answered.repeats,
            Self::Token(Ok(answered)) => answered.repeats,
            Self::Acted(Err(failure))
            | Self::Read(Err(failure))
            | Self::Listed(Err(failure))
            | Self::Token(Err(failure)) => failure.repeats,
        }
    }

    /// The server's clock, from the `Date` of the answer.
    pub fn server_clock(&self) -> ServerClock {
        self.failure().map_or_else(|| self.limits().clock, |failure| failure.limits.clock)
    }

    /// The rate-limit headers of an answer that was no failure.
    pub fn limits(&self) -> RateLimitHeaders {
        match self {
            Self::Acted(Ok(answered)) => answered.limits,
            Self::Read(Ok(answered)) => answered.limits,
            Self::Listed(Ok(answered)) => answered.limits,
            Self::Token(Ok(answered)) => answered.limits,
            Self::Acted(Err(_)) | Self::Read(Err(_)) | Self::Listed(Err(_)) | Self::Token(Err(_)) => {
                RateLimitHeaders::default()
            }
        }
    }
}

#[derive(Debug)]
pub struct Outcome {
    pub job: Job,
    pub result: JobResult,
    pub sent_at: Moment,
}

/// Makes the request and returns its outcome.
pub async fn carry_out<P: Platform>(platform: Arc<P>, job: Job, clock: Clock, admitted_at: Moment) -> Outcome {
    // Use the later time: a reading is valid only from the send of its request on.
    let sent_at = clock.now().max(admitted_at);
    let result = match &job {
        Job::Act { id, action, .. } => JobResult::Acted(platform.act(*action, id).await),
        Job::Read { id } => JobResult::Read(platform.get(id).await),
        Job::Page { page } => JobResult::Listed(platform.list(page.clone()).await),
        Job::Token => JobResult::Token(platform.whoami().await),
    };
    Outcome { job, result, sent_at }
}

/// Outcome of a request without a usable answer.
pub fn lost(job: Job, why: &'static str, now: Moment) -> Outcome {
    let failure = Failure {
        verdict: Verdict::LostAnswer,
        http_status: None,
        message: why.into(),
        limits: RateLimitHeaders::default(),
        repeats: 0,
    };
    let result = match &job {
        Job::Act { .. } => JobResult::Acted(Err(failure)),
        Job::Read { .. } => JobResult::Read(Err(failure)),
        Job::Page { .. } => JobResult::Listed(Err(failure)),
        Job::Token => JobResult::Token(Err(failure)),
    };
    Outcome { job, result, sent_at: now }
}
