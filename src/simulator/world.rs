//! The API of CamposCloud as a pure state machine: it takes a request and the time, and returns a response.
//!
//! Shapes and words are those of the vendor's `OpenAPI` files. The bodies hold invented secrets, easy to search for,
//! where the real ones hold secrets, so that a client that logs or stores them is found out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};

use super::faults::{Body, Endpoint, Fault, Faults, Item, Pages, Reset};
use crate::reconcile::app::AppId;

/// Prefix of every invented secret.
pub const SECRET: &str = "SIM_SECRET";
/// The token that is accepted unless another one is set. Not a secret, and no word of any message: it is redacted.
pub const TOKEN: &str = "simulated-token-0000";
/// The default token of the first version; it is still accepted.
const FIRST_TOKEN: &str = "simulated";
/// Number of requests in the log.
const REMEMBERED: usize = 100_000;

/// Settings for the undocumented parts of the real server.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub token: String,
    /// Requests per minute of the account; `None` is unlimited.
    pub account_limit: Option<u32>,
    pub page_size: usize,
    /// Largest page. A larger `limit` is a 400 with `refuse_large_pages`, and is lowered to this otherwise.
    pub largest_page: usize,
    pub refuse_large_pages: bool,
    pub list: ListShape,
    pub stopped: StoppedShape,
    pub telemetry_lag: Duration,
    /// Time until a stop or start takes effect.
    pub effect_delay: Duration,
    pub limit_headers: bool,
    pub seed: u64,
    pub faults: Faults,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListShape {
    /// `{"applications": [..], "totalUsedRAM": .., "pagination": {..}}`: both SDKs.
    Wrapped,
    /// As in the v2 file: `totalUsedRAM` and `pagination` inside each item.
    Nested,
    /// A bare array: the v1 documents.
    Bare,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoppedShape {
    Null,
    OnlineFalse,
    Absent,
    /// `online: false` with the time of the stop.
    Frozen,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            token: TOKEN.into(),
            account_limit: Some(180),
            page_size: 10,
            largest_page: 100,
            refuse_large_pages: false,
            list: ListShape::Wrapped,
            stopped: StoppedShape::OnlineFalse,
            telemetry_lag: Duration::ZERO,
            effect_delay: Duration::ZERO,
            limit_headers: true,
            seed: 1,
            faults: Faults::default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// The query, without its question mark.
    pub query: String,
    pub bearer: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub delay: Duration,
    pub delivery: Delivery,
}

/// The fault of a response on its way to the client, which the transport applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    Hang,
    /// A byte each 100 ms.
    Drip,
    Refused,
    Reset,
    /// Cut after this number of bytes of the body.
    Truncated(usize),
}

/// A received request and its response, for tests and transcripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub at: Timestamp,
    pub endpoint: Option<Endpoint>,
    pub app: Option<AppId>,
    pub status: u16,
    pub delivery: Delivery,
    pub delay: Duration,
    /// The seconds of the response's `Retry-After`.
    pub pause: Option<Duration>,
    /// Whether it changed the state of the app.
    pub took_effect: bool,
}

#[derive(Debug, Clone)]
struct App {
    name: String,
    status: &'static str,
    team: Option<String>,
    /// Changes of the real state, newest last.
    history: VecDeque<(Timestamp, bool)>,
    /// Changes that will take effect, and when.
    pending: Vec<(Timestamp, Change)>,
    restart_required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Stop,
    Start,
    Restart,
}

#[derive(Debug, Clone)]
pub struct World {
    config: Config,
    started: Timestamp,
    apps: BTreeMap<AppId, App>,
    /// The apps with pending changes.
    pending: BTreeSet<AppId>,
    window: (Timestamp, u32),
    fired: Vec<u32>,
    dice: u64,
    log: VecDeque<Logged>,
}

