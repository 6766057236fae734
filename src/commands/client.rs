//! What does a running daemon say? A small client of its read-only port.
//!
//! Answers are read tolerantly: a newer daemon may say more, an older one less. Following it means looking at the level
//! again and again: events only spare the asking, and where there are none it is asked each second.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use reqwest::{RequestBuilder, Response, Url, redirect};
use serde_json::Value;

use crate::proxy::Proxy;
use crate::status::API_VERSION;
use crate::{settings, tls};

/// The daemon is near, or at least on the way: whoever waits longer waits in vain.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// A list of ten thousand apps is about 20 MiB.
const CAP: usize = 256 << 20;
/// An event is one app.
const EVENT_CAP: usize = 4 << 20;
/// Without events, and after a loss of the daemon: so often it is asked.
const POLL: Duration = Duration::from_secs(1);
/// Before a stream that ended is opened again: were each to end at once, that is not to become a storm.
const BREATH: Duration = Duration::from_millis(100);
/// A stream that says nothing for so long, not even that it lives, is a dead one.
const SILENCE: Duration = Duration::from_secs(60);

/// The port of one daemon.
#[derive(Debug, Clone)]
pub(super) struct Daemon {
    http: reqwest::Client,
    base: Url,
}

/// One app as the daemon shows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct App(pub(super) Value);

impl App {
    /// The text at a JSON pointer.
    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.0.pointer(pointer)?.as_str()
    }

    pub(super) fn name(&self) -> &str {
        self.text("/metadata/name").unwrap_or("?")
    }

    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.0.pointer("/metadata/labels")?.get(key)?.as_str()
    }

    /// One of `status.conditions`.
    pub(super) fn condition(&self, kind: &str) -> Option<&Value> {
        self.0.pointer("/status/conditions")?.as_array()?.iter().find(|condition| condition["type"] == kind)
    }

    /// What a condition is: `True`, `False` or `Unknown`.
    pub(super) fn truth(&self, kind: &str) -> &str {
        self.condition(kind).and_then(|condition| condition["status"].as_str()).unwrap_or("Unknown")
    }

    /// A text of the condition Ready.
    pub(super) fn ready(&self, field: &str) -> Option<&str> {
        self.condition("Ready")?.get(field)?.as_str()
    }
}

