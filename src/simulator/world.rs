//! How does CamposCloud behave? Its API as a pure state machine: a request and the time go in, an answer comes out.
//!
//! Shapes and words are those of the vendor's `OpenAPI` files; the bodies carry invented secrets where the real ones
//! carry real ones, easy to search for, so that a client that logs or stores them is found out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};

use super::faults::{Body, Endpoint, Fault, Faults, Item, Pages, Reset};
use crate::reconcile::app::AppId;

/// What every invented secret begins with.
pub const SECRET: &str = "SIM_SECRET";
/// The token that is accepted unless another one is set. Not a secret, and no word of any message: it is redacted.
pub const TOKEN: &str = "simulated-token-0000";
/// The word that it was at first works as well.
const FIRST_TOKEN: &str = "simulated";
/// How many requests are remembered.
const REMEMBERED: usize = 100_000;

/// What nobody documents about the real server, as settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The token that is accepted.
    pub token: String,
    /// Requests a minute that the account has; `None` is any number.
    pub account_limit: Option<u32>,
    /// Items on a page unless asked otherwise.
    pub page_size: usize,
    /// Items on a page at most; asking for more is a 400 where `refuse_large_pages`, else gets so many.
    pub largest_page: usize,
    /// Whether too large a `limit` is refused.
    pub refuse_large_pages: bool,
    /// How the list is wrapped.
    pub list: ListShape,
    /// What a stopped app's metrics look like.
    pub stopped: StoppedShape,
    /// How old the metrics are.
    pub telemetry_lag: Duration,
    /// How long a stop or start takes to have its effect.
    pub effect_delay: Duration,
    /// Whether answers carry the rate-limit headers.
    pub limit_headers: bool,
    /// Seed of everything that is left to chance.
    pub seed: u64,
    /// Hardship.
    pub faults: Faults,
}

/// How the list is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListShape {
    /// `{"applications": [..], "totalUsedRAM": .., "pagination": {..}}`: both SDKs.
    Wrapped,
    /// The same with the last two inside each item: the letter of the v2 file.
    Nested,
    /// A bare array: the v1 documents.
    Bare,
}

/// What the metrics of a stopped app look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoppedShape {
    /// `null`.
    Null,
    /// An object with `online: false`.
    OnlineFalse,
    /// Not there.
    Absent,
    /// `online: false` with the time of the stop, for ever.
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

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, upper case.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query, without its question mark.
    pub query: String,
    /// The bearer token.
    pub bearer: Option<String>,
}

/// One answer, and how it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers, lower-case names.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long until it comes.
    pub delay: Duration,
    /// What becomes of it on the way.
    pub delivery: Delivery,
}

/// What becomes of an answer on the way. Whoever transports it carries that out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It arrives.
    Whole,
    /// It never arrives.
    Hang,
    /// It arrives a byte each 100 ms.
    Drip,
    /// There is no connection.
    Refused,
    /// The connection breaks instead.
    Reset,
    /// It ends after so many bytes of its body.
    Truncated(usize),
}

/// A request that came, for tests and transcripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// When.
    pub at: Timestamp,
    /// Which.
    pub endpoint: Option<Endpoint>,
    /// About which app.
    pub app: Option<AppId>,
    /// The status of the answer.
    pub status: u16,
    /// Whether the answer arrives.
    pub delivery: Delivery,
    /// How long until it arrives.
    pub delay: Duration,
    /// The pause that it asks for, where that is a number of seconds.
    pub pause: Option<Duration>,
    /// Whether it asked for a change that it got.
    pub took_effect: bool,
}

#[derive(Debug, Clone)]
struct App {
    name: String,
    status: &'static str,
    team: Option<String>,
    /// Whether it really runs, since when: the newest last.
    history: VecDeque<(Timestamp, bool)>,
    /// What it will be, and when.
    pending: Vec<(Timestamp, bool)>,
    revived: Option<Timestamp>,
}

/// The whole pretend platform.
#[derive(Debug, Clone)]
pub struct World {
    config: Config,
    started: Timestamp,
    apps: BTreeMap<AppId, App>,
    /// The apps with something pending.
    restless: BTreeSet<AppId>,
    window: (Timestamp, u32),
    fired: Vec<u32>,
    dice: u64,
    log: VecDeque<Logged>,
}

impl World {
    /// A platform without apps, that exists since `now`.
    pub fn new(config: Config, now: Timestamp) -> Self {
        let fired = vec![0; config.faults.rules.len()];
        let dice = config.seed;
        Self {
            config,
            started: now,
            apps: BTreeMap::new(),
            restless: BTreeSet::new(),
            window: (now, 0),
            fired,
            dice,
            log: VecDeque::new(),
        }
    }

    /// Adds `count` made-up apps, all running.
    pub fn add_fleet(&mut self, count: u32, now: Timestamp) {
        for number in 0..count {
            if let Ok(id) = format!("5e{number:022x}").parse() {
                self.add(id, &format!("Simulated App {number}"), now);
            }
        }
    }

    /// Adds a running app.
    pub fn add(&mut self, id: AppId, name: &str, now: Timestamp) {
        let app = App {
            name: name.to_owned(),
            status: "active",
            team: None,
            history: VecDeque::from([(now, true)]),
            pending: Vec::new(),
            revived: None,
        };
        self.apps.insert(id, app);
    }

    /// Removes an app.
    pub fn remove(&mut self, id: &AppId) {
        self.apps.remove(id);
    }