impl World {
    /// A platform without apps that starts at `now`.
    pub fn new(config: Config, now: Timestamp) -> Self {
        let fired = vec![0; config.faults.rules.len()];
        let dice = config.seed;
        Self {
            config,
            started: now,
            apps: BTreeMap::new(),
            pending: BTreeSet::new(),
            window: (now, 0),
            fired,
            dice,
            log: VecDeque::new(),
        }
    }

    /// Adds `count` running apps.
    pub fn add_fleet(&mut self, count: u32, now: Timestamp) {
        for number in 0..count {
            if let Ok(id) = format!("5e{number:022x}").parse() {
                self.add(id, &format!("Simulated App {number}"), now);
            }
        }
    }

    pub fn add(&mut self, id: AppId, name: &str, now: Timestamp) {
        let app = App {
            name: name.to_owned(),
            status: "active",
            team: None,
            history: VecDeque::from([(now, true)]),
            pending: Vec::new(),
            restart_required: false,
        };
        self.apps.insert(id, app);
    }

    pub fn remove(&mut self, id: &AppId) {
        self.apps.remove(id);
    }

    /// Moves an app to a team: the list of the account no longer shows it.
    pub fn give_to_team(&mut self, id: &AppId, team: &str) {
        if let Some(app) = self.apps.get_mut(id) {
            app.team = Some(team.to_owned());
        }
    }

    /// Sets an app's lifecycle word: `active`, `creating`, `suspended` or anything else.
    pub fn set_status(&mut self, id: &AppId, status: &'static str) {
        if let Some(app) = self.apps.get_mut(id) {
            app.status = status;
        }
    }

    /// Starts or stops an app as another client would.
    pub fn set_online(&mut self, id: &AppId, online: bool, now: Timestamp) {
        if let Some(app) = self.apps.get_mut(id) {
            app.pending.clear();
            app.history.push_back((now, online));
        }
    }

    /// Reports from now on that an app needs a restart, until it is restarted.
    pub fn require_restart(&mut self, id: &AppId) {
        if let Some(app) = self.apps.get_mut(id) {
            app.restart_required = true;
        }
    }

