//! The server's JSON in the core's words.
//!
//! Tolerant of fields that are not needed (they differ between the versions of the vendor, and no schema has a
//! `required` list), strict on those that decide: `online` counts only as a JSON boolean. The rest of a body, with its
//! environment variables and invite codes, is dropped.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::json::{self, Broken, NoPage, Pick};
use crate::platform::listing::MAX_ITEMS;
use crate::platform::{MAX_PROBLEMS, Page, Pagination, Seen};
use crate::reconcile::app::AppId;
use crate::reconcile::reading::Reading;
use crate::reconcile::redacted::{Redacted, Secrets};
use crate::reconcile::state::Observed;

/// The longest word of the server (`status`, `name`), in characters; a longer one is cut.
const MAX_WORD: usize = 64;
/// The longest message of an error body, in characters; a longer one is cut.
const MAX_MESSAGE: usize = 200;

/// The fault of a body that is not the requested one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Odd {
    #[error("an empty body")]
    Empty,
    /// The page of a proxy or a portal in place of the API.
    #[error("an HTML page instead of JSON")]
    Html,
    /// Not JSON from this byte on (the first is 1), or cut there.
    #[error("a body that is not JSON at byte {0}")]
    NotJson(usize),
    #[error("JSON of an unexpected shape ({0})")]
    Shape(&'static str),
    #[error("a compressed body that cannot be unpacked")]
    Packed,
    #[error("a compressed body of more than {0} KiB")]
    TooLarge(usize),
}

impl From<Broken> for Odd {
    fn from(broken: Broken) -> Self {
        Self::NotJson(broken.at + 1)
    }
}

/// The app in a response to get, stop, start or restart.
pub fn app(body: &[u8], secrets: &Secrets) -> Result<Seen, Odd> {
    let (value, _) = json::value(text(body)?, Pick::App)?;
    app_of(&value, secrets)
}

fn app_of(value: &Value, secrets: &Secrets) -> Result<Seen, Odd> {
    let fields = value.as_object().ok_or(Odd::Shape("not an object"))?;
    seen(fields, secrets).ok_or(Odd::Shape("an app without a usable _id"))
}

/// One page of the list: `{"applications": [..], "pagination": {..}}` (v2, both SDKs) or a bare array (v1 documents).
/// The v2 file has `pagination` inside each item; both places are read.
pub fn page(body: &[u8], secrets: &Secrets) -> Result<Page, Odd> {
    let mut page = Page::default();
    let (mut number, mut nested) = (0_usize, None);
    let mut problems = Vec::new();
    let beside = json::page(text(body)?, &mut |item| {
        number += 1;
        if number > MAX_ITEMS {
            page.cut = true;
            return;
        }
        if let Some(fields) = item.as_ref().ok().and_then(Value::as_object) {
            nested = nested.or_else(|| fields.get("pagination").and_then(pagination));
            if let Some(seen) = seen(fields, secrets) {
                page.apps.push(seen);
                return;
            }
        }
        page.unreadable += 1;
        if problems.len() < MAX_PROBLEMS {
            problems.push(problem(number, item, secrets));
        }
    })
    .map_err(|why| match why {
        NoPage::Broken(broken) => broken.into(),
        NoPage::Shape(shape) => Odd::Shape(shape),
    })?;
    let mut note = |what: &str, at: usize| problems.push(secrets.redact(&format!("{what} at byte {}", at + 1)));
    if let Some(Broken { at }) = beside.broken {
        note("what follows the items is not JSON", at);
    }
    if let Some(at) = beside.odd {
        note("a number is not JSON", at);
    }
    page.problems = problems;
    page.pagination = beside.pagination.as_ref().and_then(pagination).or(nested);
    Ok(page)
}

/// A message about an item that cannot be read.
fn problem(number: usize, item: Result<Value, Broken>, secrets: &Secrets) -> Redacted {
    let text = match item {
        Err(Broken { at }) => format!("item {number} is not JSON at byte {}", at + 1),
        Ok(Value::Object(fields)) => {
            let name = fields.get("name").and_then(Value::as_str).map(|name| format!(" ({:?})", word(name, secrets)));
            format!("item {number}{} has no usable _id", name.unwrap_or_default())
        }
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            format!("item {number} is not an object")
        }
    };
    secrets.redact(&text)
}

