//! Typed client of the read-only port of a running daemon.
//!
//! Reading is tolerant: a newer daemon may send more fields, an older one fewer. [`Follow`] is level-triggered: events
//! only save requests, and without them the client polls each second.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use reqwest::{RequestBuilder, Response, Url, redirect};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::manifest::diagnostic::nearest;
use crate::printable::escape;
use crate::proxy::Proxy;
use crate::reconcile::group::Group;
use crate::reconcile::reason::Reason;
use crate::status::API_VERSION;
use crate::status::activity::ActivityItem;
use crate::status::app::{Condition, PublishedApp};
use crate::{http, settings, tls};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// A list of ten thousand apps is about 20 MiB.
const MAX_BODY: usize = 256 << 20;
/// An event is one app.
const MAX_EVENT: usize = 4 << 20;
/// Interval of polling without events, and while the daemon does not answer.
const POLL: Duration = Duration::from_secs(1);
/// Pause before a stream that ended is opened again, in case each one ends at once.
const REOPEN: Duration = Duration::from_millis(100);
/// Maximum time without a byte on a stream, comments included; then the stream is dead.
const SILENCE: Duration = Duration::from_secs(60);

/// Error for a server that is not a campos-operator; a retry does not help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotAnOperator(String);

/// The port of one daemon.
#[derive(Debug, Clone)]
pub(super) struct Daemon {
    http: reqwest::Client,
    base: Url,
}

/// One app from the daemon.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct App {
    shown: PublishedApp<'static>,
    /// The object as it was sent, for `-o json` and `explain`: a newer daemon may send more than `shown` has.
    pub(super) raw: Value,
}

impl Deref for App {
    type Target = PublishedApp<'static>;

    fn deref(&self) -> &Self::Target {
        &self.shown
    }
}

impl TryFrom<Value> for App {
    type Error = serde_json::Error;

    fn try_from(raw: Value) -> serde_json::Result<Self> {
        Ok(Self { shown: PublishedApp::deserialize(&raw)?, raw })
    }
}

impl App {
    pub(super) fn name(&self) -> &str {
        &self.metadata.name
    }

    pub(super) fn condition(&self, kind: &str) -> Option<&Condition<'static>> {
        self.status.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Status of a condition: `True`, `False` or `Unknown`.
    pub(super) fn truth(&self, kind: &str) -> &str {
        self.condition(kind).map_or("Unknown", |condition| &condition.status)
    }

    /// Returns the group of the app. If an old daemon sends no group, derives it from the conditions.
    pub(super) fn group(&self) -> Group {
        self.status.group.parse().unwrap_or_else(|_| match (self.truth("Stalled"), self.truth("Ready")) {
            ("True", _) => Group::NeedsPerson,
            (_, "True") => Group::Settled,
            _ => self.reason().parse::<Reason>().map_or(Group::Unknown, Reason::group),
        })
    }

    /// The reason of the conditions.
    pub(super) fn reason(&self) -> &str {
        self.condition("Ready").map_or("", |ready| &ready.reason)
    }
}

