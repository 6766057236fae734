//! How is each endpoint called? One method per endpoint: deadline, body cap, a token that cannot be printed.
//!
//! Redirects are never followed and the token goes to the configured origin alone. Neither retries nor pacing happen
//! here; the one exception is the transport's own replay of a request that a dead pooled connection never took.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Response, Url, redirect};

use super::error::{self, RawAnswer};
use super::token::TokenSource;
use crate::platform::{ACT_DEADLINE, Answered, CONNECT_DEADLINE, Page, PageRequest, Platform, READ_DEADLINE, Seen};
use crate::reconcile::action::{Action, Failure, Receipt, Verdict};
use crate::reconcile::app::AppId;
use crate::tls;

/// The largest page that is read. A page of 100 apps is about 150 KiB.
const PAGE_CAP: usize = 16 << 20;
/// The largest single app that is read.
const APP_CAP: usize = 1 << 20;

/// A client of one CamposCloud account.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Arc<TokenSource>,
    team: Option<String>,
}

impl Client {
    /// A client for the API at `base` (a path and a trailing slash are fine). Fails where TLS cannot be set up.
    pub fn new(base: Url, token: Arc<TokenSource>) -> Result<Self, reqwest::Error> {
        let http = tls::client(|| {
            let mut builder = reqwest::Client::builder();
            if base.scheme() != "https" {
                // A proxy of the environment would read the token: plain http goes straight to where it was told to go.
                // Https goes through the proxy's tunnel unread.
                builder = builder.no_proxy();
            }
            builder
                .user_agent(concat!("campos-operator/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .connect_timeout(CONNECT_DEADLINE)
                // Shorter than what common gateways keep an idle connection for, so that a stop rarely meets a dead one.
                .pool_idle_timeout(Duration::from_secs(50))
                .tcp_nodelay(true)
        })?;
        Ok(Self { http, base, token, team: None })
    }

    /// The same client, whose list is that of a team's apps.
    #[must_use]
    pub fn of_team(self, team: Option<String>) -> Self {
        Self { team, ..self }
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
        method: Method,
        url: Url,
        doing: &str,
        deadline: Duration,
        cap: usize,
    ) -> Result<RawAnswer, Failure> {
        let token = self.token.current().map_err(|error| {
            error::transport(doing, Verdict::AccountBlocked, &chain(&error), &self.token.secrets(None))
        })?;
        let exchange = async {
            let request = self.http.request(method, url).header(reqwest::header::AUTHORIZATION, token.header);
            let mut response = request.send().await.map_err(|error| failed(&error))?;
            let status = response.status().as_u16();
            let headers = std::mem::take(response.headers_mut());
            Ok((status, headers, read(response, cap).await?))
        };
        let result = match tokio::time::timeout(deadline, exchange).await {
            Ok(result) => result,
            Err(_) => Err((Verdict::LostAnswer, format!("no whole answer within {deadline:?}"))),
        };
        // Whatever became of it may quote the token: the one it was sent with, which need not be the present one.
        let secrets = self.token.secrets(Some(&token.token));
        match result {
            Ok((status, headers, body)) => {
                let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
                Ok(RawAnswer::new(status, header, body, secrets))
            }
            Err((verdict, why)) => Err(error::transport(doing, verdict, &why, &secrets)),
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
        if let Some(team) = &self.team {
            // The OpenAPI file says `team`, the vendor's Python SDK sends `teamID`: whichever is read, the other is idle.
            url.query_pairs_mut().append_pair("team", team).append_pair("teamID", team);
        }
        let answer = self.send(Method::GET, url, "listing apps", READ_DEADLINE, PAGE_CAP).await;
        self.settle(answer.and_then(|answer| error::page(&answer)))
    }

    async fn get(&self, id: &AppId) -> Result<Answered<Seen>, Failure> {
        let url = self.url(&["v1", "apps", id.as_str()]);
        let answer = self.send(Method::GET, url, &format!("reading app {id}"), READ_DEADLINE, APP_CAP).await;
        self.settle(answer.and_then(|answer| error::app(&answer, id)))
    }

    async fn act(&self, action: Action, id: &AppId) -> Result<Answered<Receipt>, Failure> {
        let url = self.url(&["v1", "apps", id.as_str(), action.as_str()]);
        let doing = match action {
            Action::Stop => format!("stopping app {id}"),
            Action::Start => format!("starting app {id}"),
        };
        let answer = self.send(Method::POST, url, &doing, ACT_DEADLINE, APP_CAP).await;
        self.settle(answer.and_then(|answer| error::receipt(&answer, &doing, id)))
    }

    fn token_changed(&self) -> bool {
        self.token.changed_since_refused()
    }

    async fn whoami(&self) -> Result<Answered<()>, Failure> {
        let url = self.url(&["v1", "users", "@me"]);
        let answer = self.send(Method::GET, url, "checking the token", READ_DEADLINE, APP_CAP).await;
        self.settle(answer.and_then(|answer| error::identity(&answer)))
    }
}

async fn read(mut response: Response, cap: usize) -> Result<Vec<u8>, Trouble> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + chunk.len() > cap {
            return Err((Verdict::LostAnswer, format!("the answer is larger than {} KiB", cap >> 10)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Why no answer came; not redacted yet.
type Trouble = (Verdict, String);

/// A transport error with its verdict. Only a connection that never came about proves that nothing was done.
fn failed(error: &reqwest::Error) -> Trouble {
    let verdict = if error.is_builder() {
        Verdict::Unexpected
    } else if error.is_connect() {
        Verdict::Retry
    } else {
        Verdict::LostAnswer
    };
    (verdict, chain(error))
}

/// An error with its causes on one line. reqwest's own text names the URL, which the log line has already.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    if let Some(reqwest) = text.split_once(" for url (") {
        text = reqwest.0.to_owned();
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