    pub fn set_faults(&mut self, faults: Faults) {
        self.fired = vec![0; faults.rules.len()];
        self.config.faults = faults;
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns whether an app runs; `None` if it does not exist.
    pub fn online(&mut self, id: &AppId, now: Timestamp) -> Option<bool> {
        self.tick(now);
        self.apps.get(id).map(App::online)
    }

    /// Returns whether an app was online (or offline) at any time since `since`, as far as its history goes back.
    pub fn was(&self, id: &AppId, online: bool, since: Timestamp) -> bool {
        let Some(app) = self.apps.get(id) else { return false };
        app.at(since).1 == online || app.history.iter().any(|(at, state)| *at >= since && *state == online)
    }

    /// The received requests, oldest first.
    pub fn log(&self) -> impl Iterator<Item = &Logged> {
        self.log.iter()
    }

    pub fn clear_log(&mut self) {
        self.log.clear();
    }

    /// Number of received requests to `endpoint`.
    pub fn count(&self, endpoint: Endpoint) -> usize {
        self.log.iter().filter(|logged| endpoint == Endpoint::Any || logged.endpoint == Some(endpoint)).count()
    }

    pub fn handle(&mut self, request: &Request, now: Timestamp) -> Response {
        self.tick(now);
        let (endpoint, id) = route(&request.method, &request.path);
        let before = id.as_ref().and_then(|id| self.apps.get(id)).map(|app| (app.newest(), app.pending.len()));
        let mut response = self.answer(request, endpoint, id.as_ref(), now);
        let after = id.as_ref().and_then(|id| self.apps.get(id)).map(|app| (app.newest(), app.pending.len()));
        response.headers.push(("date".into(), http_date(now)));
        if self.log.len() == REMEMBERED {
            self.log.pop_front();
        }
        self.log.push_back(Logged {
            at: now,
            endpoint,
            app: id,
            status: response.status,
            delivery: response.delivery,
            delay: response.delay,
            pause: pause(&response),
            took_effect: before != after,
        });
        response
    }

    fn answer(
        &mut self,
        request: &Request,
        endpoint: Option<Endpoint>,
        id: Option<&AppId>,
        now: Timestamp,
    ) -> Response {
        let fault = endpoint.and_then(|endpoint| self.fault(endpoint, id, now)).unwrap_or_default();
        if fault.refuse || fault.reset == Some(Reset::Before) {
            let delivery = if fault.refuse { Delivery::Refused } else { Delivery::Reset };
            return Response { delivery, ..json_response(0, &Value::Null) };
        }
        let mut response = match self.allowance(request, now) {
            Err(refused) => refused,
            Ok(limits) => {
                let mut response = match fault.status {
                    Some(status) => error(status, "a fault of the rules"),
                    None => self.serve(request, endpoint, id, &fault, now),
                };
                response.headers.extend(limits);
                response
            }
        };
        response.headers.extend(fault.headers.clone());
        response.delay = fault.delay.unwrap_or_default();
        match fault.body {
            None => {}
            Some(Body::Empty) => response.body.clear(),
            Some(Body::Html) => {
                response.body = b"<!doctype html><title>Sign in</title>".to_vec();
                response.headers.retain(|(name, _)| name != "content-type");
                response.headers.push(("content-type".into(), "text/html".into()));
            }
            Some(Body::Garbage) => response.body = b"\x7fnot json at all".to_vec(),
            Some(Body::Huge) => response.body = vec![b' '; 64 << 20],
            Some(Body::OtherApp) => response.body = br#"{"_id":"ffffffffffffffffffffffff","status":"active"}"#.to_vec(),
        }
        response.delivery = if fault.reset == Some(Reset::After) {
            Delivery::Reset
        } else if fault.hang {
            Delivery::Hang
        } else if fault.drip {
            Delivery::Drip
        } else {
            fault.truncate.map_or(Delivery::Whole, Delivery::Truncated)
        };
        response
    }

    /// Checks the rate limit and the token. Returns the rate-limit headers.
    fn allowance(&mut self, request: &Request, now: Timestamp) -> Result<Vec<(String, String)>, Response> {
        let Some(limit) = self.config.account_limit else {
            return self.authorized(request).map(|()| Vec::new());
        };
        let minute = Duration::from_secs(60);
        if now.duration_since(self.window.0) >= jiff::SignedDuration::from_secs(60) {
            self.window = (now, 0);
        }
        self.authorized(request)?;
        let passed = Duration::try_from(now.duration_since(self.window.0)).unwrap_or_default();
        let reset = minute.saturating_sub(passed).as_secs_f64().ceil().to_string();
        let used = self.window.1 + 1;
        let headers = |remaining: u32| -> Vec<(String, String)> {
            let pair = |name: &str, value: String| (name.to_owned(), value);
            if !self.config.limit_headers {
                return Vec::new();
            }
            vec![
                pair("x-ratelimit-limit", limit.to_string()),
                pair("x-ratelimit-remaining", remaining.to_string()),
                pair("x-ratelimit-reset", reset.clone()),
            ]
        };
        if used > limit {
            let mut refused = error(429, "Too many requests");
            refused.headers.extend(headers(0));
            return Err(refused);
        }
        let headers = headers(limit - used);
        self.window.1 = used;
        Ok(headers)
    }

    fn authorized(&self, request: &Request) -> Result<(), Response> {
        let accepted = |bearer| bearer == self.config.token || (self.config.token == TOKEN && bearer == FIRST_TOKEN);
        if request.bearer.as_deref().is_some_and(accepted) { Ok(()) } else { Err(error(401, "Unauthorized")) }
    }

    fn serve(
        &mut self,
        request: &Request,
        endpoint: Option<Endpoint>,
        id: Option<&AppId>,
        fault: &Fault,
        now: Timestamp,
    ) -> Response {
        match (endpoint, id) {
            (Some(Endpoint::List), _) => self.list(&request.query, fault, now),
            (Some(Endpoint::Me), _) => json_response(200, &me()),
            (Some(Endpoint::Get), Some(id)) => self.get(id, fault, now),
            (Some(Endpoint::Stop), Some(id)) => self.change(id, Change::Stop, fault, now),
            (Some(Endpoint::Start), Some(id)) => self.change(id, Change::Start, fault, now),
            (Some(Endpoint::Restart), Some(id)) => self.change(id, Change::Restart, fault, now),
            (Some(_) | None, _) if known_path(&request.path) => error(405, "Method not allowed"),
            (Some(_) | None, _) => error(404, "Not found"),
        }
    }

    fn list(&self, query: &str, fault: &Fault, now: Timestamp) -> Response {
        let parameter = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
                .map(|(_, value)| value)
        };
        let team = parameter("team").or_else(|| parameter("teamID"));
        let own = self.config.page_size.min(self.config.largest_page);
        let asked: usize = parameter("limit").and_then(|text| text.parse().ok()).unwrap_or(own).max(1);
        if asked > self.config.largest_page && self.config.refuse_large_pages {
            return error(400, "limit is too large");
        }
        let limit = asked.min(self.config.largest_page);
        let page: usize = parameter("page").and_then(|text| text.parse().ok()).unwrap_or(1).max(1);
        let all: Vec<(&AppId, &App)> = self.apps.iter().filter(|(_, app)| app.team.as_deref() == team).collect();
        let total = all.len();
        let pages = total.div_ceil(limit).max(1);
        let early = usize::from(fault.pages == Some(Pages::Shift) && page > 1);
        let skip = (page - 1).saturating_mul(limit).saturating_sub(early);
        let mut on_page: Vec<_> = all.into_iter().skip(skip).take(limit).collect();
        let mut next = page < pages;
        match fault.pages {
            Some(Pages::Lose) => on_page = on_page.into_iter().step_by(2).collect(),
            Some(Pages::Duplicate) => on_page.extend(on_page.first().copied()),
            Some(Pages::Loop) => {
                next = true;
                on_page = self.apps.iter().take(limit).collect();
            }
            Some(Pages::Empty) => on_page.clear(),
            Some(Pages::Shift) | None => {}
        }
        let pagination = json!({
            "totalItems": total, "totalPages": pages, "currentPage": page, "itemsPerPage": limit, "hasNextPage": next,
            "hasPrevPage": page > 1,
        });
        let broken = fault.item.and_then(|_| self.apps.keys().next());
        let listed = |(id, app): (&AppId, &App)| {
            let mut item = self.listed(id, app, fault, now);
            if broken == Some(id) {
                item["name"] = MARK.into();
            }
            item
        };
        let mut items: Vec<Value> = on_page.into_iter().map(listed).collect();
        let body = match self.config.list {
            ListShape::Bare => Value::Array(items),
            ListShape::Wrapped => {
                json!({ "applications": items, "totalUsedRAM": 52_428_800, "pagination": pagination })
            }
            ListShape::Nested => {
                for item in &mut items {
                    item["totalUsedRAM"] = json!(52_428_800);
                    item["pagination"] = pagination.clone();
                }
                json!({ "applications": items })
            }
        };
        let mut response = json_response(200, &body);
        if let Some(item) = fault.item {
            break_item(&mut response.body, item);
        }
        response
    }