impl Daemon {
    pub(super) fn new(server: &str) -> anyhow::Result<Self> {
        settings::without_userinfo("--server", server)?;
        let fits = "expected http://HOST:PORT, such as http://127.0.0.1:8080";
        let base: Url = server.parse().map_err(|_| anyhow!("--server {server}: not an address; {fits}"))?;
        let host = base.host_str().filter(|_| ["http", "https"].contains(&base.scheme()));
        let Some(host) = host else { bail!("--server {server}: {fits}") };
        let https = base.scheme() == "https";
        // For a proxy, loopback is another machine.
        let proxy = if http::is_loopback_host(host) { None } else { Proxy::from_environment(&base, https)? };
        let http = reqwest::Client::builder()
            .user_agent(concat!("campos-operator/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .tls_backend_preconfigured(tls::config(https));
        let http = Proxy::configure(proxy.as_ref(), http).build();
        Ok(Self { http: http.context("could not set up the HTTP client")?, base })
    }

    /// An address below `--server`, which may have a path of its own.
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("http and https have paths").pop_if_empty().extend(path);
        url
    }

    fn not_an_operator(&self) -> anyhow::Error {
        NotAnOperator(format!("the server at {} is not a campos-operator; check --server", self.base)).into()
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let base = &self.base;
        request.send().await.map_err(|error| {
            if error.is_connect() {
                anyhow!(
                    "no daemon at {base} ({}); is `campos-operator run` running there? For another address, set --server or \
                     CAMPOS_OPERATOR_SERVER",
                    root(&error)
                )
            } else {
                anyhow!("could not read from the daemon at {base}: {}", root(&error))
            }
        })
    }

    /// Status and body of the answer, both within `deadline`.
    async fn exchange(&self, request: RequestBuilder, deadline: Duration) -> anyhow::Result<(u16, Vec<u8>)> {
        let exchange = async {
            let mut response = self.send(request).await?;
            let (status, mut body) = (response.status().as_u16(), Vec::new());
            let failed = |why: String| anyhow!("could not read from the daemon at {}: {why}", self.base);
            while let Some(chunk) = response.chunk().await.map_err(|error| failed(root(&error)))? {
                if body.len() + chunk.len() > MAX_BODY {
                    return Err(failed(format!("the answer is larger than {} MiB", MAX_BODY >> 20)));
                }
                body.extend_from_slice(&chunk);
            }
            Ok((status, body))
        };
        let late = |_| anyhow!("no complete answer from {} within {deadline:?}", self.base);
        timeout(deadline, exchange).await.map_err(late)?
    }

    /// Succeeds if `/livez` reports within `deadline` that the daemon's loop makes progress.
    pub(super) async fn alive(&self, deadline: Duration) -> anyhow::Result<()> {
        let (status, body) = self.exchange(self.http.get(self.url(&["livez"])), deadline).await.context("unhealthy")?;
        let body = String::from_utf8_lossy(&body);
        match (status, body.lines().next().unwrap_or_default()) {
            (200, "ok") => Ok(()),
            (503, line) => bail!("unhealthy: {} answered HTTP 503, {line}", self.base),
            _ => Err(self.not_an_operator().context(format!("HTTP {status}"))),
        }
    }

    /// The JSON object at a path of the API; `None` if the daemon answers 404.
    async fn fetch(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Option<Value>> {
        let mut url = self.url(&[&["api", "v1"], path].concat());
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let (status, body) = self.exchange(self.http.get(url), READ_DEADLINE).await?;
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status == 200 && value.is_object() {
            return Ok(Some(value));
        }
        match value.get("error").map(Value::as_str) {
            Some(Some(_)) if status == 404 => Ok(None),
            Some(error) => {
                let error = error.unwrap_or("no reason");
                let text = format!(
                    "{} answered HTTP {status}, {error:?}; if it is not a campos-operator, check --server",
                    self.base
                );
                Err(if status < 500 { NotAnOperator(text).into() } else { anyhow!(text) })
            }
            // A proxy in front of a daemon that has not started yet.
            None if status >= 500 => bail!("{} answered HTTP {status}", self.base),
            None => Err(self.not_an_operator().context(format!("HTTP {status}"))),
        }
    }

    /// Every app, by name.
    pub(super) async fn apps(&self) -> anyhow::Result<BTreeMap<String, App>> {
        Ok(self.list().await?.0)
    }

    /// Every app, and the version from which events continue.
    async fn list(&self) -> anyhow::Result<(BTreeMap<String, App>, Option<String>)> {
        let list = self.fetch(&["apps"], &[]).await?.filter(|list| list["apiVersion"] == API_VERSION);
        let mut list = list.ok_or_else(|| self.not_an_operator())?;
        let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned);
        let apps = items(&mut list).ok_or_else(|| self.not_an_operator())?.into_iter().map(|raw| self.read(raw));
        let apps = apps.map(|app| app.map(|app| (app.name().to_owned(), app)));
        Ok((apps.collect::<anyhow::Result<_>>()?, version))
    }

    fn read(&self, raw: Value) -> anyhow::Result<App> {
        raw.try_into().with_context(|| format!("could not read an app from {}; is the daemon newer?", self.base))
    }

    /// The app with a name or an `appId`. The error for an unknown name suggests the nearest one.
    pub(super) async fn app(&self, name: &str) -> anyhow::Result<App> {
        match self.fetch(&["apps", name], &[]).await? {
            Some(app) if app["apiVersion"] == API_VERSION => self.read(app),
            Some(_) => Err(self.not_an_operator()),
            None => {
                let mut known = self.apps().await?;
                // The id, from the dashboard of CamposCloud.
                let has_id = |app: &App| app.spec.as_ref().is_some_and(|spec| spec.app_id == name);
                if let Some(key) = known.iter().find_map(|(key, app)| has_id(app).then(|| key.clone())) {
                    return known.remove(&key).ok_or_else(|| unknown(name, &known));
                }
                if known.is_empty() && !self.loaded().await? {
                    bail!("{NOT_LOADED}");
                }
                Err(unknown(name, &known))
            }
        }
    }

    /// Entries of the history, newest first; `None` from a daemon without a history.
    pub(super) async fn history(&self, app: Option<&str>, limit: u32) -> anyhow::Result<Option<Vec<Value>>> {
        let limit = limit.to_string();
        let query: Vec<_> = app.map(|app| ("app", app)).into_iter().chain([("limit", &*limit)]).collect();
        let answer = self.fetch(&["history"], &query).await?;
        Ok(answer.map(|mut answer| items(&mut answer).unwrap_or_default()))
    }

    /// The activity, newest first; `None` from a daemon that is too old for it.
    pub(super) async fn activity(&self, app: Option<&str>, limit: u32) -> anyhow::Result<Option<Vec<ActivityItem>>> {
        let limit = limit.to_string();
        let query: Vec<_> = app.map(|app| ("app", app)).into_iter().chain([("limit", &*limit)]).collect();
        let Some(mut answer) = self.fetch(&["activity"], &query).await? else { return Ok(None) };
        let activity = items(&mut answer).unwrap_or_default().into_iter().map(serde_json::from_value);
        let activity = activity.collect::<Result<_, _>>();
        activity.map(Some).with_context(|| format!("could not read the history of {}; is the daemon newer?", self.base))
    }

    /// The error for a daemon that is too old for a command.
    pub(super) async fn too_old(&self) -> anyhow::Error {
        let version = self.status().await.ok().and_then(|status| Some(status["version"].as_str()?.to_owned()));
        let version = version.map(|version| format!(" (version {version})")).unwrap_or_default();
        anyhow!("the daemon at {}{version} is older than this command: upgrade the daemon", self.address())
    }

    /// Fetches the next change of the desired state of each app, earliest first.
    pub(super) async fn transitions(&self, limit: u32) -> anyhow::Result<Vec<Value>> {
        let answer = self.fetch(&["transitions"], &[("limit", &*limit.to_string())]).await?;
        match answer.and_then(|mut answer| items(&mut answer)) {
            Some(transitions) => Ok(transitions),
            None => Err(self.too_old().await),
        }
    }

    /// The number of apps of each group over the last 24 hours; null from an older daemon.
    pub(super) async fn trend(&self) -> anyhow::Result<Value> {
        Ok(self.fetch(&["trend"], &[]).await?.unwrap_or_default())
    }

    /// The first apps of a group, by name.
    pub(super) async fn apps_of(&self, group: Group, limit: u32) -> anyhow::Result<Vec<App>> {
        let query = [("group", group.as_str()), ("limit", &*limit.to_string())];
        let answer = self.fetch(&["apps"], &query).await?;
        let apps = answer.and_then(|mut answer| items(&mut answer)).unwrap_or_default();
        apps.into_iter().map(|raw| self.read(raw)).collect()
    }

    /// The address of the daemon, for display.
    pub(super) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The state of the daemon itself.
    pub(super) async fn status(&self) -> anyhow::Result<Value> {
        Ok(self.fetch(&["status"], &[]).await?.unwrap_or_default())
    }

    /// A note if the daemon is a standby, which has no readings of the apps.
    pub(super) async fn standby(&self) -> anyhow::Result<Option<String>> {
        let leader = &self.status().await?["leader"];
        let holder =
            leader["holder"].as_str().map_or_else(|| "unknown".to_owned(), |holder| escape(holder).into_owned());
        Ok((leader["leading"] == false).then(|| format!("this is a standby; the leader is {holder}")))
    }

    /// Whether the daemon has read its manifests. Before that, an app that it does not list may be declared.
    pub(super) async fn loaded(&self) -> anyhow::Result<bool> {
        Ok(self.status().await?.pointer("/source/loaded").and_then(Value::as_bool).unwrap_or(true))
    }

    /// The stream of events after `version`; `None` from a daemon without events.
    async fn events(&self, version: Option<&str>) -> anyhow::Result<Option<Response>> {
        let mut request = self.http.get(self.url(&["api", "v1", "events"]));
        if let Some(version) = version {
            request = request.header("last-event-id", version);
        }
        let late = |_| anyhow!("no answer from {} within {READ_DEADLINE:?}", self.base);
        let response = timeout(READ_DEADLINE, self.send(request)).await.map_err(late)??;
        let kind = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        Ok((response.status().is_success() && is_stream).then_some(response))
    }
}

/// Takes the items out of a list.
fn items(list: &mut Value) -> Option<Vec<Value>> {
    list["items"].as_array_mut().map(std::mem::take)
}

/// Error for an empty list from a daemon that has just started: manifests may declare apps.
pub(super) const NOT_LOADED: &str = "the daemon has not read its manifests yet; try again in a moment";

/// The error for an unknown name.
pub(super) fn unknown(name: &str, apps: &BTreeMap<String, App>) -> anyhow::Error {
    let names: Vec<&str> = apps.keys().map(String::as_str).collect();
    let hint = suggestion(name, &names).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    anyhow!("no manifest declares an app named {name:?}{hint}")
}

/// The nearest name: the one with the fewest different letters, or one that contains the text: `ticket` for
/// `ticket-bot`.
fn suggestion<'a>(typed: &str, names: &[&'a str]) -> Option<&'a str> {
    let part = typed.to_lowercase();
    let contains = |name: &&str| part.len() >= 3 && name.contains(&part);
    nearest(typed, names.iter().copied()).or_else(|| names.iter().copied().find(contains))
}

