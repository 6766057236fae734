//! Advice for errors of particular fields of a manifest.

use deunicode::deunicode_char;

use super::diagnostic::nearest;
use crate::reconcile::app::{AppName, MAX_APP_NAME};

/// Fields by their map, for keys at the wrong level.
pub(super) const FIELDS: [(&str, &[&str]); 7] = [
    ("metadata", &["name", "labels", "annotations"]),
    ("spec", &["appId", "state", "policy", "suspend", "override", "schedule", "scheduleRef", "restart"]),
    ("suspend", &["reason", "until"]),
    ("override", &["state", "until", "reason", "by"]),
    ("schedule", &["timeZone", "windows"]),
    ("restart", &["requestedAt", "cron", "whenRequired"]),
    ("", &["apiVersion", "kind", "metadata", "spec", "status"]),
];

/// Advice for a length of time.
pub(super) const DURATION: &str = "write it in hours and minutes: `90m`, `1h30m`, `48h`";

/// Fields of `metadata` that are accepted and ignored: only programs write them.
pub(super) const IGNORED: [&str; 12] = [
    "generation",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "managedFields",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Advice for a missing required field; `words` are its values, if it has few.
pub(super) fn missing(field: &str, words: &[&str]) -> String {
    let advice = match field {
        "metadata" => "{name: ..}`",
        "spec" => return "add `spec:` with `appId` and `state`".to_owned(),
        "name" => "` with a name that is unique in the directory",
        "timeZone" => "` with an IANA name, such as America/Sao_Paulo or UTC",
        "until" => "` with its end, such as 2026-12-24T02:00:00Z",
        "windows" => return "add `windows:` with one `- {state: .., from: .., to: ..}` for each".to_owned(),
        "plan" => "` with the id that `campos-operator plan` prints",
        "calendar" => "` with a file in iCalendar format, such as holidays.ics",
        "items" => return "add `items:` with a list of apps".to_owned(),
        "appId" => "` with the app's `_id` on CamposCloud",
        _ => {
            let values: Vec<String> = words.iter().map(|word| format!("`{field}: {word}`")).collect();
            return format!("add {}", values.join(" or "));
        }
    };
    format!("add `{field}: {advice}")
}

/// The probable field of an unknown key, and advice.
pub(super) fn unknown(key: &str, known: &[&'static str]) -> (Option<&'static str>, String) {
    let belongs = |(map, fields): &(&str, &[&'static str])| {
        let field = fields.iter().find(|field| **field == key)?;
        let place = if map.is_empty() { "at the left margin".to_owned() } else { format!("under `{map}`") };
        Some((Some(*field), format!("`{field}` belongs {place}")))
    };
    if key == "except" {
        return (None, "`except` belongs under the `spec` of a document with `kind: Schedule`".to_owned());
    }
    if known.contains(&"except") && FIELDS[1].1.contains(&key) {
        return (None, format!("`{key}` belongs to an app, with `scheduleRef`"));
    }
    let near = || match key {
        "id" | "_id" => Some("appId"),
        _ => nearest(key, known.iter().copied()),
    };
    FIELDS.iter().find_map(belongs).unwrap_or_else(|| match near() {
        Some(field) => (Some(field), format!("did you mean `{field}`?")),
        None => (None, "remove it; free notes belong in `metadata.annotations` or in a comment".to_owned()),
    })
}

/// The word of a field for a common synonym.
pub(super) fn synonym(field: &str, typed: &str) -> Option<&'static str> {
    match (field, typed.trim().to_lowercase().as_str()) {
        ("state", "off" | "no" | "false" | "stop" | "down" | "halted" | "offline" | "paused" | "n" | "0") => {
            Some("Stopped")
        }
        ("state", "on" | "yes" | "true" | "start" | "started" | "up" | "run" | "online" | "y" | "1") => Some("Running"),
        ("policy", "observe" | "readonly" | "none") => Some("ObserveOnly"),
        ("policy", "stop") => Some("StopOnly"),
        ("policy", "all") => Some("Full"),
        _ => None,
    }
}

/// The DNS-1123 label nearest to `text`: `bot-sao-paulo` for `Bot São Paulo`.
pub fn as_name(text: &str) -> Option<String> {
    let mut name = String::new();
    for c in text.trim().chars() {
        // Emoji and other signs have no letters.
        let letters = if c.is_alphanumeric() { deunicode_char(c).unwrap_or_default() } else { "-" };
        for c in letters.trim().to_lowercase().chars() {
            match c {
                'a'..='z' | '0'..='9' => name.push(c),
                _ if name.ends_with('-') => {}
                _ => name.push('-'),
            }
        }
    }
    let name: String = name.trim_matches('-').chars().take(MAX_APP_NAME).collect();
    let name = name.trim_matches('-');
    name.parse::<AppName>().ok().map(|name| name.as_str().to_owned())
}

/// The probable value of an invalid text.
pub(super) fn fitting(field: &str, typed: &str) -> Option<String> {
    match field {
        "from" | "to" => time(typed),
        "duration" | "warn" => duration(typed),
        "name" => as_name(typed),
        _ => None,
    }
}

/// `22:00` for `2200`, `22`, `22:0`, `10pm`, `10:00 PM`, `22h` or `22.00`; `Fri 21:00` for `friday 21:00`.
fn time(typed: &str) -> Option<String> {
    let lower = typed.trim().to_lowercase();
    if let Some((day, clock)) =
        lower.split_once(|c: char| c.is_whitespace() || c == '@').filter(|(day, _)| day.len() > 2)
    {
        let short: String = day.chars().take(3).collect();
        let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        let long = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
        let at = long
            .iter()
            .position(|long| long.starts_with(&short) && long.starts_with(day.trim_end_matches(['.', ','])))?;
        return Some(format!("{} {}", days[at], time(clock)?));
    }
    let (digits, afternoon) = match (lower.strip_suffix("pm"), lower.strip_suffix("am")) {
        (Some(digits), _) => (digits.trim(), Some(true)),
        (None, Some(digits)) => (digits.trim(), Some(false)),
        (None, None) => (lower.strip_suffix('h').unwrap_or(&lower), None),
    };
    let (hour, minute) = match digits.split_once([':', '.', 'h']) {
        Some(both) => both,
        None if (3..=4).contains(&digits.len()) => digits.split_at_checked(digits.len() - 2)?,
        None => (digits, "00"),
    };
    let minute = minute.strip_suffix(":00").unwrap_or(minute);
    let number = |text: &str| text.parse::<u8>().ok().filter(|_| text.chars().all(|c| c.is_ascii_digit()));
    let hour = match (number(hour)?, afternoon) {
        (12, Some(false)) => 0,
        (hour @ 1..12, Some(true)) => hour + 12,
        (hour @ 0..24, _) => hour,
        _ => return None,
    };
    let minute = number(minute).filter(|minute| *minute < 60)?;
    Some(format!("{hour:02}:{minute:02}"))
}

/// `60m` for `60`, `1h30m` for `1:30`, `90m` for `90 minutes`, `48h` for `2 days`.
fn duration(typed: &str) -> Option<String> {
    let lower = typed.trim().to_lowercase();
    if let Some((hours, minutes)) = lower.split_once(':') {
        let (hours, minutes) =
            (hours.parse::<u32>().ok()?, minutes.parse::<u32>().ok().filter(|minutes| *minutes < 60)?);
        return (hours < 168 && hours + minutes > 0).then(|| format!("{hours}h{minutes:02}m"));
    }
    let digits = lower.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number = digits.parse::<u32>().ok().filter(|number| *number > 0)?;
    let (number, unit, most) = match lower[digits.len()..].trim() {
        "" | "m" | "min" | "mins" | "minute" | "minutes" => (number, "m", 7 * 24 * 60),
        "h" | "hr" | "hrs" | "hour" | "hours" => (number, "h", 7 * 24),
        "d" | "day" | "days" => (number.saturating_mul(24), "h", 7 * 24),
        "s" | "sec" | "secs" | "second" | "seconds" => (number, "s", 7 * 24 * 3600),
        _ => return None,
    };
    (number <= most).then(|| format!("{number}{unit}"))
}

/// Advice for a value that is not a list.
pub(super) fn list(field: &str) -> &'static str {
    match field {
        "windows" => "write one `- {state: .., from: .., to: ..}` for each window",
        "except" => "write one `- {calendar: .., state: ..}` for each calendar",
        _ => "write one `- ` for each app",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_letters() {
        for (text, name) in [
            ("Bot São Paulo", Some("bot-sao-paulo")),
            ("Café", Some("cafe")),
            ("Straße 5", Some("strasse-5")),
            ("Бот", Some("bot")),
            ("北京", Some("beijing")),
            ("🎵 Music", Some("music")),
            ("🎵", None),
            ("--", None),
            ("Ticket_Bot", Some("ticket-bot")),
        ] {
            assert_eq!(as_name(text).as_deref(), name, "{text}");
        }
    }

    #[test]
    fn times_and_durations_that_fit() {
        for (text, time) in [
            ("2200", Some("22:00")),
            ("700", Some("07:00")),
            ("7:00", Some("07:00")),
            ("22", Some("22:00")),
            ("10pm", Some("22:00")),
            ("12 am", Some("00:00")),
            ("12pm", Some("12:00")),
            ("22h30", Some("22:30")),
            ("friday 9:00", Some("Fri 09:00")),
            ("2460", None),
            ("25:00", None),
            ("noon", None),
            ("22:00", Some("22:00")),
        ] {
            assert_eq!(fitting("from", text).as_deref(), time, "{text}");
        }
        for (text, length) in [
            ("60", Some("60m")),
            ("1:30", Some("1h30m")),
            ("2d", Some("48h")),
            ("0", None),
            ("9d", None),
            ("99999", None),
            ("soon", None),
        ] {
            assert_eq!(fitting("duration", text).as_deref(), length, "{text}");
        }
    }
}
