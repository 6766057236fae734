//! The client of the real API: one method per endpoint, with its deadline and the largest body that it reads.
//!
//! It follows no redirects, so the token goes only to the configured origin. It neither retries nor paces; the
//! transport repeats only a request on a dead pooled connection.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Url};

use super::cause::chain;
use super::error::{self, RawAnswer};
use super::token::TokenSource;
use super::transport::{Exchange, Outgoing, Transport, Whole};
use crate::platform::{ACT_DEADLINE, Answered, Page, PageRequest, Platform, READ_DEADLINE, Seen};
use crate::proxy::{Proxy, ProxyError};
use crate::reconcile::app::AppId;
use crate::reconcile::outcome::{Failure, Receipt, Verdict};
use crate::reconcile::state::Action;
use crate::tls;

/// The largest page; one of 100 apps is about 150 KiB.
const PAGE_CAP: usize = 16 << 20;
const APP_CAP: usize = 1 << 20;

/// A client of one CamposCloud account.
#[derive(Debug)]
pub struct Client {
    transport: Arc<Transport>,
    base: Url,
    token: Arc<TokenSource>,
}

impl Client {
    /// A client for the API at `base` (with or without a path and a trailing slash).
    pub fn new(base: Url, token: Arc<TokenSource>) -> Result<Self, ProxyError> {
        let https = base.scheme() == "https";
        let proxy = match Proxy::from_environment(&base, true) {
            // A proxy could read the token in plain http, so plain http uses no proxy.
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
        method: Method,
        idempotent: bool,
        url: Url,
        doing: &str,
        deadline: Duration,
        cap: usize,
    ) -> Result<RawAnswer, Failure> {
        let token = self.token.current().await.map_err(|error| {
            self.token.refused();
            let why = chain(&error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
            error::transport(doing, Verdict::AccountBlocked, &why, &self.token.secrets(None))
        })?;
        let outgoing = Outgoing { method, url, authorization: token.header, idempotent, deadline, cap };
        let Exchange { result, repeats } = self.transport.exchange(&outgoing).await;
        // The response or error may quote the token of the request, which may not be the current one.
        let secrets = self.token.secrets(Some(&token.token));
        match result {
            Ok(Whole { status, headers, body }) => {
                if error::verdict(status) == Some(Verdict::AccountBlocked) {
                    self.token.refused();
                }
                let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
                Ok(RawAnswer { repeats, ..RawAnswer::new(status, header, body, cap, secrets) })
            }
            Err(lost) => Err(Failure { repeats, ..error::transport(doing, lost.verdict, &lost.error, &secrets) }),
        }
    }

    async fn read(&self, url: Url, doing: &str, cap: usize) -> Result<RawAnswer, Failure> {
        self.send(Method::GET, true, url, doing, READ_DEADLINE, cap).await
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
            // The OpenAPI file says `team`, the vendor's Python SDK sends `teamID`; the server ignores the other one.
            url.query_pairs_mut().append_pair("team", team).append_pair("teamID", team);
        }
        let doing = error::listing(&page);
        error::page(&self.read(url, &doing, PAGE_CAP).await?, &page)
    }

    async fn get(&self, id: &AppId) -> Result<Answered<Seen>, Failure> {
        let url = self.url(&["v1", "apps", id.as_str()]);
        error::app(&self.read(url, &format!("could not read app {id}"), APP_CAP).await?, id)
    }

    async fn act(&self, action: Action, id: &AppId) -> Result<Answered<Receipt>, Failure> {
        let url = self.url(&["v1", "apps", id.as_str(), action.as_str()]);
        let doing = match action {
            Action::Stop => format!("could not stop app {id}"),
            Action::Start => format!("could not start app {id}"),
            Action::Restart => format!("could not restart app {id}"),
        };
        let answer = self.send(Method::POST, action.is_idempotent(), url, &doing, ACT_DEADLINE, APP_CAP).await?;
        error::receipt(&answer, &doing, id)
    }

    fn token_changed(&self) -> bool {
        self.token.changed_since_refused()
    }

    async fn whoami(&self) -> Result<Answered<()>, Failure> {
        let url = self.url(&["v1", "users", "@me"]);
        error::identity(&self.read(url, "could not check the token", APP_CAP).await?)
    }
}