/// Every app, kept up to date.
#[derive(Debug)]
pub(super) struct Follow {
    daemon: Daemon,
    pub(super) apps: BTreeMap<String, App>,
    /// The error that makes `apps` possibly out of date.
    pub(super) lost: Option<String>,
    stream: Option<Response>,
    /// Bytes of the stream that are not a complete event yet.
    pending: Vec<u8>,
}

impl Follow {
    /// [`Daemon::standby`].
    pub(super) async fn standby(&self) -> anyhow::Result<Option<String>> {
        self.daemon.standby().await
    }

    /// Waits until a daemon answers; calls `report` with the cause of the first failure.
    ///
    /// # Errors
    /// If another server answers.
    pub(super) async fn wait_for(daemon: Daemon, report: impl FnOnce(&str)) -> anyhow::Result<Self> {
        let mut report = Some(report);
        loop {
            match Self::start(daemon.clone()).await {
                Ok(follow) => return Ok(follow),
                Err(error) if error.downcast_ref::<NotAnOperator>().is_some() => return Err(error),
                Err(error) => {
                    if let Some(report) = report.take() {
                        report(&format!("{error:#}"));
                    }
                    sleep(POLL).await;
                }
            }
        }
    }

    pub(super) async fn start(daemon: Daemon) -> anyhow::Result<Self> {
        let mut follow = Self { daemon, apps: BTreeMap::new(), lost: None, stream: None, pending: Vec::new() };
        follow.list_again().await?;
        Ok(follow)
    }

