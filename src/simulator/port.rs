//! The simulated platform in process: the `Platform` port without sockets.
//!
//! Time is tokio's, so on a paused clock a thousand seconds pass at once. The code of the real client decodes the
//! responses and gives the verdicts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;

use super::world::{Delivery, Request, World};
use crate::camposcloud::error::{self, RawAnswer};
use crate::clock::Clock;
use crate::platform::{ACT_DEADLINE, Answered, Page, PageRequest, Platform, READ_DEADLINE, Seen};
use crate::reconcile::app::AppId;
use crate::reconcile::outcome::{Failure, Receipt, Verdict};
use crate::reconcile::redacted::{Secrets, Token};
use crate::reconcile::state::Action;

const CAP: usize = 16 << 20;

pub type SharedWorld = Arc<Mutex<World>>;

/// Locks a world, also after a panic of another holder.
pub fn lock(world: &SharedWorld) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone)]
pub struct InProcess {
    world: SharedWorld,
    clock: Clock,
    token: String,
    secrets: Secrets,
}

impl InProcess {
    pub fn new(world: SharedWorld, clock: Clock, token: impl Into<String>) -> Self {
        let token = token.into();
        let secrets = Secrets::from_iter([Token::new(SecretString::from(token.as_str()))]);
        Self { world, clock, token, secrets }
    }

    async fn send(
        &self,
        method: &str,
        path: String,
        query: String,
        doing: &str,
        deadline: Duration,
    ) -> Result<RawAnswer, Failure> {
        let request = Request { method: method.to_owned(), path, query, bearer: Some(self.token.clone()) };
        let response = lock(&self.world).handle(&request, self.clock.wall());
        let lost = |why: &str| error::transport(doing, Verdict::LostAnswer, &why, &self.secrets);
        let drip = Duration::from_millis(100) * u32::try_from(response.body.len()).unwrap_or(u32::MAX);
        let duration = match response.delivery {
            Delivery::Refused => {
                return Err(error::transport(doing, Verdict::Retry, &"connection refused", &self.secrets));
            }
            Delivery::Hang => Duration::MAX,
            Delivery::Drip => drip,
            Delivery::Whole | Delivery::Reset | Delivery::Truncated(_) => response.delay,
        };
        tokio::time::sleep(duration.min(deadline)).await;
        if duration >= deadline {
            return Err(lost("no whole answer in time"));
        }
        match response.delivery {
            Delivery::Reset => Err(lost("connection reset")),
            Delivery::Truncated(bytes) if bytes < response.body.len() => Err(lost("the body was cut")),
            Delivery::Whole | Delivery::Hang | Delivery::Drip | Delivery::Refused | Delivery::Truncated(_) => {
                let header = |name: &str| {
                    response.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
                };
                Ok(RawAnswer::new(response.status, header, response.body.clone(), CAP, self.secrets.clone()))
            }
        }
    }
}

impl Platform for InProcess {
    async fn list(&self, page: PageRequest) -> Result<Answered<Page>, Failure> {
        let limit = page.limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
        let team = page.team.as_ref().map(|team| format!("&team={team}")).unwrap_or_default();
        let query = format!("page={}{limit}{team}", page.number);
        let doing = error::listing(&page);
        let answer = self.send("GET", "/v1/apps".into(), query, &doing, READ_DEADLINE).await?;
        error::page(&answer, &page)
    }

    async fn get(&self, id: &AppId) -> Result<Answered<Seen>, Failure> {
        let path = format!("/v1/apps/{id}");
        let answer = self.send("GET", path, String::new(), "reading an app", READ_DEADLINE).await?;
        error::app(&answer, id)
    }

    async fn act(&self, action: Action, id: &AppId) -> Result<Answered<Receipt>, Failure> {
        let path = format!("/v1/apps/{id}/{action}");
        let answer = self.send("POST", path, String::new(), "changing an app", ACT_DEADLINE).await?;
        error::receipt(&answer, "changing an app", id)
    }

    async fn whoami(&self) -> Result<Answered<()>, Failure> {
        let answer =
            self.send("GET", "/v1/users/@me".into(), String::new(), "could not check the token", READ_DEADLINE).await?;
        error::identity(&answer)
    }
}