    fn get(&self, id: &AppId, fault: &Fault, now: Timestamp) -> Response {
        let Some(app) = self.apps.get(id) else { return error(404, "Not found") };
        let mut body = self.single(id, app, fault, now);
        // The v2 file knows the team of a single read only as an object, never as null.
        body["teamId"] = team(app.team.as_deref().unwrap_or("5f00000000000000000000aa"));
        body["assignedCustomDomain"] = Value::Null;
        json_response(200, &body)
    }

    /// The response to stop, start and restart shows the state before the call, as the vendor's does.
    fn change(&mut self, id: &AppId, change: Change, fault: &Fault, now: Timestamp) -> Response {
        let Some(app) = self.apps.get(id) else { return error(404, "Not found") };
        let mut body = self.single(id, app, fault, now);
        body["teamId"] = app.team.as_deref().map_or(Value::Null, team);
        body["internalPort"] = Value::Null;
        body["assignedSubdomain"] = Value::Null;
        let delay = fault.effect_delay.unwrap_or(self.config.effect_delay);
        if !fault.ignore
            && let Some(app) = self.apps.get_mut(id)
        {
            app.pending.push((now + delay, change));
            self.pending.insert(id.clone());
        }
        self.tick(now);
        json_response(200, &body)
    }

    fn single(&self, id: &AppId, app: &App, fault: &Fault, now: Timestamp) -> Value {
        let mut body = self.common(id, app, fault, now);
        body["repository"] = Value::Null;
        body["externalPort"] = Value::Null;
        body["environmentVariables"] =
            json!([{ "key": "BOT_TOKEN", "value": format!("{SECRET}_VALUE_{id}"), "_id": "5f00000000000000000000ee" }]);
        body
    }