    /// Whether `apps` has all declared apps: listed after the daemon had read its manifests.
    pub(super) async fn complete(&mut self) -> anyhow::Result<bool> {
        let loaded = self.daemon.loaded().await?;
        if loaded {
            self.list_again().await?;
        }
        Ok(loaded)
    }

    /// Fetches the list, and opens the stream of later events.
    async fn list_again(&mut self) -> anyhow::Result<()> {
        self.pending.clear();
        let (apps, version) = self.daemon.list().await?;
        self.apps = apps;
        self.stream = self.daemon.events(version.as_deref()).await?;
        if version.is_none() && self.stream.is_some() {
            // The stream does not continue from the list, so changes between the two would be missed.
            self.apps = self.daemon.apps().await?;
        }
        Ok(())
    }

    /// Waits for a change, a loss of the daemon, or the next poll.
    ///
    /// Not cancel safe: dropping it before its end may lose a fetched event.
    pub(super) async fn next(&mut self) {
        let chunk = match &mut self.stream {
            Some(stream) => timeout(SILENCE, stream.chunk()).await.ok().and_then(Result::ok).flatten(),
            None => None,
        };
        let result = if let Some(chunk) = chunk {
            self.pending.extend_from_slice(&chunk);
            self.take_events().await
        } else {
            // The daemon may continue after the end of a stream; the next list decides.
            sleep(if self.stream.is_some() { REOPEN } else { POLL }).await;
            self.list_again().await
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
                    let app = self.daemon.read(app)?;
                    self.apps.insert(app.name().to_owned(), app);
                }
                ("removed", Ok(removed)) => {
                    if let Some(name) = removed["name"].as_str() {
                        self.apps.remove(name);
                    }
                }
                ("reset", _) | ("app" | "removed", Err(_)) => self.apps = self.daemon.apps().await?,
                _ => {} // an event of a newer daemon
            }
        }
        if self.pending.len() > MAX_EVENT {
            bail!("an event of the daemon at {} is larger than {} MiB", self.daemon.base, MAX_EVENT >> 20);
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

/// Takes the first complete event off `pending`. An empty line ends an event; a line that begins with `:` is a comment.
fn next_event(pending: &mut Vec<u8>) -> Option<Event> {
    loop {
        let mut event = Event { kind: "message".into(), data: String::new() };
        let (mut at, mut has_fields, mut complete) = (0, false, false);
        while let Some(length) = pending[at..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&pending[at..at + length]);
            at += length + 1;
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                complete = true;
                break;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => (event.kind, has_fields) = (value.to_owned(), true),
                "data" if event.data.is_empty() => (event.data, has_fields) = (value.to_owned(), true),
                "data" => event.data = event.data + "\n" + value,
                _ => {} // id, retry, comments
            }
        }
        if !complete {
            return None;
        }
        pending.drain(..at);
        if has_fields {
            return Some(event);
        }
    }
}

/// The innermost cause of an error: "connection refused" without the outer layers.
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
            assert_eq!(suggestion(typed, &known), meant, "{typed}");
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