impl Daemon {
    pub(super) fn new(server: &str) -> anyhow::Result<Self> {
        settings::without_userinfo("--server", server)?;
        let fits = "expected http://HOST:PORT, such as http://127.0.0.1:8080";
        let base: Url = server.parse().map_err(|_| anyhow!("--server {server}: not an address; {fits}"))?;
        let host = base.host_str().filter(|_| ["http", "https"].contains(&base.scheme()));
        let Some(host) = host else { bail!("--server {server}: {fits}") };
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        let near = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        let https = base.scheme() == "https";
        // A proxy's own loopback is another machine's.
        let proxy = if near { None } else { Proxy::from_environment(&base, https)? };
        let http = reqwest::Client::builder()
            .user_agent(concat!("campos-operator/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .tls_backend_preconfigured(tls::config(https));
        let http = Proxy::configure(proxy.as_ref(), http).build();
        Ok(Self { http: http.context("setting up the HTTP client")?, base })
    }

    /// Below the address that was given, which may have a path of its own.
    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("http and https have paths").pop_if_empty().extend(path);
        url
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.at(&[&["api", "v1"], path].concat());
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let base = &self.base;
        request.send().await.map_err(|error| {
            if error.is_connect() {
                anyhow!(
                    "no daemon at {base} ({}); is `campos-operator run` running there? --server, or \
                     CAMPOS_OPERATOR_SERVER, names another address",
                    root(&error)
                )
            } else {
                anyhow!("asking the daemon at {base}: {}", root(&error))
            }
        })
    }

    /// Whether its loop goes round, as `/livez` says; an error where it does not, or nothing is heard within `deadline`.
    pub(super) async fn alive(&self, deadline: Duration) -> anyhow::Result<()> {
        let exchange = async {
            let response = self.send(self.http.get(self.at(&["livez"]))).await?;
            let status = response.status().as_u16();
            let body = body(response).await.with_context(|| format!("asking the daemon at {}", self.base))?;
            anyhow::Ok((status, String::from_utf8_lossy(&body).lines().next().unwrap_or_default().to_owned()))
        };
        let Ok(answer) = tokio::time::timeout(deadline, exchange).await else {
            bail!("unhealthy: no whole answer from {} within {deadline:?}", self.base);
        };
        match answer? {
            (200, said) if said == "ok" => Ok(()),
            (503, said) => bail!("unhealthy: {} answers HTTP 503, {said}", self.base),
            (status, _) => {
                bail!("what answers at {} (HTTP {status}) is not a campos-operator; see --server", self.base)
            }
        }
    }

    /// What is at a path; `None` where the daemon says that nothing is.
    async fn fetch(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Option<Value>> {
        let exchange = async {
            let response = self.send(self.http.get(self.url(path, query))).await?;
            let status = response.status().as_u16();
            let body = body(response).await.with_context(|| format!("asking the daemon at {}", self.base))?;
            anyhow::Ok((status, body))
        };
        let Ok(answer) = tokio::time::timeout(READ_DEADLINE, exchange).await else {
            bail!("no whole answer from {} within {READ_DEADLINE:?}", self.base);
        };
        let (status, body) = answer?;
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        match value {
            Some(value) if status == 200 && value.is_object() => Ok(Some(value)),
            Some(value) if status == 404 && value["error"].is_string() => Ok(None),
            Some(Value::Object(value)) if value.contains_key("error") => {
                let said = value["error"].as_str().unwrap_or("no reason");
                bail!("{} answers HTTP {status}, {said:?}; is that a campos-operator? see --server", self.base)
            }
            _ => bail!("what answers at {} (HTTP {status}) is not a campos-operator; see --server", self.base),
        }
    }

    /// Every app, by name.
    pub(super) async fn apps(&self) -> anyhow::Result<BTreeMap<String, App>> {
        Ok(self.list().await?.0)
    }

    /// Every app, and the version from which events go on.
    async fn list(&self) -> anyhow::Result<(BTreeMap<String, App>, Option<String>)> {
        let list = self.fetch(&["apps"], &[]).await?.filter(|list| list["apiVersion"] == API_VERSION);
        let version = list.as_ref().and_then(|list| list.pointer("/metadata/resourceVersion")?.as_str());
        let version = version.map(str::to_owned);
        let Some(items) = list.and_then(|mut list| items(&mut list)) else {
            bail!("what answers at {} is not a campos-operator; see --server", self.base)
        };
        Ok((items.into_iter().map(App).map(|app| (app.name().to_owned(), app)).collect(), version))
    }

    /// One app. That there is none is an error that names the nearest.
    pub(super) async fn app(&self, name: &str) -> anyhow::Result<App> {
        match self.fetch(&["apps", name], &[]).await? {
            Some(app) if app["apiVersion"] == API_VERSION => Ok(App(app)),
            Some(_) => bail!("what answers at {} is not a campos-operator; see --server", self.base),
            None => {
                let known = self.apps().await?;
                if known.is_empty() && !self.loaded().await? {
                    bail!("{NOT_LOADED}");
                }
                Err(unknown(name, known.keys().map(String::as_str)))
            }
        }
    }

    /// What was decided and called, newest first; `None` from a daemon that does not tell.
    pub(super) async fn history(&self, app: Option<&str>, limit: u32) -> anyhow::Result<Option<Vec<Value>>> {
        let limit = limit.to_string();
        let query: Vec<_> = app.map(|app| ("app", app)).into_iter().chain([("limit", &*limit)]).collect();
        let answer = self.fetch(&["history"], &query).await?;
        Ok(answer.map(|mut answer| items(&mut answer).unwrap_or_default()))
    }

    /// The daemon's own state.
    pub(super) async fn status(&self) -> anyhow::Result<Value> {
        Ok(self.fetch(&["status"], &[]).await?.unwrap_or_default())
    }

    /// Whether it has read its manifests: before that, an app that it does not know may well be declared.
    pub(super) async fn loaded(&self) -> anyhow::Result<bool> {
        Ok(self.status().await?.pointer("/source/loaded").and_then(Value::as_bool).unwrap_or(true))
    }

    /// The stream of events after `version`, where there is one.
    async fn events(&self, version: Option<&str>) -> anyhow::Result<Option<Response>> {
        let mut request = self.http.get(self.url(&["events"], &[]));
        if let Some(version) = version {
            request = request.header("last-event-id", version);
        }
        let send = self.send(request);
        let response =
            tokio::time::timeout(READ_DEADLINE, send).await.map_err(|_| anyhow!("no answer from {}", self.base))??;
        let stream = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_stream = stream.is_some_and(|kind| kind.starts_with("text/event-stream"));
        Ok((response.status().is_success() && is_stream).then_some(response))
    }
}

/// What a list holds.
fn items(list: &mut Value) -> Option<Vec<Value>> {
    match list["items"].take() {
        Value::Array(items) => Some(items),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
    }
}

/// Nothing is known yet, which is not the same as nothing being there.
pub(super) const NOT_LOADED: &str = "the daemon has not read its manifests yet; try again in a moment";

/// No app is called so.
pub(super) fn unknown<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> anyhow::Error {
    let hint = nearest(name, known).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    anyhow!("no manifest declares an app named {name:?}{hint}")
}

fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    let far = |name: &str| strsim::damerau_levenshtein(&typed, name);
    let candidates = known.into_iter().map(|name| (far(name), name));
    // Half a name is meant, too: `ticket` for `ticket-bot`.
    let near = candidates
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1) || (typed.len() >= 3 && name.contains(&typed)));
    near.min().map(|(_, name)| name)
}