    /// Moves an app to a team: the plain list does not show it any more.
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

    /// Somebody else starts or stops an app.
    pub fn set_online(&mut self, id: &AppId, online: bool, now: Timestamp) {
        if let Some(app) = self.apps.get_mut(id) {
            app.pending.clear();
            app.history.push_back((now, online));
        }
    }

    /// Other hardship from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.fired = vec![0; faults.rules.len()];
        self.config.faults = faults;
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether an app really runs; `None` if there is none.
    pub fn online(&mut self, id: &AppId, now: Timestamp) -> Option<bool> {
        self.tick(now);
        self.apps.get(id).map(App::online)
    }

    /// Whether an app was ever online (or not) since `since`, as far as is remembered.
    pub fn was(&self, id: &AppId, online: bool, since: Timestamp) -> bool {
        let Some(app) = self.apps.get(id) else { return false };
        app.at(since).1 == online || app.history.iter().any(|(at, state)| *at >= since && *state == online)
    }

    /// The requests that came, oldest first.
    pub fn log(&self) -> impl Iterator<Item = &Logged> {
        self.log.iter()
    }

    /// Forgets the requests that came.
    pub fn clear_log(&mut self) {
        self.log.clear();
    }

    /// How many requests to `endpoint` came.
    pub fn count(&self, endpoint: Endpoint) -> usize {
        self.log.iter().filter(|logged| endpoint == Endpoint::Any || logged.endpoint == Some(endpoint)).count()
    }

    /// Answers a request at `now`.
    pub fn handle(&mut self, request: &Request, now: Timestamp) -> Response {
        self.tick(now);
        let (endpoint, id) = route(&request.method, &request.path);
        let before = id.as_ref().and_then(|id| self.apps.get(id)).map(|app| (app.online(), app.pending.len()));
        let mut response = self.answer(request, endpoint, id.as_ref(), now);
        let after = id.as_ref().and_then(|id| self.apps.get(id)).map(|app| (app.online(), app.pending.len()));
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

    /// Who asks, and how often: the checks before anything is served. Returns the rate-limit headers.
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
            (Some(Endpoint::Stop), Some(id)) => self.change(id, false, fault, now),
            (Some(Endpoint::Start | Endpoint::Restart), Some(id)) => self.change(id, true, fault, now),
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

    /// Stop, start and restart: one answer for all three, which shows the state before the call, as the vendor's does.
    fn change(&mut self, id: &AppId, online: bool, fault: &Fault, now: Timestamp) -> Response {
        let Some(app) = self.apps.get(id) else { return error(404, "Not found") };
        let mut body = self.single(id, app, fault, now);
        body["teamId"] = app.team.as_deref().map_or(Value::Null, team);
        body["internalPort"] = Value::Null;
        body["assignedSubdomain"] = Value::Null;
        let delay = fault.effect_delay.unwrap_or(self.config.effect_delay);
        if !fault.ignore
            && let Some(app) = self.apps.get_mut(id)
        {
            app.pending.push((now + delay, online));
            self.restless.insert(id.clone());
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
            "restartRequired": false,
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

    /// Lets time pass: what was called takes effect, and others meddle.
    fn tick(&mut self, now: Timestamp) {
        // Where nobody meddles, only what was called changes: a big fleet is not gone through for each request.
        let meddled = !self.config.faults.revive.is_empty();
        let restless: Vec<AppId> =
            if meddled { self.apps.keys().cloned().collect() } else { self.restless.iter().cloned().collect() };
        for id in &restless {
            let Some(app) = self.apps.get_mut(id) else { continue };
            app.pending.sort_unstable();
            while let Some((at, online)) = app.pending.first().copied().filter(|(at, _)| *at <= now) {
                app.pending.remove(0);
                if app.online() != online {
                    app.history.push_back((at, online));
                }
            }
            let revive =
                self.config.faults.revive.iter().find(|revive| revive.app.as_ref().is_none_or(|only| only == id));
            let (since, online) = app.newest();
            if let Some(revive) = revive
                && !online
                && now.duration_since(since) >= jiff::SignedDuration::try_from(revive.every).unwrap_or_default()
            {
                app.revived = Some(now);
                app.history.push_back((now, true));
            }
            while app.history.len() > 16 {
                app.history.pop_front();
            }
            if app.pending.is_empty() {
                self.restless.remove(id);
            }
        }
    }

    /// The first rule that fits.
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

    /// What it was at `moment`, and since when.
    fn at(&self, moment: Timestamp) -> (Timestamp, bool) {
        let known = self.history.iter().rev().find(|(since, _)| *since <= moment);
        known.or_else(|| self.history.front()).copied().unwrap_or((Timestamp::UNIX_EPOCH, false))
    }
}

/// A number from 0 to 1 (splitmix64).
fn throw(dice: &mut u64) -> f64 {
    *dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *dice;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    f64::from(u32::try_from(z >> 32).unwrap_or(u32::MAX)) / (f64::from(u32::MAX) + 1.0)
}

/// Which endpoint is meant. Doubled slashes are tolerated: the Python SDK's default base URL makes `/v1//apps`.
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

/// Stands for the name of the item that is to be broken.
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

/// The account: its fields bare, as in the vendor's `OpenAPI` file, and below `user`, where the vendor's Python SDK looks
/// for them.
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

/// An HTTP date; empty where the year cannot be written.
fn http_date(now: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap_or_default()
}
