//! How is one request carried out? It makes no choices; one app's failure stays its own.

use std::sync::Arc;

use crate::clock::Clock;
use crate::platform::{Answered, Page, PageRequest, Platform, Seen};
use crate::reconcile::app::{AppId, AppName};
use crate::reconcile::doubt::ServerClock;
use crate::reconcile::moment::Moment;
use crate::reconcile::outcome::{Failure, Limits, Receipt, Verdict};
use crate::reconcile::state::Action;
use crate::status::meters::Endpoint;

/// One request to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Stop or start an app.
    Act {
        /// The object because of which.
        name: AppName,
        /// The app.
        id: AppId,
        /// Which of the two.
        action: Action,
        /// The how-manieth try.
        attempt: u32,
    },
    /// Read one app.
    Look {
        /// The app.
        id: AppId,
    },
    /// Read a page of the list.
    Page {
        /// Which.
        page: PageRequest,
    },
    /// Check the token.
    Token,
}

impl Job {
    /// The kind of request, for metrics.
    pub const fn endpoint(&self) -> Endpoint {
        match self {
            Self::Act { action: Action::Stop, .. } => Endpoint::Stop,
            Self::Act { action: Action::Start, .. } => Endpoint::Start,
            Self::Look { .. } => Endpoint::Get,
            Self::Page { .. } => Endpoint::List,
            Self::Token => Endpoint::Me,
        }
    }
}

/// What came of each kind of request.
#[derive(Debug)]
pub enum Result {
    /// Of a stop or start.
    Acted(std::result::Result<Answered<Receipt>, Failure>),
    /// Of a look.
    Looked(std::result::Result<Answered<Seen>, Failure>),
    /// Of a page.
    Listed(std::result::Result<Answered<Page>, Failure>),
    /// Of a check of the token.
    Known(std::result::Result<Answered<()>, Failure>),
}

impl Result {
    /// The failure, if it is one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Acted(result) => result.as_ref().err(),
            Self::Looked(result) => result.as_ref().err(),
            Self::Listed(result) => result.as_ref().err(),
            Self::Known(result) => result.as_ref().err(),
        }
    }

    /// The same, to correct it.
    pub fn failure_mut(&mut self) -> Option<&mut Failure> {
        match self {
            Self::Acted(result) => result.as_mut().err(),
            Self::Looked(result) => result.as_mut().err(),
            Self::Listed(result) => result.as_mut().err(),
            Self::Known(result) => result.as_mut().err(),
        }
    }

    /// The HTTP status, where an answer came. A read that succeeded was a 200: nothing else has a body to read.
    pub fn http_status(&self) -> Option<u16> {
        match self {
            Self::Acted(Ok(answered)) => Some(answered.value.http_status),
            Self::Looked(Ok(_)) | Self::Listed(Ok(_)) | Self::Known(Ok(_)) => Some(200),
            Self::Acted(Err(_)) | Self::Looked(Err(_)) | Self::Listed(Err(_)) | Self::Known(Err(_)) => {
                self.failure().and_then(|failure| failure.http_status)
            }
        }
    }

    /// How many times the request was sent beyond the first.
    pub fn repeats(&self) -> u32 {
        match self {
            Self::Acted(Ok(answered)) => answered.repeats,
            Self::Looked(Ok(answered)) => answered.repeats,
            Self::Listed(Ok(answered)) => answered.repeats,
            Self::Known(Ok(answered)) => answered.repeats,
            Self::Acted(Err(failure))
            | Self::Looked(Err(failure))
            | Self::Listed(Err(failure))
            | Self::Known(Err(failure)) => failure.repeats,
        }
    }

    /// What the answer said of the server's clock.
    pub fn server_clock(&self) -> ServerClock {
        self.failure().map_or_else(|| self.limits().clock, |failure| failure.limits.clock)
    }

    /// The rate-limit headers of an answer that was no failure.
    pub fn limits(&self) -> Limits {
        match self {
            Self::Acted(Ok(answered)) => answered.limits,
            Self::Looked(Ok(answered)) => answered.limits,
            Self::Listed(Ok(answered)) => answered.limits,
            Self::Known(Ok(answered)) => answered.limits,
            Self::Acted(Err(_)) | Self::Looked(Err(_)) | Self::Listed(Err(_)) | Self::Known(Err(_)) => {
                Limits::default()
            }
        }
    }
}

/// A request with what came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The request.
    pub job: Job,
    /// What came of it.
    pub result: Result,
    /// When it was sent.
    pub sent_at: Moment,
}

/// Makes the request and returns what came of it.
pub async fn carry_out<P: Platform>(platform: Arc<P>, job: Job, clock: Clock, admitted_at: Moment) -> Outcome {
    // The later of the two: a reading proves nothing about what happened before its question went out.
    let sent_at = clock.now().max(admitted_at);
    let result = match &job {
        Job::Act { id, action, .. } => Result::Acted(platform.act(*action, id).await),
        Job::Look { id } => Result::Looked(platform.get(id).await),
        Job::Page { page } => Result::Listed(platform.list(page.clone()).await),
        Job::Token => Result::Known(platform.whoami().await),
    };
    Outcome { job, result, sent_at }
}

/// What is known of a request whose task is gone: nothing.
pub fn lost(job: Job, now: Moment) -> Outcome {
    let failure = Failure {
        verdict: Verdict::LostAnswer,
        http_status: None,
        message: "the task that made the request panicked".into(),
        limits: Limits::default(),
        repeats: 0,
    };
    let result = match &job {
        Job::Act { .. } => Result::Acted(Err(failure)),
        Job::Look { .. } => Result::Looked(Err(failure)),
        Job::Page { .. } => Result::Listed(Err(failure)),
        Job::Token => Result::Known(Err(failure)),
    };
    Outcome { job, result, sent_at: now }
}
