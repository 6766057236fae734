//! What does a running daemon say? Reads its read-only port, for the verbs that ask it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::runtime;
use crate::manifest::diagnostic::nearest;

/// It is on this machine or near; somebody is waiting.
const DEADLINE: Duration = Duration::from_secs(10);

/// A daemon's port.
#[derive(Debug)]
pub(super) struct Daemon {
    server: String,
    client: reqwest::Client,
}

impl Daemon {
    /// The port at `server`, such as `http://127.0.0.1:8080`.
    pub(super) fn new(server: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(DEADLINE)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("setting up the HTTP client")?;
        Ok(Self { server: server.trim_end_matches('/').to_owned(), client })
    }

    /// One app, as `/api/v1/apps/{name}` shows it.
    pub(super) fn app(&self, name: &str) -> anyhow::Result<Value> {
        // A name is checked before it becomes part of a path.
        let name: crate::reconcile::app::AppName =
            name.parse().with_context(|| format!("{name:?} is no name of an app"))?;
        if let Some(app) = self.get(&format!("/api/v1/apps/{name}"))? {
            return Ok(app);
        }
        let known = self.names()?;
        let meant = nearest(name.as_str(), known.iter().map(String::as_str));
        let hint = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        bail!("no manifest declares an app named {name}{hint}")
    }

    fn names(&self) -> anyhow::Result<Vec<String>> {
        let list = self.get("/api/v1/apps")?.unwrap_or_default();
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(items.iter().filter_map(|item| Some(item["metadata"]["name"].as_str()?.to_owned())).collect())
    }

    /// What a path answers; `None` if it is not there.
    fn get(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let url = format!("{}{path}", self.server);
        let asking =
            || format!("asking the daemon at {}: is `campos-operator run` up, and is --server right?", self.server);
        runtime()?.block_on(async {
            let answer = self.client.get(&url).send().await.with_context(asking)?;
            let status = answer.status();
            let body = answer.bytes().await.with_context(asking)?;
            let read: Option<Value> = serde_json::from_slice(&body).ok();
            match (status.as_u16(), read) {
                (404, Some(_)) => Ok(None),
                (200, Some(value)) => Ok(Some(value)),
                (status, _) => bail!("{url} answered {status}, which is not what a campos-operator says"),
            }
        })
    }
}
