//! Typical errors, and their messages. Test only: the snapshot is the catalogue of errors.

use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;

use super::diagnostic::Diagnostic;
use super::load::{Content, ParsedFile, disagreement, parse};
use crate::reconcile::app::AppName;

const GOOD: &str = "\
apiVersion: campos-operator.dev/v1
kind: App
metadata:
  name: ticket-bot
  labels: {team: support}
spec:
  appId: 60c72b2f9b1e8d001c8e4f3a
  state: Stopped
";

fn read(text: &[u8]) -> ParsedFile {
    parse(&Arc::from("bots.yaml"), text)
}

/// The good manifest with one thing replaced.
#[track_caller]
fn with(what: &str, by: &str) -> Vec<u8> {
    assert!(GOOD.contains(what), "{what:?} is not in the good manifest");
    GOOD.replacen(what, by, 1).into_bytes()
}

/// The good manifest with more lines in `spec`.
fn spec(more: &str) -> Vec<u8> {
    format!("{GOOD}{more}").into_bytes()
}

/// The good manifest with one window.
fn window(fields: &str) -> Vec<u8> {
    spec(&format!("  schedule:\n    timeZone: UTC\n    windows:\n      - {{state: Running, {fields}}}\n"))
}

type Mistake = (&'static str, Vec<u8>);

fn mistakes() -> Vec<Mistake> {
    [first_mistakes(), more_mistakes(), last_mistakes()].concat()
}

fn first_mistakes() -> Vec<Mistake> {
    let bracket_bomb = format!("{GOOD}status: {}{}\n", "[".repeat(80), "]".repeat(80));
    let aliases = format!("{GOOD}status:\n  a: &a x\n  b: [{}]\n", vec!["*a"; 101].join(", "));
    vec![
        ("wrong case of a value", with("Stopped", "stopped")),
        ("a word that YAML 1.1 reads as a boolean", with("Stopped", "off")),
        ("another such word", with("Stopped", "no")),
        ("a quoted state with a blank", with("Stopped", "\"Stopped \"")),
        ("a word nobody knows", with("Stopped", "Hibernated")),
        ("a state without a value", with("Stopped", "")),
        ("a tab", with("  state", "\tstate")),
        ("a typo in a field", with("state:", "sate:")),
        ("wrong case of a field", with("appId:", "appid:")),
        ("an unknown field in metadata", with("  labels:", "  owner: x\n  labels:")),
        ("a field at the wrong level", with("metadata:\n", "name: ticket-bot\nmetadata:\n")),
        ("a missing field", with("  appId: 60c72b2f9b1e8d001c8e4f3a\n", "")),
        ("a missing spec", with("spec:\n  appId: 60c72b2f9b1e8d001c8e4f3a\n  state: Stopped\n", "")),
        ("the wrong kind", with("kind: App", "kind: Deployment")),
        ("the kind in the wrong case", with("kind: App", "kind: app")),
        ("the wrong apiVersion", with("operator.dev/v1", "operator.dev/v2")),
        ("a duplicate key", spec("  state: Running\n")),
        ("a duplicate label", with("{team: support}", "{team: support, team: games}")),
        ("an unquoted number as an id", with("60c72b2f9b1e8d001c8e4f3a", "123456789012345678901234")),
        ("an id that YAML reads as a power of ten", with("60c72b2f9b1e8d001c8e4f3a", "60e123456789012345678901")),
        ("a hexadecimal id", with("60c72b2f9b1e8d001c8e4f3a", "0x60c72b2f")),
        ("an id with underscores", with("60c72b2f9b1e8d001c8e4f3a", "1_000")),
        ("an id with a slash", with("60c72b2f9b1e8d001c8e4f3a", "../users/@me")),
        ("a label that is a number", with("{team: support}", "{tier: 1}")),
        ("a label that is a boolean", with("{team: support}", "{beta: yes}")),
        ("a label that is a map", with("{team: support}", "{team: {name: support}}")),
        ("a name with capitals and blanks", with("name: ticket-bot", "name: Ticket Bot")),
        ("an unknown policy", spec("  policy: stop-only\n")),
        ("suspend as a YAML 1.1 boolean", spec("  suspend: yes\n")),
        ("suspend as text", spec("  suspend: \"true\"\n")),
        ("suspend with a typo", spec("  suspend: {reson: maintenance}\n")),
        ("a date without a zone", spec("  suspend: {until: \"2026-12-24T02:00:00\"}\n")),
        ("a date that does not exist", spec("  suspend: {until: 2026-02-30T02:00:00Z}\n")),
        ("a schedule without a zone", spec("  schedule:\n    windows: [{state: Stopped, from: \"22:00\", to: \"06:00\"}]\n")),
        ("an unknown zone", spec("  schedule: {timeZone: Sao Paulo, windows: []}\n")),
        ("windows that are no list", spec("  schedule:\n    timeZone: UTC\n    windows: {state: Stopped}\n")),
        ("a window without an end", window("from: \"22:00\"")),
        ("a window of no length", window("from: \"22:00\", to: \"22:00\"")),
        ("a window that ends before it begins", window("from: \"2026-12-24T02:00\", to: \"2026-12-23T22:00\"")),
        ("an unquoted time", window("from: 22:00, to: \"06:00\"")),
        ("a time of day that there is not", window("from: \"22:00\", to: \"24:00\"")),
        ("an unknown day", window("from: \"Friday 21:00\", to: \"Mon 06:00\"")),
        ("an unknown day in a range", window("from: \"22:00\", to: \"06:00\", days: Mon-Thur")),
        ("days of a weekly window", window("from: \"Fri 21:00\", to: \"Mon 06:00\", days: Fri")),
        ("two forms in one window", window("from: \"22:00\", to: \"Mon 06:00\"")),
        ("a time with an offset", window("from: \"2026-12-23T22:00:00-03:00\"")),
        ("a date without a time", window("from: \"2026-12-23\"")),
        ("a date that there is not", window("from: \"2026-02-30T22:00:00\"")),
        ("a cron pattern of four fields", window("cron: \"0 12 * *\", duration: 1h")),
        ("a cron window without a length", window("cron: \"0 12 * * 1-5\"")),
        ("a cron window and an end", window("cron: \"0 12 * * 1-5\", to: \"13:00\", duration: 1h")),
        ("a length without a unit", window("cron: \"0 12 * * 1-5\", duration: \"60\"")),
        ("a window longer than a week", window("cron: \"0 12 * * 1-5\", duration: 169h")),
        ("a window that never begins", window("cron: \"0 12 30 2 *\", duration: 1h")),
        ("a typo in a window", window("form: \"22:00\", to: \"06:00\"")),
        ("two spaces too many", with("  state", "    state")),
        ("two spaces too few", with("  state", "state")),
        ("an unquoted colon", spec("  suspend:\n    reason: release night: no changes\n")),
        ("an unclosed quote", with("name: ticket-bot", "name: \"ticket-bot")),
        ("an unclosed bracket", with("{team: support}", "{team: support")),
        ("a merge key", with("  appId", "  <<: {state: Running}\n  appId")),
        ("an unknown anchor", with("Stopped", "*standard")),
        ("an alias to itself", spec("status: &a [*a]\n")),
        ("a tag", with("Stopped", "!!str Stopped")),
        ("a list at the top", b"- apiVersion: campos-operator.dev/v1\n  kind: App\n".to_vec()),
        ("a List without a list", b"apiVersion: v1\nkind: List\nitems: 5\n".to_vec()),
        ("another kind", b"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 1}\n".to_vec()),
        ("a file of another tool", b"services:\n  db:\n    image: postgres\n".to_vec()),
        ("a text at the top", b"hello\n".to_vec()),
        ("JSON with a number as its id", br#"{"apiVersion": "campos-operator.dev/v1", "kind": "App", "metadata": {"name": "a"}, "spec": {"appId": 5, "state": "Stopped"}}"#.to_vec()),
        ("several mistakes", b"apiVersion: campos-operator.dev/v1\nkind: App\nmetadata:\n  nam: a\nspec:\n  appId: 12\n  state: stop\n  restart: always\n".to_vec()),
        ("an error in the second document", format!("{GOOD}---\n{}", GOOD.replace("state", "sate")).into_bytes()),
        ("deep nesting", bracket_bomb.into_bytes()),
        ("an alias bomb", aliases.into_bytes()),
        ("a NUL", with("support", "sup\0port")),
        ("an escape sequence", with("support", "\x1b[2J")),
        ("UTF-16", GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("not UTF-8", [GOOD.as_bytes(), b"# caf\xe9\n"].concat()),
        ("an old line ending", GOOD.replace('\n', "\r").into_bytes()),
        ("a file that is too large", [GOOD.as_bytes(), "# padding\n".repeat(30_000).as_bytes()].concat()),
    ]
}

fn more_mistakes() -> Vec<Mistake> {
    vec![
        ("a no-break space in the indentation", with("  appId", "\u{a0} appId")),
        ("a no-break space after a colon", with("state: ", "state:\u{a0}")),
        ("a no-break space at the end", with("Stopped", "Stopped\u{a0}")),
        ("a zero-width space", with("Stopped", "Stopped\u{200b}")),
        ("no space after a colon", with("state: ", "state:")),
        ("no space after the colon of the kind", with("kind: ", "kind:")),
        (
            "merge conflict markers",
            with("  state: Stopped\n", "<<<<<<< HEAD\n  state: Stopped\n=======\n  state: Running\n>>>>>>> feature\n"),
        ),
        ("a Helm template", with("name: ticket-bot", "name: {{ .Values.name }}")),
        ("a quoted Helm template", with("60c72b2f9b1e8d001c8e4f3a", "\"{{ .Values.appId }}\"")),
        ("a Helm condition", with("spec:\n", "{{- if .Values.on }}\nspec:\n")),
        ("a Jinja block", with("spec:\n", "{% if on %}\nspec:\n")),
        ("a shell variable", with("60c72b2f9b1e8d001c8e4f3a", "${APP_ID}")),
        ("a SOPS value", with("Stopped", "ENC[AES256_GCM,data:c2VjcmV0,iv:aXY=,tag:dGFn,type:str]")),
        ("a SOPS block", spec("sops:\n  version: 3.9.0\n")),
        ("a file of git-crypt", b"\0GITCRYPT\0\x1b\x07".to_vec()),
        ("a file of age", b"age-encryption.org/v1\n-> X25519 abc\n".to_vec()),
        ("a file of Ansible Vault", b"$ANSIBLE_VAULT;1.1;AES256\n616263\n".to_vec()),
        (
            "JSON with a line comment",
            b"{\n  // the ticket bot\n  \"apiVersion\": \"campos-operator.dev/v1\",\n  \"kind\": \"App\"\n}\n".to_vec(),
        ),
        ("JSON with a block comment", b"{\n  \"kind\": \"App\", /* ours */\n  \"spec\": {}\n}\n".to_vec()),
        ("an apiVersion without a version", with("campos-operator.dev/v1", "campos-operator.dev")),
        ("an apiVersion with a typo", with("campos-operator.dev", "campos-operater.dev")),
        ("the kind in the plural", with("kind: App", "kind: Apps")),
        ("no kind", with("kind: App\n", "")),
        ("no apiVersion", with("apiVersion: campos-operator.dev/v1\n", "")),
        ("neither, but an appId", with("apiVersion: campos-operator.dev/v1\nkind: App\n", "")),
        ("another API with an appId", with("campos-operator.dev/v1", "apps/v1")),
        ("metadata without a value", with("metadata:\n  name: ticket-bot\n  labels: {team: support}\n", "metadata:\n")),
        (
            "metadata as a list",
            with("metadata:\n  name: ticket-bot\n  labels: {team: support}\n", "metadata: [ticket-bot]\n"),
        ),
        ("spec as a text", with("spec:\n  appId: 60c72b2f9b1e8d001c8e4f3a\n  state: Stopped\n", "spec: Stopped\n")),
        ("an empty name", with("name: ticket-bot", "name: \"\"")),
        ("a name with an underscore", with("ticket-bot", "ticket_bot")),
        ("a name that ends in a hyphen", with("ticket-bot", "ticket-")),
        ("a name with a dot", with("ticket-bot", "ticket.bot")),
        ("a name with an accent", with("ticket-bot", "caf\u{e9}")),
        ("a name that YAML reads as a boolean", with("ticket-bot", "on")),
        ("a name of 64 characters", with("ticket-bot", &"a".repeat(64))),
        ("an id with a space", with("60c72b2f9b1e8d001c8e4f3a", "\"60c7 2b2f\"")),
        ("an empty id", with("60c72b2f9b1e8d001c8e4f3a", "\"\"")),
        ("a list of ids", with("60c72b2f9b1e8d001c8e4f3a", "[a, b]")),
        ("labels as a list", with("{team: support}", "[team]")),
        ("labels as a text", with("{team: support}", "support")),
        ("a label without a value", with("{team: support}", "{team: }")),
        ("a state that is a list", with("Stopped", "[Stopped]")),
        ("state: up", with("Stopped", "up")),
        ("state: 1", with("Stopped", "1")),
        ("a field of Kubernetes in spec", spec("  replicas: 1\n")),
        ("a field with an underscore", with("appId:", "app_id:")),
        ("_id instead of appId", with("appId:", "_id:")),
        ("a policy in the wrong case", spec("  policy: full\n")),
        ("policy: none", spec("  policy: none\n")),
        ("suspend without a value", spec("  suspend:\n")),
        ("suspend as an empty map", spec("  suspend: {}\n")),
        ("suspend as a list", spec("  suspend: [true]\n")),
        ("suspend with a reason as text", spec("  suspend: maintenance\n")),
        ("an end that is only a date", spec("  suspend: {until: \"2026-12-24\"}\n")),
        ("an end in words", spec("  suspend: {until: tomorrow}\n")),
        ("an end in another order", spec("  suspend: {until: 24.12.2026}\n")),
        ("a schedule without windows", spec("  schedule: {timeZone: UTC}\n")),
        ("a zone as an offset", spec("  schedule: {timeZone: GMT-3, windows: []}\n")),
        ("a zone as a bare offset", spec("  schedule: {timeZone: \"-03:00\", windows: []}\n")),
        ("a zone as an abbreviation", spec("  schedule: {timeZone: BRT, windows: []}\n")),
        ("an ambiguous abbreviation", spec("  schedule: {timeZone: IST, windows: []}\n")),
        ("a zone in the wrong case", spec("  schedule: {timeZone: europe/berlin, windows: []}\n")),
        (
            "a window without a state",
            spec("  schedule: {timeZone: UTC, windows: [{from: \"22:00\", to: \"06:00\"}]}\n"),
        ),
        ("a window without a beginning", window("to: \"06:00\"")),
        ("a time without a colon", window("from: 2200, to: \"06:00\"")),
        ("a sign in a time", window("from: \"22:-0\", to: \"06:00\"")),
        ("letters of two bytes in a time", window("from: \"m\u{e9}n\", to: \"06:00\"")),
        ("a one-off with an offset and no seconds", window("from: \"2026-12-23T22:00-03\"")),
        ("a one-off with a zone", window("from: \"2026-12-23T22:00[Europe/Paris]\"")),
        ("a length of too many hours", window("cron: \"0 9 * * *\", duration: \"4294967295:59\"")),
        ("a time with one digit", window("from: \"7:00\", to: \"18:00\"")),
        ("a time with am and pm", window("from: \"10pm\", to: \"06:00\"")),
        ("a day in lower case", window("from: \"fri 21:00\", to: \"Mon 06:00\"")),
        ("a day without a time", window("from: \"Fri\", to: \"Mon 06:00\"")),
        ("days as a list with a typo", window("from: \"22:00\", to: \"06:00\", days: [Mon, Wen]")),
        ("days as an empty list", window("from: \"22:00\", to: \"06:00\", days: []")),
        ("a number of days", window("from: \"22:00\", to: \"06:00\", days: 5")),
        ("a duration without cron", window("from: \"22:00\", duration: 8h")),
        ("a duration as a number", window("cron: \"0 12 * * 1-5\", duration: 60")),
        ("a duration in words", window("cron: \"0 12 * * 1-5\", duration: an hour")),
        ("a duration as a time", window("cron: \"0 12 * * 1-5\", duration: \"1:30\"")),
        ("a duration in days", window("cron: \"0 12 * * 1-5\", duration: 2d")),
    ]
}

fn last_mistakes() -> Vec<Mistake> {
    vec![
        ("a duration of nothing", window("cron: \"0 12 * * 1-5\", duration: 0m")),
        ("a cron pattern with seconds", window("cron: \"0 0 12 * * 1-5\", duration: 1h")),
        ("a cron minute out of range", window("cron: \"60 12 * * *\", duration: 1h")),
        ("cron days that go backwards", window("cron: \"0 12 * * FRI-MON\", duration: 1h")),
        ("an unknown cron nickname", window("cron: \"@reboot\", duration: 1h")),
        ("a second document without a marker", format!("{GOOD}{GOOD}").into_bytes()),
        ("a comment that swallows a value", with("Stopped", "# Stopped")),
        ("a document that is only a key", b"apiVersion: campos-operator.dev/v1\n".to_vec()),
        ("an empty file", b"".to_vec()),
        ("schedule and scheduleRef", spec("  schedule: {timeZone: UTC, windows: []}\n  scheduleRef: office\n")),
        ("a scheduleRef that is no name", spec("  scheduleRef: Office Hours\n")),
        ("except in the schedule of an app", spec("  schedule: {timeZone: UTC, windows: [], except: []}\n")),
        ("a state in a Schedule", schedule("  state: Stopped\n")),
        ("a Schedule in the wrong case", with("kind: App", "kind: schedule")),
        ("a calendar on the web", schedule("  except: [{calendar: \"https://x.org/a.ics\", state: Stopped}]\n")),
        ("a calendar outside", schedule("  except: [{calendar: ../a.ics, state: Stopped}]\n")),
        ("an absolute calendar", schedule("  except: [{calendar: /etc/a.ics, state: Stopped}]\n")),
        ("a calendar of another format", schedule("  except: [{calendar: a.csv, state: Stopped}]\n")),
        ("a calendar without a state", schedule("  except: [{calendar: a.ics}]\n")),
        ("an Approval without an end", approval("{plan: 7f3a9c01b2d4}")),
        ("an Approval without a plan", approval("{until: 2026-12-24T02:00:00Z}")),
        ("an Approval of another plan", approval("{plan: 7F3A9C01B2D4, until: 2026-12-24T02:00:00Z}")),
        ("a restart without a time", spec("  restart: {}\n")),
        ("a restart at a local time", spec("  restart: {requestedAt: 2026-12-24T02:00:00}\n")),
        ("a restart on no date", spec("  restart: {cron: \"0 5 30 2 *\"}\n")),
        ("a restart with a bad pattern", spec("  restart: {cron: \"0 25 * * *\"}\n")),
        ("a restart with a word for yes", spec("  restart: {whenRequired: yes}\n")),
        ("a restart with a list for yes", spec("  restart: {whenRequired: [true]}\n")),
        ("a restart with a wrong field", spec("  restart: {at: 2026-12-24T02:00:00Z}\n")),
        ("an Approval with a number", approval("{plan: 123456789012, until: 2026-12-24T02:00:00Z}")),
    ]
}

/// An Approval with a `spec`.
fn approval(spec: &str) -> Vec<u8> {
    format!("apiVersion: campos-operator.dev/v1\nkind: Approval\nmetadata: {{name: sale}}\nspec: {spec}\n").into_bytes()
}

/// A Schedule with more lines in `spec`.
fn schedule(more: &str) -> Vec<u8> {
    let head = "apiVersion: campos-operator.dev/v1\nkind: Schedule\nmetadata: {name: office}\nspec:\n";
    format!("{head}  timeZone: UTC\n  windows: []\n{more}").into_bytes()
}

#[test]
fn every_mistake_is_explained() {
    let mut catalogue = String::new();
    for (title, text) in mistakes() {
        let parsed = read(&text);
        assert!(!parsed.diagnostics.is_empty(), "{title}: nothing was found wrong");
        assert!(!parsed.conclusive || parsed.diagnostics.iter().all(Diagnostic::is_foreign), "{title}");
        let _ = writeln!(catalogue, "## {title}");
        for diagnostic in &parsed.diagnostics {
            catalogue.push_str(&diagnostic.render(false));
        }
        catalogue.push('\n');
    }
    insta::assert_snapshot!("mistakes", catalogue);
}

/// The text that a hint offers for a value: after "write", "did you mean" or "quote it".
fn offered(hint: &str) -> Option<String> {
    let quoted = hint.split('`').nth(1);
    let value = |text: &str| text.split_once(": ").map_or(text, |(_, value)| value).to_owned();
    match hint {
        _ if hint.starts_with("write `") || hint.starts_with("did you mean `") => hint
            .rsplit_once("write `")
            .or_else(|| hint.rsplit_once("did you mean `"))
            .and_then(|(_, rest)| rest.split_once('`'))
            .map(|(text, _)| value(text)),
        _ if hint.starts_with("quote it: ") => Some(hint.trim_start_matches("quote it: ").to_owned()),
        _ if hint.contains("write `") => quoted.map(value),
        _ if hint.starts_with("write a city with this offset") => quoted.map(value),
        _ if hint.ends_with("would do") => quoted.map(value),
        _ => None,
    }
}

proptest! {
    /// The value of a hint is valid.
    #[test]
    fn a_hint_leads_to_a_valid_value(
        (field, value) in prop_oneof![
            (Just("from"), "[0-9]{1,4}|[0-9]{1,2}[:.h][0-9]{1,2}|[0-9]{1,2} ?(am|pm|PM)|[0-9]{1,2}h"),
            (Just("from"), "(Mon|fri|friday|SUNDAY|tues) [0-9]{1,2}:[0-9]{1,2}"),
            (Just("duration"), "[0-9]{1,4}|[0-9]{1,2}:[0-9]{2}|[0-9]{1,3} ?(min|minutes|hours|h|days|d|sec)"),
            (Just("timeZone"), "(UTC|GMT|)[+-](0?[0-9]|1[0-2])(:?[0-9]0)?|BRT|CEST|JST|PST|europe/berlin|Europe/Berln|utc"),
            (Just("days"), "Mon-Thur|mon|Tuesday-fri|Sat, sunday|\\[Mon, wed\\]"),
            (Just("cron"), "0 0 12 \\* \\* 1-5|0 12 \\* \\* (FRI-MON|5-1|SAT-TUE)|0 2[0-3]-[0-6] \\* \\* \\*"),
            (Just("state"), "(stopped|RUNNING|on|off|up|down|Stoped|Runing)"),
            (Just("policy"), "(full|stop-only|observeonly|none)"),
            (Just("name"), "[A-Z][a-z]{1,5} [a-z]{1,5}|[a-z]{1,4}_[a-z]{1,4}|on|no|1_0"),
            (Just("appId"), "[1-9][0-9]{1,20}|0x[0-9a-f]{1,8}|1e[0-9]{1,3}|no"),
            (Just("until"), "2026-12-24|2026-12-24T02:00:00"),
        ]
    ) {
        let (head, tail) = match field {
            "name" | "appId" | "state" | "policy" | "until" => ("", ""),
            "from" if value.starts_with(|c: char| c.is_ascii_alphabetic()) => ("", ", to: \"Wed 06:07\""),
            "from" => ("", ", to: \"06:07\""),
            "days" => ("from: \"22:00\", to: \"06:00\", ", ""),
            "cron" => ("", ", duration: 1h"),
            "duration" => ("cron: \"0 12 * * *\", ", ""),
            _ => ("", ""),
        };
        let text = |value: &str| -> String {
            let zoned = |zone: &str, window: &str| format!("{GOOD}  schedule:\n    timeZone: {zone}\n    windows:\n      - {{state: Running, {window}}}\n");
            match field {
                "name" => GOOD.replace("name: ticket-bot", &format!("name: {value}")),
                "appId" => GOOD.replace("60c72b2f9b1e8d001c8e4f3a", value),
                "state" => GOOD.replace("Stopped", value),
                "policy" => format!("{GOOD}  policy: {value}\n"),
                "until" => format!("{GOOD}  suspend:\n    until: {value}\n"),
                "timeZone" => zoned(value, "from: \"22:00\", to: \"06:00\""),
                _ => zoned("UTC", &format!("{head}{field}: {value}{tail}")),
            }
        };
        // The value, quoted or not.
        let written = if field == "cron" { format!("\"{value}\"") } else { value.clone() };
        let before = read(text(&written).as_bytes());
        if let Some(hint) = before.diagnostics.first().and_then(|first| first.hint.as_deref())
            && let Some(offer) = offered(hint)
        {
            let offer = match (field, &*offer) {
                ("cron", pattern) if !pattern.starts_with('"') => format!("\"{pattern}\""),
                // One day of several is corrected.
                ("days", day) => { let _ = day; return Ok(()); }
                _ => offer,
            };
            let after = read(text(&offer).as_bytes());
            let again = after.diagnostics.iter().find(|again| again.line == before.diagnostics[0].line && again.message.contains(field));
            prop_assert!(again.is_none(), "{field}: {value} -> {offer}: {again:?}");
        }
    }
}

#[test]
fn good_files() {
    let indented = GOOD.replace("  ", "    ");
    let json = "{\n\t\"apiVersion\": \"campos-operator.dev/v1\", \"kind\": \"App\",\n\t\"metadata\": {\"name\": \"a\"},\n\t\"spec\": {\"appId\": \"5\", \"state\": \"Stopped\"}\n}";
    for (title, text, documents) in [
        ("the good one", GOOD.to_owned(), 1),
        ("BOM", format!("\u{feff}{GOOD}"), 1),
        ("CRLF", GOOD.replace('\n', "\r\n"), 1),
        ("four spaces", indented, 1),
        ("no newline at the end", GOOD.trim_end().to_owned(), 1),
        ("comments only", "# nothing here yet\n".to_owned(), 0),
        (
            "several documents, some of them empty",
            format!("---\n# none\n---\n{GOOD}---\n---\n{}...\n", GOOD.replace("ticket", "music")),
            2,
        ),
        ("a YAML directive", format!("%YAML 1.2\n---\n{GOOD}"), 1),
        ("a status", format!("{GOOD}status:\n  conditions: [{{type: Ready}}]\n  observedGeneration: 3\n"), 1),
        ("null labels", GOOD.replace(" {team: support}", ""), 1),
        ("a quoted number", GOOD.replace("60c72b2f9b1e8d001c8e4f3a", "\"123456789012345678901234\""), 1),
        ("suspended", format!("{GOOD}  suspend: true\n"), 1),
        (
            "suspended for a while",
            format!("{GOOD}  suspend: {{reason: \"freeze: none\", until: 2026-12-24T02:00:00-03:00}}\n"),
            1,
        ),
        ("an anchor", GOOD.replace("name: ticket-bot", "name: &n ticket-bot").replace("support", "*n"), 1),
        (
            "every form of a window",
            format!(
                "{GOOD}  schedule:\n    timeZone: America/Sao_Paulo\n    windows:\n      - {{state: Running, from: \"2026-12-23T22:00:00\", to: \"2026-12-24T02:00:00\", reason: release night}}\n      - {{state: Stopped, from: \"2027-01-01T00:00\"}}\n      - {{state: Stopped, from: \"Fri 21:00\", to: \"Mon 06:00\"}}\n      - {{state: Stopped, from: \"22:00\", to: \"06:00\", days: Mon-Thu}}\n      - {{state: Stopped, from: \"22:00:30\", to: \"23:00\", days: \"Sat,Sun\"}}\n      - {{state: Stopped, cron: \"0 12 * * 1-5\", duration: 1h30m}}\n"
            ),
            1,
        ),
        ("a folded reason", format!("{GOOD}  suspend:\n    reason: >-\n      release\n      night\n"), 1),
    ] {
        let parsed = read(text.as_bytes());
        assert_eq!(parsed.diagnostics, [], "{title}");
        assert!(parsed.conclusive, "{title}");
        assert_eq!(parsed.documents.len(), documents, "{title}");
        assert!(parsed.documents.iter().all(|document| matches!(document.content, Content::Good(_))), "{title}");
    }
    let parsed = parse(&Arc::from("bots.json"), json.as_bytes());
    assert_eq!((parsed.documents.len(), parsed.diagnostics), (1, vec![]));
    // Pairs of surrogates, as json.dumps of Python writes them; a single surrogate is no character.
    for (text, meant) in [
        (r"\ud83d\ude00 \\ud83d\u00e9", Some("\u{1f600} \\ud83dé")),
        (r"\\\ud83d\ude00\\", Some("\\\u{1f600}\\")),
        (r"\ude00", None),
        (r"\ud83d", None),
    ] {
        let json =
            json.replace("\"name\": \"a\"", &format!("\"name\": \"a\", \"annotations\": {{\"note\": \"{text}\"}}"));
        let parsed = parse(&Arc::from("bots.json"), json.as_bytes());
        match (&parsed.documents[0].content, meant) {
            (Content::Good(object), Some(meant)) => assert_eq!(object.annotations.get("note"), Some(meant)),
            (Content::Bad(_), None) => {}
            other => panic!("{text}: {other:?}"),
        }
    }
}

/// A schedule from the status API is a valid manifest, with the same schedule.
#[test]
fn a_schedule_is_shown_as_it_is_written() {
    let windows = "      - {state: Running, from: \"2026-12-23T22:00:00\", to: \"2026-12-24T02:00:00\", reason: r}\n      - {state: Stopped, from: \"Fri 21:00\", to: \"Fri 20:00\"}\n      - {state: Stopped, from: \"22:00\", to: \"06:00\", days: \"Mon-Thu,Sat\"}\n      - {state: Stopped, cron: \"0 12 * * MON-FRI\", duration: 90m}\n";
    let text = format!("{GOOD}  schedule:\n    timeZone: Europe/Berlin\n    windows:\n{windows}");
    let schedule = |text: &str| {
        let parsed = read(text.as_bytes());
        assert_eq!(parsed.diagnostics, [], "{text}");
        let Content::Good(object) = &parsed.documents[0].content else { panic!("{text}") };
        object.spec.schedule.clone().unwrap()
    };
    let first = schedule(&text);
    let shown = serde_json::to_string(&crate::status::app::Schedule::from(&*first)).unwrap();
    let again = schedule(&format!("{GOOD}  schedule: {shown}\n"));
    let spans = |schedule: &crate::reconcile::schedule::Schedule| {
        schedule
            .windows
            .iter()
            .map(|window| format!("{} {:?} {}", window.state, window.reason, window.span))
            .collect::<Vec<_>>()
    };
    assert_eq!(spans(&first), spans(&again), "{shown}");
    assert_eq!(first.zone_name, again.zone_name);
}

#[test]
fn a_bad_document_leaves_its_neighbours_whole() {
    let text = format!("{GOOD}---\nmetadata:\n  name: broken-bot\nspec: [\n---\n{}", GOOD.replace("ticket", "music"));
    let parsed = read(text.as_bytes());
    let names: Vec<_> = parsed.documents.iter().map(|d| (d.name.as_ref().map(AppName::as_str), d.line)).collect();
    assert_eq!(names, [(Some("ticket-bot"), 1), (Some("broken-bot"), 10), (Some("music-bot"), 14)]);
    let good: Vec<_> = parsed.documents.iter().map(|d| matches!(d.content, Content::Good(_))).collect();
    assert_eq!(good, [true, false, true]);
}

/// A list as `get -o yaml` and the HTTP port write it.
fn list_of(items: &[String]) -> String {
    let item = |item: &String| format!("- {}\n", item.trim_end().replace('\n', "\n  "));
    format!("apiVersion: campos-operator.dev/v1\nkind: AppList\nitems:\n{}", items.iter().map(item).collect::<String>())
}

#[test]
fn an_exported_list_is_as_good_as_its_documents() {
    let exported = GOOD.replace("metadata:\n", "metadata:\n  generation: 3\n");
    let text = list_of(&[exported.clone(), GOOD.replace("ticket", "music"), format!("{exported}status: {{a: [b]}}\n")]);
    let parsed = read(text.as_bytes());
    assert_eq!(parsed.diagnostics, []);
    let lines: Vec<_> = parsed.documents.iter().map(|document| document.line).collect();
    let alone = read(GOOD.as_bytes()).documents.remove(0).content;
    assert_eq!((lines, parsed.documents[0].content.clone()), (vec![4, 13, 21], alone));
    assert!(parsed.conclusive);
    let empty = read(list_of(&[]).replace("items:", "items: []").as_bytes());
    assert_eq!((empty.documents, empty.diagnostics), (vec![], vec![]));

    // An invalid item does not affect the others; an invalid list has no item in force, and releases none.
    let parsed =
        read(list_of(&[GOOD.into(), GOOD.replace("ticket", "music").replace("Stopped", "stopped")]).as_bytes());
    let good: Vec<_> = parsed.documents.iter().map(|d| matches!(d.content, Content::Good(_))).collect();
    assert_eq!((good, parsed.diagnostics.len()), (vec![true, false], 1), "{:?}", parsed.diagnostics);
    let twice = format!("{GOOD}  state: Running\n").replace("ticket", "game");
    let parsed = read(list_of(&[GOOD.into(), twice]).as_bytes());
    let good: Vec<_> = parsed.documents.iter().map(|d| matches!(d.content, Content::Good(_))).collect();
    assert_eq!((good, parsed.diagnostics.len()), (vec![true, false], 1), "{:?}", parsed.diagnostics);
    let parsed = read(list_of(&[GOOD.into()]).replace("items:", "itms:").as_bytes());
    assert!(!parsed.conclusive && parsed.diagnostics[0].one_line().contains("did you mean `items`?"));
    let parsed = read((list_of(&[GOOD.into()]) + "more: 1\n").as_bytes());
    assert_eq!(parsed.documents.iter().filter(|d| matches!(d.content, Content::Good(_))).count(), 0);
    assert!(!parsed.conclusive);
}

#[test]
fn a_broken_document_still_tells_its_name() {
    for text in [
        "metadata:\n  name: a-b\nspec: [\n",
        "metadata:\n  labels: {x: y\n  name: \"a-b\" # mine\n",
        "metadata: {name: a-b, labels: {}\nspec: [\n",
        "metadata:\n\tname: a-b\n",
        "kind: App\nmetadata:\n  name: a-b\n  labels:\n   - x: y\n  z\n",
    ] {
        let parsed = read(text.as_bytes());
        assert_eq!(parsed.documents.len(), 1, "{text}");
        assert_eq!(parsed.documents[0].name.as_ref().map(AppName::as_str), Some("a-b"), "{text}");
    }
}

#[test]
fn bombs_end_soon() {
    let nested = |open: &str, times: usize| open.repeat(times).into_bytes();
    let doubling = (1..40).map(|i| format!("a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1)).collect::<Vec<_>>().concat();
    let chain = (1..90)
        .map(|i| format!("a{i}: &a{i} {}*a{}{}\n", "[".repeat(60), i - 1, "]".repeat(60)))
        .collect::<Vec<_>>()
        .concat();
    for text in [
        nested("[", 200_000),
        nested("{a: ", 60_000),
        nested("- ", 100_000),
        nested("? ", 100_000),
        nested("&a ", 80_000),
        nested("a: ", 80_000),
        nested("\"", 200_000),
        nested("---\n", 60_000),
        nested("#", 200_000),
        nested("!", 200_000),
        nested("|\n ", 80_000),
        nested("a:\n", 80_000),
        format!("{GOOD}status:\n  x: {}\n", "y ".repeat(100_000)).into_bytes(),
        format!("a0: &a0 x\n{doubling}").into_bytes(),
        format!("a0: &a0 x\n{chain}").into_bytes(),
        (0..100_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()).take(250_000).collect(),
    ] {
        // A reader with quadratic time does not finish these texts, so the test needs no clock.
        read(&text);
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes);
    }

    #[test]
    fn parsing_yaml_like_text_never_panics(text in "([-a-c:#&*!|>'\"%@`{}\\[\\],? \n\t~0-9.é]|---\n|\n  |a: |<<: ){0,80}") {
        read(text.as_bytes());
    }

    /// A half-written file never has another meaning than the whole file: it has the same app and state, or nothing.
    #[test]
    fn a_mutilated_manifest_is_refused_or_the_same_app(at in 0..GOOD.len(), length in 0..12usize, insert in "[-a-z:\\[{ \n\"'0-9]{0,4}") {
        let mut text = GOOD.to_owned();
        text.replace_range(at..(at + length).min(GOOD.len()), &insert);
        for document in read(text.as_bytes()).documents {
            if let Content::Good(object) = document.content {
                prop_assert_eq!(object.spec.state.as_str(), "Stopped");
            }
        }
    }

    #[test]
    fn any_prefix_is_refused_or_inconclusive_or_names_only_itself(length in 0..GOOD.len()) {
        let parsed = read(&GOOD.as_bytes()[..length]);
        for document in &parsed.documents {
            if let Content::Good(object) = &document.content {
                prop_assert_eq!(object.spec.state.as_str(), "Stopped");
            }
        }
    }

    /// One YAML parser decides about most manifests. The other parser, which shares no code with it, agrees.
    #[test]
    fn two_parsers_read_the_same(
        base in 0..FORMS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..6usize, "[-a-z:,\\[\\]{} \n\"'0-9#~.é]{0,4}|: |- |\n  |null|true|1_0"), 0..4),
    ) {
        let mut text: Vec<char> = FORMS[base].chars().collect();
        for (at, length, insert) in edits {
            let at = at.index(text.len() + 1);
            text.splice(at..(at + length).min(text.len()), insert.chars());
        }
        let text: String = text.into_iter().collect();
        prop_assert_eq!(disagreement(text.as_bytes()), None);
    }
}

/// Manifests in several styles.
const FORMS: [&str; 4] = [
    GOOD,
    "apiVersion: 'campos-operator.dev/v1'\nkind: \"App\"\nmetadata:\n  name: \"ticket-bot\"\n  labels:\n    team: support\n    tier: '1'\n    \"on\": \"yes\"\n  annotations: {note: a b, url: http://x/y#z}\n  generation: 3\nspec:\n  appId: '123'\n  state: Running\n  policy: Full\n  suspend: {reason: \"a: \\\"b\\\" \\u00e9\", until: 2026-12-24T02:00:00Z} # why\n",
    "# head\n---\napiVersion: campos-operator.dev/v1\nkind: App\nmetadata: {name: a}\nspec:\n  appId: x\n  state: Running\n  suspend: true\n  schedule:\n    timeZone: America/Sao_Paulo\n    windows:\n    - {state: Running, from: \"2026-12-23T22:00:00\", to: \"2026-12-24T02:00:00\", reason: release\n        night}\n    - state: Stopped\n      from: \"22:00\"\n      to: '06:00'\n      days: Mon-Thu\n---\n{\n  \"apiVersion\": \"campos-operator.dev/v1\", \"kind\": \"App\",\n  \"metadata\": {\"name\": \"j\"}, \"spec\": {\"appId\": \"5\", \"state\": \"Stopped\"}}\n",
    "apiVersion: campos-operator.dev/v1\nkind: AppList\nitems:\n- apiVersion: campos-operator.dev/v1\n  kind: App\n  metadata:\n    name: a\n  spec: {appId: b, state: Running}\n- {apiVersion: campos-operator.dev/v1, kind: App, metadata: {name: b}, spec: {appId: c, state: Stopped}}\n",
];

/// Syntax with different results of the two parsers: no document is in force.
#[test]
fn files_that_two_parsers_read_differently_are_refused() {
    for text in [
        GOOD.replace("apiVersion: ", "apiVersion: &12:30 "),
        GOOD.replace("Stopped", "&v: Stopped"),
        GOOD.replace("{team: support}", "{team: |\n   support\n  }"),
        GOOD.replace("{team: support}", "{te\n    am: support}"),
        GOOD.replace("{team: support}", "{: support}"),
        GOOD.replace("spec:\n", "\t\nspec:\n"),
    ] {
        let parsed = read(text.as_bytes());
        assert!(!parsed.conclusive, "{text}");
        assert!(parsed.documents.iter().all(|document| matches!(document.content, Content::Bad(_))), "{text}");
    }
}

/// The known fields for misplaced keys are those of the schema.
#[test]
fn hints_know_all_fields() {
    let all: serde_json::Value = serde_json::from_str(&super::json_schema::json_schema()).unwrap();
    let schema = &all["definitions"]["App"];
    let properties = |schema: &serde_json::Value| -> Vec<String> {
        let mut properties: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        properties.sort();
        properties
    };
    let top = &schema["properties"];
    let spec = &top["spec"]["properties"];
    for (map, fields) in super::hints::FIELDS {
        let expected = match map {
            "" => properties(schema),
            "suspend" => properties(&spec["suspend"]["oneOf"][1]),
            map @ ("override" | "schedule" | "restart") => properties(&spec[map]),
            map => properties(&top[map]),
        };
        let ignored: &[&str] = if map == "metadata" { &super::hints::IGNORED } else { &[] };
        let mut fields = [fields, ignored].concat();
        fields.sort_unstable();
        assert_eq!(fields, expected, "{map}");
    }
}