/// Every app, kept up to date.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) daemon: Daemon,
    /// As they are now.
    pub(super) apps: BTreeMap<String, App>,
    /// Why they may be out of date.
    pub(super) lost: Option<String>,
    stream: Option<Response>,
    /// What came of the stream and is not a whole event yet.
    pending: Vec<u8>,
}

impl Follow {
    pub(super) async fn start(daemon: Daemon) -> anyhow::Result<Self> {
        let mut follow = Self { daemon, apps: BTreeMap::new(), lost: None, stream: None, pending: Vec::new() };
        follow.look_again().await?;
        Ok(follow)
    }

    /// Whether the apps are all that are declared, on a list made after the daemon had read its manifests.
    pub(super) async fn whole(&mut self) -> anyhow::Result<bool> {
        let loaded = self.daemon.loaded().await?;
        if loaded {
            self.look_again().await?;
        }
        Ok(loaded)
    }

    /// The list, then the events that came after it.
    async fn look_again(&mut self) -> anyhow::Result<()> {
        self.pending.clear();
        let (apps, version) = self.daemon.list().await?;
        self.apps = apps;
        self.stream = self.daemon.events(version.as_deref()).await?;
        if version.is_none() && self.stream.is_some() {
            // What changed between the two would be missed, so the list is read once more.
            self.apps = self.daemon.apps().await?;
        }
        Ok(())
    }

    /// Waits until there is something to look at: a change, a loss, or with neither events nor news, the next poll.
    ///
    /// To be driven to its end: a wait that is given up in the middle may lose what was being fetched.
    pub(super) async fn next(&mut self) {
        let chunk = match &mut self.stream {
            Some(stream) => tokio::time::timeout(SILENCE, stream.chunk()).await.ok().and_then(Result::ok).flatten(),
            None => None,
        };
        let result = if let Some(chunk) = chunk {
            self.pending.extend_from_slice(&chunk);
            self.take_events().await
        } else {
            // The end of a stream says nothing about the daemon; what comes of asking anew does.
            tokio::time::sleep(if self.stream.is_some() { BREATH } else { POLL }).await;
            self.look_again().await
        };
        self.lost = result.err().map(|error| format!("{error:#}"));
        if self.lost.is_some() {
            self.stream = None;
        }
    }

