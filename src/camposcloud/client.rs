//! How is each endpoint called? One method per endpoint: deadline, body cap, a token that cannot be printed.
//!
//! Redirects are never followed and the token goes to the configured origin alone. Neither retries nor pacing happen
//! here; the one exception is the transport's repeat of a request that met a dead pooled connection.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Url};

use super::error::{self, RawAnswer};
use super::token::TokenSource;
use super::transport::{Ask, Exchange, Transport, Whole};
use crate::platform::{ACT_DEADLINE, Answered, Page, PageRequest, Platform, READ_DEADLINE, Seen};
use crate::proxy::{Proxy, ProxyError};
use crate::reconcile::app::AppId;
use crate::reconcile::outcome::{Failure, Receipt, Verdict};
use crate::reconcile::state::Action;
use crate::tls;

/// The largest page that is read. A page of 100 apps is about 150 KiB.
const PAGE_CAP: usize = 16 << 20;
/// The largest single app that is read.
const APP_CAP: usize = 1 << 20;

/// A client of one CamposCloud account.
#[derive(Debug)]
pub struct Client {
    transport: Arc<Transport>,
    base: Url,
    token: Arc<TokenSource>,
}

impl Client {
    /// A client for the API at `base` (a path and a trailing slash are fine). Fails where a proxy cannot be used.
    pub fn new(base: Url, token: Arc<TokenSource>) -> Result<Self, ProxyError> {
        let https = base.scheme() == "https";
        let proxy = match Proxy::from_environment(&base, true) {
            // A proxy would read the token: plain http goes straight to its host. Https goes through the tunnel unread.
            Ok(_) | Err(ProxyError::Unsupported(_)) if !https => None,
            proxy => proxy?,
        };
        let transport = Arc::new(Transport::new(&base, proxy, tls::config(https)));
        Ok(Self { transport, base, token })
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("settings accept only http and https, which have paths")
            .pop_if_empty()
            .extend(segments);
        url
    }

    async fn send(
        &self,
        (method, idempotent): (Method, bool),
        url: Url,
        doing: &str,
        deadline: Duration,
        cap: usize,
    ) -> Result<RawAnswer, Failure> {
        let token = self.token.current().await.map_err(|error| {
            error::transport(doing, Verdict::AccountBlocked, &chain(&error), &self.token.secrets(None))
        })?;
        let ask = Ask { method, url, authorization: token.header, idempotent, deadline, cap };
        let Exchange { result, repeats } = self.transport.exchange(&ask).await;
        // Whatever became of it may quote the token: the one it was sent with, which need not be the present one.
        let secrets = self.token.secrets(Some(&token.token));
        match result {
            Ok(Whole { status, headers, body }) => {
                let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
                Ok(RawAnswer { repeats, ..RawAnswer::new(status, header, body, cap, secrets) })
            }
            Err(lost) => Err(Failure { repeats, ..error::transport(doing, lost.verdict, &lost.error, &secrets) }),
        }
    }

    /// Passes a result on; a 401 makes the next request read the token file again.
    fn settle<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        result.inspect_err(|failure| {
            if failure.verdict == Verdict::AccountBlocked {
                self.token.refused();
            }
        })
    }
}

impl Platform for Client {
    async fn list(&self, page: PageRequest) -> Result<Answered<Page>, Failure> {
        let mut url = self.url(&["v1", "apps"]);
        url.query_pairs_mut().append_pair("page", &page.number.to_string());
        if let Some(limit) = page.limit {
            url.query_pairs_mut().append_pair("limit", &limit.to_string());
        }
        if let Some(team) = &page.team {
            // The OpenAPI file says `team`, the vendor's Python SDK sends `teamID`: whichever is read, the other is idle.
            url.query_pairs_mut().append_pair("team", team).append_pair("teamID", team);
        }
        let doing = error::listing(&page);
        let answer = self.send((Method::GET, true), url, &doing, READ_DEADLINE, PAGE_CAP).await;
        self.settle(answer.and_then(|answer| error::page(&answer, &page)))
    }

    async fn get(&self, id: &AppId) -> Result<Answered<Seen>, Failure> {
        let url = self.url(&["v1", "apps", id.as_str()]);
        let answer = self.send((Method::GET, true), url, &format!("reading app {id}"), READ_DEADLINE, APP_CAP).await;
        self.settle(answer.and_then(|answer| error::app(&answer, id)))
    }

    async fn act(&self, action: Action, id: &AppId) -> Result<Answered<Receipt>, Failure> {
        let url = self.url(&["v1", "apps", id.as_str(), action.as_str()]);
        let doing = match action {
            Action::Stop => format!("stopping app {id}"),
            Action::Start => format!("starting app {id}"),
        };
        let answer = self.send((Method::POST, action.is_idempotent()), url, &doing, ACT_DEADLINE, APP_CAP).await;
        self.settle(answer.and_then(|answer| error::receipt(&answer, &doing, id)))
    }

    fn token_changed(&self) -> bool {
        self.token.changed_since_refused()
    }

    async fn whoami(&self) -> Result<Answered<()>, Failure> {
        let url = self.url(&["v1", "users", "@me"]);
        let answer = self.send((Method::GET, true), url, "checking the token", READ_DEADLINE, APP_CAP).await;
        self.settle(answer.and_then(|answer| error::identity(&answer)))
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