/// The message of an error body, on one line, redacted and then cut: `{"error": ".."}` (documented), `{"message":
/// ".."}` or a bare string (seen in practice).
pub fn message(body: &[u8], secrets: &Secrets) -> Option<Redacted> {
    let (value, _) = json::value(text(body).ok()?, Pick::Message).ok()?;
    let text = value.as_str().or_else(|| value.get("error")?.as_str()).or_else(|| value.get("message")?.as_str())?;
    secrets.redact(text).line(MAX_MESSAGE)
}

pub fn is_html(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'<')
}

/// The JSON of a body, without the byte order mark that some servers send.
fn text(body: &[u8]) -> Result<&[u8], Odd> {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    match text.trim_ascii_start().first() {
        None => Err(Odd::Empty),
        Some(b'<') => Err(Odd::Html),
        Some(_) => Ok(text),
    }
}

fn seen(fields: &Map<String, Value>, secrets: &Secrets) -> Option<Seen> {
    // Ids are shown as they are, so a text that holds a token cannot be one.
    let id: AppId = fields.get("_id")?.as_str().filter(|id| !secrets.are_in(id))?.parse().ok()?;
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let word = |key: &str| text(key).map(|text| word(text, secrets));
    let metrics = fields.get("currentResourceMetrics").unwrap_or(&Value::Null);
    let online = metrics.get("online").and_then(Value::as_bool);
    let time = |key: &str| metrics.get(key).and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
    let taken_at = time("timestamp");
    let uptime = metrics.get("uptime").and_then(seconds);
    let by_uptime = taken_at.zip(uptime).and_then(|(taken, uptime)| taken.checked_sub(uptime).ok());
    let running_since = time("startedAt").or(by_uptime);
    let restart_required = fields.get("restartRequired").and_then(Value::as_bool);
    // The decision needs the original word; only the redacted one is kept.
    let observed = observed(text("status"), metrics);
    let memory_mb = fields.get("allocatedMemoryMB").and_then(Value::as_u64).and_then(|memory| memory.try_into().ok());
    let reading = Reading { observed, status: word("status"), online, taken_at, running_since, restart_required };
    Some(Seen { id, name: word("name"), reading, memory_mb })
}

/// The state of an app: `online` decides whether it runs. `status` is a lifecycle word (`active`, `creating`,
/// `suspended`) and only explains why an app is not online.
///
/// Null or missing metrics mean offline, as other integrations read them, but only beside `active`: with an unknown
/// word the state is unknown.
fn observed(status: Option<&str>, metrics: &Value) -> Observed {
    let online = match metrics {
        Value::Null => Some(None),
        Value::Object(fields) => fields.get("online").and_then(Value::as_bool).map(Some),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
    };
    match (online, status) {
        (Some(Some(true)), _) => Observed::Running,
        (_, Some("creating")) => Observed::Creating,
        (_, Some("suspended")) => Observed::Suspended,
        (Some(Some(false)), _) | (Some(None), Some("active")) => Observed::Stopped,
        (Some(None) | None, _) => Observed::Unknown,
    }
}

fn word(text: &str, secrets: &Secrets) -> Redacted {
    secrets.redact(text).line(MAX_WORD).unwrap_or_else(|| Redacted::from(""))
}

/// `None` if it is not an object.
fn pagination(value: &Value) -> Option<Pagination> {
    let fields = value.as_object()?;
    let number = |key: &str| fields.get(key).and_then(whole);
    Some(Pagination {
        total_items: number("totalItems"),
        total_pages: number("totalPages"),
        has_next_page: fields.get("hasNextPage").and_then(truth),
    })
}

/// A length of time in seconds, also as text.
fn seconds(value: &Value) -> Option<SignedDuration> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    SignedDuration::try_from_secs_f64(number).ok().filter(|length| !length.is_negative())
}

/// A count, also as `45.0` or `"45"`: without the count, a list could look complete.
fn whole(value: &Value) -> Option<u64> {
    let text = |text: &str| text.trim().parse().ok();
    // Exact below 2^53; no list is as long.
    let float = |number: f64| (number.fract() == 0.0).then(|| format!("{number:.0}")).as_deref().and_then(text);
    value.as_u64().or_else(|| value.as_f64().and_then(float)).or_else(|| value.as_str().and_then(text))
}