    async fn take_events(&mut self) -> anyhow::Result<()> {
        while let Some(event) = next_event(&mut self.pending) {
            match (event.kind.as_str(), serde_json::from_str::<Value>(&event.data)) {
                ("app", Ok(app)) => {
                    let app = App(app);
                    self.apps.insert(app.name().to_owned(), app);
                }
                ("removed", Ok(removed)) => {
                    if let Some(name) = removed["name"].as_str() {
                        self.apps.remove(name);
                    }
                }
                ("reset", _) | ("app" | "removed", Err(_)) => self.apps = self.daemon.apps().await?,
                _ => {} // of a newer daemon
            }
        }
        if self.pending.len() > EVENT_CAP {
            bail!("an event of the daemon at {} is larger than {} MiB", self.daemon.base, EVENT_CAP >> 20);
        }
        Ok(())
    }
}

/// One event of a `text/event-stream`.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    kind: String,
    data: String,
}

/// Takes the first whole event off `pending`. Events end with an empty line; lines that begin with `:` only say that
/// the stream lives.
fn next_event(pending: &mut Vec<u8>) -> Option<Event> {
    loop {
        let mut event = Event { kind: "message".into(), data: String::new() };
        let (mut at, mut said, mut whole) = (0, false, false);
        while let Some(length) = pending[at..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&pending[at..at + length]);
            at += length + 1;
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                whole = true;
                break;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => (event.kind, said) = (value.to_owned(), true),
                "data" if event.data.is_empty() => (event.data, said) = (value.to_owned(), true),
                "data" => event.data = event.data + "\n" + value,
                _ => {} // id, retry, comments
            }
        }
        if !whole {
            return None;
        }
        pending.drain(..at);
        if said {
            return Some(event);
        }
    }
}

async fn body(mut response: Response) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| anyhow!("{}", root(&error)))? {
        if body.len() + chunk.len() > CAP {
            bail!("the answer is larger than {} MiB", CAP >> 20);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What lies at the bottom of an error: "connection refused", not the five layers that pass it on.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_any_pieces() {
        let text =
            ": alive\n\nid: 1\nevent: app\ndata: {\"a\":\ndata: 1}\n\nevent: reset\r\n\r\nretry: 5\n\nevent: rem";
        for size in 1..text.len() {
            let (mut pending, mut events) = (Vec::new(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                pending.extend_from_slice(piece);
                while let Some(event) = next_event(&mut pending) {
                    events.push((event.kind, event.data));
                }
            }
            let text = |text: &str| text.to_owned();
            assert_eq!(events, [(text("app"), text("{\"a\":\n1}")), (text("reset"), text(""))], "{size}");
            assert_eq!(pending, b"event: rem");
        }
    }

    #[test]
    fn the_nearest_name() {
        let known = ["ticket-bot", "music-bot", "a"];
        for (typed, meant) in [
            ("tiket-bot", Some("ticket-bot")),
            ("Music-Bot", Some("music-bot")),
            ("ticket", Some("ticket-bot")),
            ("b", Some("a")),
            ("nothing-like-it", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }

    #[test]
    fn addresses() {
        for good in ["http://127.0.0.1:8080", "http://[::1]:1/", "https://ops.example/campos"] {
            assert!(Daemon::new(good).is_ok(), "{good}");
        }
        for bad in ["127.0.0.1:8080", "localhost:8080", "", "ftp://x", "http://"] {
            assert!(Daemon::new(bad).is_err(), "{bad}");
        }
    }
}