    fn listed(&self, id: &AppId, app: &App, fault: &Fault, now: Timestamp) -> Value {
        let mut body = self.common(id, app, fault, now);
        body["teamId"] = app.team.as_deref().map_or(Value::Null, Value::from);
        body
    }

    fn common(&self, id: &AppId, app: &App, fault: &Fault, now: Timestamp) -> Value {
        let mut body = json!({
            "_id": id.as_str(),
            "containerId": format!("container-{id}"),
            "restartRequired": app.restart_required,
            "userId": "5f0000000000000000000001",
            "name": app.name,
            "allocatedMemoryMB": 256,
            "allocatedVCpu": 8,
            "workerNodeId": { "_id": "5f0000000000000000000002", "nodeName": "SIMULATED" },
            "containerImage": "simulated/python",
            "exposedViaWeb": false,
            "startupCommand": "python -u index.py",
            "installDependenciesCmd": "pip install -r requirements.txt",
            "runtimeEnvironment": "python",
            "autoRestartEnabled": false,
            "status": app.status,
            "createdAt": self.started.to_string(),
            "updatedAt": app.history.back().map_or(self.started, |(since, _)| *since).to_string(),
            "githubDeploys": [],
        });
        let lag = self.config.telemetry_lag + fault.stale.unwrap_or_default();
        let taken = now - lag;
        let (since, online) = app.at(taken);
        let metrics = |online: bool, taken: Timestamp| {
            let uptime = if online { taken.duration_since(since).as_secs().max(0) } else { 0 };
            let mut metrics = json!({
                "timestamp": format!("{taken:.3}"), "online": online, "uptime": uptime, "cpuUsagePercent": 0.5,
                "memoryUsageBytes": 43_671_552, "memoryLimitBytes": 268_435_456, "networkRxBytes": 228_961,
                "networkTxBytes": 228_190,
            });
            if online {
                metrics["startedAt"] = json!(format!("{since:.3}"));
            }
            metrics
        };
        body["currentResourceMetrics"] = match (online, self.config.stopped) {
            (true, _) => metrics(true, taken),
            (false, StoppedShape::OnlineFalse) => metrics(false, taken),
            (false, StoppedShape::Frozen) => metrics(false, since),
            (false, StoppedShape::Null | StoppedShape::Absent) => Value::Null,
        };
        if !online
            && self.config.stopped == StoppedShape::Absent
            && let Some(fields) = body.as_object_mut()
        {
            fields.remove("currentResourceMetrics");
        }
        body
    }

