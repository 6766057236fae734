//! The packages of the operator, put together as their tutorials show: an event reads its file, GET, POST with backoff;
//! every minute everything is compared with the list. It checks no answer, spares no account and guards against
//! nothing.

#![expect(clippy::print_stdout, reason = "the line that reports to its parent that it watches")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use notify::{RecursiveMode, Watcher as _};
use reqwest::{Client, Method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::unbounded_channel;

/// The first argument of its process.
pub(crate) const VERB: &str = "tutorial";

#[derive(Deserialize)]
struct Manifest {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    app_id: String,
    state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct App {
    #[serde(rename = "_id")]
    id: String,
    current_resource_metrics: Metrics,
}

#[derive(Deserialize)]
struct Metrics {
    online: bool,
}

#[derive(Deserialize)]
struct List {
    applications: Vec<App>,
    pagination: Pagination,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    has_next_page: bool,
}

struct Cloud {
    client: Client,
    url: String,
}

/// The process itself; never ends.
pub(crate) fn run(server: &str, manifests: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(watch(server, manifests))
}

async fn watch(server: &str, manifests: &Path) -> anyhow::Result<()> {
    let cloud = Cloud { client: Client::builder().no_proxy().build()?, url: format!("http://{server}/v1/apps") };
    let (sender, mut events) = unbounded_channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let _ = sender.send(event);
    })?;
    watcher.watch(manifests, RecursiveMode::Recursive)?;
    cloud.resync(manifests).await?;
    println!("ready");
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    minute.tick().await;
    loop {
        tokio::select! {
            _ = minute.tick() => cloud.resync(manifests).await?,
            event = events.recv() => {
                let event = event.context("the watcher lives")??;
                // Without this, its own reads would be events.
                if !event.kind.is_create() && !event.kind.is_modify() {
                    continue;
                }
                for path in event.paths {
                    if path.extension().is_none_or(|extension| extension != "yaml") {
                        continue;
                    }
                    // It may be half written.
                    let Ok(manifest) = read(&path) else { continue };
                    let app: App = cloud.send(Method::GET, &format!("/{}", manifest.spec.app_id)).await?;
                    cloud.reconcile(&manifest.spec, app.current_resource_metrics.online).await?;
                }
            }
        }
    }
}

impl Cloud {
    async fn resync(&self, manifests: &Path) -> anyhow::Result<()> {
        let mut online = HashMap::new();
        for page in 1.. {
            let list: List = self.send(Method::GET, &format!("?page={page}&limit=100")).await?;
            online.extend(list.applications.into_iter().map(|app| (app.id, app.current_resource_metrics.online)));
            if !list.pagination.has_next_page {
                break;
            }
        }
        let mut directories = vec![manifests.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    directories.push(path);
                } else if let Ok(manifest) = read(&path)
                    && let Some(online) = online.get(&manifest.spec.app_id)
                {
                    self.reconcile(&manifest.spec, *online).await?;
                }
            }
        }
        Ok(())
    }

    async fn reconcile(&self, spec: &Spec, online: bool) -> anyhow::Result<()> {
        let action = match (spec.state.as_str(), online) {
            ("Stopped", true) => "stop",
            ("Running", false) => "start",
            _ => return Ok(()),
        };
        let _: App = self.send(Method::POST, &format!("/{}/{action}", spec.app_id)).await?;
        Ok(())
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str) -> anyhow::Result<T> {
        let mut backoff = ExponentialBackoff::default();
        loop {
            let request = self.client.request(method.clone(), format!("{}{path}", self.url)).bearer_auth("bench");
            match request.send().await.and_then(reqwest::Response::error_for_status) {
                Ok(response) => return Ok(serde_json::from_slice(&response.bytes().await?)?),
                Err(error) => tokio::time::sleep(backoff.next_backoff().ok_or(error)?).await,
            }
        }
    }
}

fn read(path: &PathBuf) -> anyhow::Result<Manifest> {
    Ok(serde_yaml::from_slice(&fs::read(path)?)?)
}