/// A boolean, also as `"true"` or `1`.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
        Value::Number(_) => whole(value).filter(|number| *number < 2).map(|number| number == 1),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::reconcile::redacted::Token;

    static NONE: LazyLock<Secrets> = LazyLock::new(Secrets::default);

    #[track_caller]
    fn case(status: &str, metrics: &str, expected: Observed) {
        let body = format!(r#"{{"_id":"a1",{status}"name":"x","teamId":null{metrics}}}"#);
        assert_eq!(app(body.as_bytes(), &NONE).unwrap().reading.observed, expected, "{body}");
    }

    #[test]
    fn online_decides_and_status_does_not() {
        let with = |metrics: &str| format!(r#","currentResourceMetrics":{metrics}"#);
        for status in ["active", "stopped", "running", "offline", "zzz", ""] {
            let status = format!(r#""status":"{status}","#);
            case(&status, &with(r#"{"online":true}"#), Observed::Running);
            case(&status, &with(r#"{"online":false}"#), Observed::Stopped);
        }
        case("", &with(r#"{"online":true}"#), Observed::Running);
        case("", &with(r#"{"online":false}"#), Observed::Stopped);
        let (active, creating) = (r#""status":"active","#, r#""status":"creating","#);
        let (suspended, unknown) = (r#""status":"suspended","#, r#""status":"hibernating","#);
        case(active, &with("null"), Observed::Stopped);
        case(active, "", Observed::Stopped);
        case(unknown, &with("null"), Observed::Unknown);
        case("", "", Observed::Unknown);
        case(creating, "", Observed::Creating);
        case(creating, &with(r#"{"online":false}"#), Observed::Creating);
        case(suspended, &with("null"), Observed::Suspended);
        case(suspended, &with(r#"{"online":false}"#), Observed::Suspended);
        // Strict on deciding fields: a metrics object without a boolean `online` proves nothing.
        case(active, &with("{}"), Observed::Unknown);
        case(active, &with(r#"{"online":null}"#), Observed::Unknown);
        case(active, &with(r#"{"online":"false"}"#), Observed::Unknown);
        case(active, &with(r#"{"online":0}"#), Observed::Unknown);
        case(active, &with(r#""offline""#), Observed::Unknown);
    }

    #[test]
    fn a_reading_keeps_its_words_and_its_time() {
        let body = br#"{"_id":"60c72b2f9b1e8d001c8e4f3a","name":"My App","status":"active","teamId":{"_id":"t"},
            "currentResourceMetrics":{"online":true,"timestamp":"2026-07-19T17:57:05.069Z"},
            "environmentVariables":[{"key":"K","value":"V"}]}"#;
        let seen = app(body, &NONE).unwrap();
        assert_eq!(seen.id.as_str(), "60c72b2f9b1e8d001c8e4f3a");
        assert_eq!(seen.name.as_deref(), Some("My App"));
        assert_eq!(seen.reading.status.as_deref(), Some("active"));
        assert_eq!(seen.reading.online, Some(true));
        assert_eq!(seen.reading.taken_at, Some("2026-07-19T17:57:05.069Z".parse().unwrap()));
    }

    #[test]
    fn the_start_of_an_app_is_that_of_the_server_or_computed_from_its_uptime() {
        let since = |fields: &str| {
            let metrics =
                format!(r#""currentResourceMetrics":{{"online":true,"timestamp":"2026-07-19T18:00:00Z"{fields}}}"#);
            let body = format!(r#"{{"_id":"a1","restartRequired":true,{metrics}}}"#);
            let reading = app(body.as_bytes(), &NONE).unwrap().reading;
            assert_eq!(reading.restart_required, Some(true));
            reading.running_since.map(|since| since.to_string())
        };
        let (started, computed) = (Some("2026-07-19T12:00:00Z".to_owned()), Some("2026-07-19T17:00:00Z".to_owned()));
        assert_eq!(since(r#","uptime":3600,"startedAt":"2026-07-19T12:00:00Z""#), started);
        for uptime in
            [r#","uptime":3600"#, r#","uptime":"3600","startedAt":null"#, r#","uptime":3600.0,"startedAt":"soon""#]
        {
            assert_eq!(since(uptime), computed, "{uptime}");
        }
        for unknown in ["", r#","uptime":null"#, r#","uptime":-1"#, r#","uptime":"long""#, r#","uptime":1e300"#] {
            assert_eq!(since(unknown), None, "{unknown}");
        }
        let body = br#"{"_id":"a1","restartRequired":"true","currentResourceMetrics":{"online":true,"uptime":5}}"#;
        let reading = app(body, &NONE).unwrap().reading;
        // A field that causes a call counts only as a JSON boolean; an uptime without the time of the metrics proves
        // nothing.
        assert_eq!((reading.restart_required, reading.running_since), (None, None));
    }

    #[test]
    fn both_documented_lists_are_read_and_odd_items_counted() {
        let v2 = page(
            br#"{"applications":[{"_id":"a"},{"_id":7},{}],"totalUsedRAM":"1","pagination":
            {"totalItems":12,"totalPages":2,"currentPage":1,"itemsPerPage":10,"hasNextPage":true}}"#,
            &NONE,
        )
        .unwrap();
        assert_eq!((v2.apps.len(), v2.unreadable), (1, 2));
        let pagination = v2.pagination.unwrap();
        assert_eq!((pagination.total_items, pagination.has_next_page), (Some(12), Some(true)));

        let nested = page(br#"{"applications":[{"_id":"a","pagination":{"totalItems":1}}]}"#, &NONE).unwrap();
        assert_eq!(nested.pagination.unwrap().total_items, Some(1));

        let v1 = page(br#"[{"_id":"a"},{"_id":"b"}]"#, &NONE).unwrap();
        assert_eq!((v1.apps.len(), v1.pagination), (2, None));
    }

    #[test]
    fn decisions_use_the_original_word_and_the_kept_one_is_redacted() {
        let token = "creating";
        let secrets = Secrets::from_iter([Token::new(secrecy::SecretString::from(token))]);
        let body = format!(r#"{{"_id":"a1","name":"x{token}","status":"{token}"}}"#);
        let seen = app(body.as_bytes(), &secrets).unwrap();
        assert_eq!(seen.reading.observed, Observed::Creating);
        assert_eq!((seen.reading.status.as_deref(), seen.name.as_deref()), (Some("***"), Some("x***")));
        // An id is shown wherever its app is.
        assert!(matches!(app(br#"{"_id":"1-creating"}"#, &secrets), Err(Odd::Shape(_))));
        // A character that does not show itself hides no token.
        let split = app(br#"{"_id":"a1","status":"crea\u0001ting"}"#, &secrets).unwrap();
        assert_eq!((split.reading.status.as_deref(), split.reading.observed), (Some("***"), Observed::Unknown));
        let cut = format!(r#"{{"error":"{}{token}"}}"#, "x".repeat(195));
        assert_eq!(message(cut.as_bytes(), &secrets).as_deref(), Some(&*format!("{}***", "x".repeat(195))));
    }

    #[test]
    fn counts_and_signs_of_more_are_read_in_every_form() {
        let of = |text: &str| pagination(&serde_json::from_str(text).unwrap()).unwrap();
        for total in ["45", "45.0", "4.5e1", r#""45""#, r#"" 45 ""#] {
            assert_eq!(of(&format!(r#"{{"totalItems":{total}}}"#)).total_items, Some(45), "{total}");
        }
        for none in ["null", "-1", "45.5", "true", r#""many""#, "[45]"] {
            assert_eq!(of(&format!(r#"{{"totalItems":{none}}}"#)).total_items, None, "{none}");
        }
        let next = |text: &str| of(&format!(r#"{{"hasNextPage":{text}}}"#)).has_next_page;
        assert_eq!(["true", r#""true""#, r#""True""#, "1"].map(next), [Some(true); 4]);
        assert_eq!(["false", r#""false""#, "0"].map(next), [Some(false); 3]);
        assert_eq!(["null", "2", r#""perhaps""#, "[]"].map(next), [None; 4]);
    }

    #[test]
    fn the_fault_of_an_item_is_noted_with_its_place() {
        let body =
            br#"{"applications":[{"_id":"a"},{"name":"x\ty"},7,{"_id":b},{"_id":"c","cpu":NaN}],"pagination":{}}"#;
        let read = page(body, &NONE).unwrap();
        assert_eq!((read.apps.len(), read.unreadable), (2, 3));
        let problems: Vec<&str> = read.problems.iter().map(|problem| &**problem).collect();
        insta::assert_snapshot!(problems.join("\n"), @r#"
        item 2 ("x y") has no usable _id
        item 3 is not an object
        item 4 is not JSON at byte 55
        a number is not JSON at byte 75
        "#);
        assert_eq!(page(b"[NaN, x", &NONE), Err(Odd::NotJson(7)));
        assert_eq!(Odd::NotJson(7).to_string(), "a body that is not JSON at byte 7");
    }

    #[test]
    fn a_byte_order_mark_is_ignored() {
        let marked = [&b"\xef\xbb\xbf"[..], br#"[{"_id":"a"}]"#].concat();
        assert_eq!(page(&marked, &NONE).unwrap().apps.len(), 1);
        assert_eq!(app(&marked[3..], &NONE), Err(Odd::Shape("not an object")));
        assert_eq!(app(b"\xef\xbb\xbf", &NONE), Err(Odd::Empty));
    }

    #[test]
    fn a_body_that_is_not_a_response_is_named() {
        assert_eq!(app(b"", &NONE), Err(Odd::Empty));
        assert_eq!(app(b"  <!doctype html>", &NONE), Err(Odd::Html));
        assert_eq!(app(br#"{"_id":"a""#, &NONE), Err(Odd::NotJson(11)));
        assert!(matches!(app(b"[]", &NONE), Err(Odd::Shape(_))));
        assert!(matches!(app(br#"{"_id":"../x"}"#, &NONE), Err(Odd::Shape(_))));
        assert!(matches!(page(br#"{"apps":[]}"#, &NONE), Err(Odd::Shape(_))));
    }

    #[test]
    fn only_the_message_of_an_error_body_is_kept() {
        assert_eq!(message(br#"{"error":"Not found","x":"secret"}"#, &NONE).as_deref(), Some("Not found"));
        assert_eq!(message(br#"{"message":"a\nb"}"#, &NONE).as_deref(), Some("a b"));
        assert_eq!(message(br#""plain""#, &NONE).as_deref(), Some("plain"));
        assert_eq!(message(b"<html>", &NONE), None);
        assert_eq!(message(br#"{"detail":"x"}"#, &NONE), None);
    }

    /// The content of a page, read from its whole JSON.
    fn page_of(value: &Value) -> Result<(Vec<Seen>, u32, Option<Pagination>), Odd> {
        let (items, own) = match value {
            Value::Array(items) => (items, None),
            Value::Object(fields) => match fields.get("applications") {
                Some(Value::Array(items)) => (items, fields.get("pagination").and_then(pagination)),
                _ => return Err(Odd::Shape("an object without an applications array")),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                return Err(Odd::Shape("neither an array nor an object"));
            }
        };
        let apps: Vec<Seen> = items.iter().filter_map(|item| seen(item.as_object()?, &NONE)).collect();
        let nested = || items.iter().find_map(|item| pagination(item.get("pagination")?));
        Ok((apps.clone(), u32::try_from(items.len() - apps.len()).unwrap(), own.or_else(nested)))
    }

    /// JSON of any shape.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i16>().prop_map(Value::from),
            "active|a1|[a-z]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            let fields = prop::collection::btree_map("_id|online|pagination|env", inner.clone(), 0..4);
            let object = fields.prop_map(|fields| Value::Object(fields.into_iter().collect()));
            prop_oneof![prop::collection::vec(inner, 0..4).prop_map(Value::from), object]
        })
    }

    /// An object with some of these fields, each mostly as documented and otherwise of any shape.
    fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
        let field = |(key, usual): (&'static str, BoxedStrategy<Value>)| {
            let value = prop_oneof![6 => usual.prop_map(Some), 2 => any_json().prop_map(Some), 1 => Just(None)];
            value.prop_map(move |value| value.map(|value| (key.to_owned(), value)))
        };
        let fields: Vec<_> = fields.into_iter().map(field).collect();
        fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect())).boxed()
    }

    fn any_app() -> BoxedStrategy<Value> {
        let text = |pattern: &'static str| pattern.prop_map(Value::from).boxed();
        let number = || any::<u8>().prop_map(Value::from).boxed();
        let metrics = object(vec![
            ("online", any::<bool>().prop_map(Value::from).boxed()),
            ("timestamp", text("2025-07-19T17:57:0[0-9]Z")),
            ("cpuUsagePercent", number()),
        ]);
        object(vec![
            ("_id", text("[a-z0-9]{1,3}")),
            ("status", text("active|creating|suspended|odd")),
            ("name", text("[a-z ]{0,5}")),
            ("allocatedMemoryMB", number()),
            ("currentResourceMetrics", metrics),
            ("pagination", object(vec![("totalItems", number())])),
            ("environmentVariables", any_json().boxed()),
        ])
    }

    proptest! {
        /// The reader drops only fields that would not have been used.
        #[test]
        fn the_kept_fields_read_like_the_whole(
            app_said in any_app(),
            page_said in object(vec![
                ("applications", prop::collection::vec(any_app(), 0..3).prop_map(Value::from).boxed()),
                ("pagination", any_json().boxed()),
                ("totalUsedRAM", any_json().boxed()),
            ]),
            odd in any_json(),
        ) {
            for value in [Value::from(vec![app_said.clone()]), app_said, page_said, odd] {
                let body = value.to_string();
                prop_assert_eq!(app(body.as_bytes(), &NONE), app_of(&value, &NONE));
                prop_assert_eq!(page(body.as_bytes(), &NONE).map(|page| (page.apps, page.unreadable, page.pagination)), page_of(&value));
            }
        }

        /// A change of one byte of one app's name does not change the reading of any other app.
        #[test]
        fn a_byte_of_a_name_hides_no_other_app(
            names in prop::collection::vec(r#"[a-z0-9 ,:\[\]{}"\\\\é-]{1,12}"#, 2..6), broken in any::<prop::sample::Index>(),
            place in any::<prop::sample::Index>(), byte in any::<u8>(), bare in any::<bool>(),
        ) {
            let item = |(number, name): (usize, &String)| serde_json::json!({
                "_id": format!("id-{number}"), "name": name, "status": "active",
                "teamId": {"members": [{"_id": "m1", "x": {}}, {"_id": "m2"}, {"_id": "m3"}]}, "githubDeploys": [],
                "currentResourceMetrics": {"online": number % 2 == 0, "cpu": 0.5},
            }).to_string().replace(r#","name":"#, r#", "name" : "#);
            let items: Vec<String> = names.iter().enumerate().map(item).collect();
            let broken = broken.index(items.len());
            let mut page_said: Vec<u8> = if bare { b"[".to_vec() } else { br#"{"applications":["#.to_vec() };
            for (number, item) in items.iter().enumerate() {
                let mut item = item.clone().into_bytes();
                if number == broken {
                    let quoted = Value::from(names[number].as_str()).to_string();
                    let start = item.windows(9).position(|part| part == b"\"name\" : ").unwrap() + 9;
                    // The quotation marks around it, too.
                    item[start + place.index(quoted.len())] = byte;
                }
                if number > 0 {
                    page_said.extend(b", ");
                }
                page_said.extend(item);
            }
            page_said.extend::<&[u8]>(if bare { b"]" } else { br#"],"totalUsedRAM":"1","pagination":{"totalItems":9}}"# });
            let read = page(&page_said, &NONE).unwrap();
            let whole = page(format!("[{}]", items.join(",")).as_bytes(), &NONE).unwrap();
            for (number, seen) in whole.apps.iter().enumerate().filter(|(number, _)| *number != broken) {
                prop_assert!(read.apps.contains(seen), "{number} of {}", String::from_utf8_lossy(&page_said));
            }
            // No part of an item counts as an item. A name that resembles the end of an item may leave a rest that
            // cannot be read.
            prop_assert!(read.apps.iter().all(|seen| seen.id.as_str().starts_with("id-")));
            prop_assert!(read.apps.len() + read.unreadable as usize >= names.len(), "{}", String::from_utf8_lossy(&page_said));
            prop_assert_eq!(read.pagination.is_some(), !bare);
        }

        #[test]
        fn reading_never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (app(&body, &NONE), page(&body, &NONE), message(&body, &NONE));
        }

        #[test]
        fn an_unknown_state_is_never_stopped(online in "\"[a-z]{0,6}\"|[1-9][0-9]{0,2}|\\[\\]|\\{\\}|null", status in "[a-z]{0,9}") {
            let body = format!(r#"{{"_id":"a","status":"{status}","currentResourceMetrics":{{"online":{online}}}}}"#);
            let observed = app(body.as_bytes(), &NONE).unwrap().reading.observed;
            prop_assert!(!matches!(observed, Observed::Stopped | Observed::Running));
        }
    }
}