    /// Applies the pending changes and the `revive` rules up to `now`.
    fn tick(&mut self, now: Timestamp) {
        // Without `revive` rules only pending changes matter, so a request does not visit every app of a big fleet.
        let every_app = !self.config.faults.revive.is_empty();
        let ids: Vec<AppId> =
            if every_app { self.apps.keys().cloned().collect() } else { self.pending.iter().cloned().collect() };
        for id in &ids {
            let Some(app) = self.apps.get_mut(id) else { continue };
            app.pending.sort_unstable();
            while let Some((at, change)) = app.pending.first().copied().filter(|(at, _)| *at <= now) {
                app.pending.remove(0);
                let online = change != Change::Stop;
                if app.online() != online || change == Change::Restart {
                    app.history.push_back((at, online));
                }
                app.restart_required &= change == Change::Stop;
            }
            let revive =
                self.config.faults.revive.iter().find(|revive| revive.app.as_ref().is_none_or(|only| only == id));
            let (since, online) = app.newest();
            if let Some(revive) = revive
                && !online
                && now.duration_since(since) >= jiff::SignedDuration::try_from(revive.every).unwrap_or_default()
            {
                app.history.push_back((now, true));
            }
            while app.history.len() > 16 {
                app.history.pop_front();
            }
            if app.pending.is_empty() {
                self.pending.remove(id);
            }
        }
    }

    fn fault(&mut self, endpoint: Endpoint, id: Option<&AppId>, now: Timestamp) -> Option<Fault> {
        let since = Duration::try_from(now.duration_since(self.started)).unwrap_or_default();
        for index in 0..self.config.faults.rules.len() {
            let rule = &self.config.faults.rules[index];
            let fits = (rule.on == Endpoint::Any || rule.on == endpoint)
                && rule.app.as_ref().is_none_or(|app| Some(app) == id)
                && rule.from.is_none_or(|from| since >= from)
                && rule.to.is_none_or(|to| since < to)
                && rule.times.is_none_or(|times| self.fired[index] < times);
            if !fits {
                continue;
            }
            let chance = rule.probability.unwrap_or(1.0);
            if chance < 1.0 && throw(&mut self.dice) >= chance {
                continue;
            }
            self.fired[index] += 1;
            return Some(self.config.faults.rules[index].act.clone());
        }
        None
    }
}

impl App {
    fn newest(&self) -> (Timestamp, bool) {
        self.history.back().copied().unwrap_or((Timestamp::UNIX_EPOCH, false))
    }

    fn online(&self) -> bool {
        self.newest().1
    }

    /// The state at `moment`, and the time of the change to it.
    fn at(&self, moment: Timestamp) -> (Timestamp, bool) {
        let known = self.history.iter().rev().find(|(since, _)| *since <= moment);
        known.or_else(|| self.history.front()).copied().unwrap_or((Timestamp::UNIX_EPOCH, false))
    }
}

/// A pseudo-random number from 0 to 1 (splitmix64).
fn throw(dice: &mut u64) -> f64 {
    *dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *dice;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    f64::from(u32::try_from(z >> 32).unwrap_or(u32::MAX)) / (f64::from(u32::MAX) + 1.0)
}

/// The endpoint and app of a request. Doubled slashes are accepted: the Python SDK's default base URL makes
/// `/v1//apps`.
fn route(method: &str, path: &str) -> (Option<Endpoint>, Option<AppId>) {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match (method, parts.as_slice()) {
        ("GET", ["v1", "apps"]) => (Some(Endpoint::List), None),
        ("GET", ["v1", "users", "@me" | "%40me"]) => (Some(Endpoint::Me), None),
        ("GET", ["v1", "apps", id]) => (Some(Endpoint::Get), id.parse().ok()),
        ("POST", ["v1", "apps", id, "stop"]) => (Some(Endpoint::Stop), id.parse().ok()),
        ("POST", ["v1", "apps", id, "start"]) => (Some(Endpoint::Start), id.parse().ok()),
        ("POST", ["v1", "apps", id, "restart"]) => (Some(Endpoint::Restart), id.parse().ok()),
        _ => (None, None),
    }
}

fn known_path(path: &str) -> bool {
    ["GET", "POST"]
        .iter()
        .any(|method| matches!(route(method, path), (Some(Endpoint::List | Endpoint::Me), _) | (Some(_), Some(_))))
}

/// Placeholder for the name of the item to break.
const MARK: &str = "BREAK-THIS-ITEM";

/// Breaks the item whose name is the mark.
fn break_item(body: &mut Vec<u8>, how: Item) {
    let text = String::from_utf8_lossy(body).into_owned();
    let Some(at) = text.find(MARK) else { return };
    let (before, after) = (&text[..at], &text[at + MARK.len()..]);
    let first = |text: &str, from: &str, to: &str| text.replacen(from, to, 1);
    // Fields are in the order of their names: `_id` and the metrics come before the name.
    let id = before.rfind("\"_id\":\"").unwrap_or(0);
    let metrics = before.rfind("\"currentResourceMetrics\":").unwrap_or(0);
    *body = match how {
        Item::Tab => [before, "one\ttwo", after].concat().into_bytes(),
        Item::Latin1 => [before.as_bytes(), b"a\xe7\xe3o", after.as_bytes()].concat(),
        Item::Quote => [before, "say \"hi\" to", after].concat().into_bytes(),
        Item::Surrogate => [before, "\\ud83c", after].concat().into_bytes(),
        Item::Nan => {
            let odd = first(&before[metrics..], "\"cpuUsagePercent\":0.5", "\"cpuUsagePercent\":NaN");
            [&before[..metrics], &odd, "nan", after].concat().into_bytes()
        }
        Item::NoId => {
            let renamed = first(&before[id..], "\"_id\"", "\"_ID\"");
            [&before[..id], &renamed, "no id", after].concat().into_bytes()
        }
        Item::Open => [before, "open", &first(after, "}", "")].concat().into_bytes(),
    };
}

fn team(id: &str) -> Value {
    let permissions = json!({ "canChangeStatusApplication": true, "canSeeApplicationFiles": true });
    json!({
        "_id": id,
        "name": "Simulated Team",
        "owner": "5f0000000000000000000001",
        "members": [{ "user": "5f0000000000000000000001", "permissions": permissions, "_id": "5f0000000000000000000003" }],
        "invites": [{
            "email": "invitee@example.invalid", "userId": "5f0000000000000000000004", "code": format!("{SECRET}_INVITE"),
            "permissions": permissions, "_id": "5f0000000000000000000005",
        }],
    })
}

/// The account: its fields at the top, as in the vendor's `OpenAPI` file, and below `user`, where the vendor's Python
/// SDK reads them.
fn me() -> Value {
    let session = json!({
        "id": "5f00000000000000000000a1", "device": "desktop", "ip": "192.0.2.1", "browser": "Simulated Browser",
        "lastActive": "2026-11-24T12:00:00.000Z",
    });
    let mut me = json!({
        "_id": "5f0000000000000000000001", "name": "Simulated Person", "email": "person@example.invalid",
        "isEmail2FAEnabled": true, "hasClaimedFreePlan": false, "activeSessions": [session],
    });
    me["user"] = me.clone();
    me
}

/// The seconds of a 429's or 503's `Retry-After`.
fn pause(response: &Response) -> Option<Duration> {
    let (_, text) = response.headers.iter().find(|(name, _)| name == "retry-after")?;
    let seconds = text.parse().ok().filter(|_| matches!(response.status, 402 | 403 | 429 | 451 | 503))?;
    Some(Duration::from_secs(seconds))
}

fn error(status: u16, message: &str) -> Response {
    json_response(status, &json!({ "error": message, "message": message }))
}

fn json_response(status: u16, body: &Value) -> Response {
    let headers = vec![("content-type".to_owned(), "application/json; charset=utf-8".to_owned())];
    Response { status, headers, body: body.to_string().into_bytes(), delay: Duration::ZERO, delivery: Delivery::Whole }
}

/// An HTTP date; empty if the year cannot be written.
fn http_date(now: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap_or_default()
}
