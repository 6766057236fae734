//! Cron patterns of five fields, and their errors: the field, its value, its range, and a valid pattern.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::diagnostic::{Mark, nearest};
use super::reader::quoted;
use super::yaml::Finding;

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// One of the five fields.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, words: &[] },
    Field { name: "hour", least: 0, most: 23, words: &[] },
    Field { name: "day of month", least: 1, most: 31, words: &[] },
    Field { name: "month", least: 1, most: 12, words: &MONTHS },
    Field { name: "day of week", least: 0, most: 7, words: &DAYS },
];

const NICKNAMES: [&str; 5] = ["@yearly", "@monthly", "@weekly", "@daily", "@hourly"];

/// Reads a pattern.
pub(super) fn pattern(text: &str) -> Result<Cron, Finding> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|error| mistake(text, &error))
}

/// Explains why a pattern cannot be read.
fn mistake(pattern: &str, error: &dyn std::fmt::Display) -> Finding {
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    let about = |message: String| Finding::new(Mark::START, message);
    let write = |pattern: &str| format!("write `{pattern}`");
    let five = "expected five fields: minute, hour, day of month, month, day of week";
    if let [nickname] = fields[..]
        && nickname.starts_with('@')
    {
        let finding = about(format!("`cron` has no nickname {}", quoted(nickname)));
        let finding = finding.fits(format!("expected five fields, or one of {}", NICKNAMES.join(", ")));
        return match nearest(nickname, NICKNAMES) {
            Some(near) => finding.hint(write(near)),
            None => finding,
        };
    }
    match fields.len() {
        5 => {}
        6 | 7 => {
            let fewer = fields[1..6].join(" ");
            let finding =
                about(format!("`cron` has {} fields: there are no seconds and no years", fields.len())).fits(five);
            return if first_mistake(&fewer).is_none() { finding.hint(write(&fewer)) } else { finding };
        }
        count => {
            let s = if count == 1 { "" } else { "s" };
            let finding = about(format!("`cron` has {count} field{s}")).fits(five);
            return finding.hint("noon on working days is `0 12 * * 1-5`");
        }
    }
    match first_mistake(pattern) {
        Some((index, value, why, fixed)) => {
            let Field { name, least, most, words } = &FIELDS[index];
            let names = match words {
                [] => String::new(),
                [first, .., last] => format!(" or {first} to {last}"),
                [only] => format!(" or {only}"),
            };
            let finding = about(format!("`cron`: the {name} {} {why}", quoted(&value)))
                .fits(format!("expected {name} {least} to {most}{names}"));
            match fixed {
                Some(fixed) => {
                    let mut fields = fields;
                    fields[index] = &fixed;
                    finding.hint(write(&fields.join(" ")))
                }
                None => finding.hint("a list is `1,15`, a range `1-5`, a step `*/15`"),
            }
        }
        None => {
            about(format!("`cron` cannot be read: {error}")).fits(five).hint("noon on working days is `0 12 * * 1-5`")
        }
    }
}

/// The first invalid part: the field, the part, the cause, and a valid field.
fn first_mistake(pattern: &str) -> Option<(usize, String, String, Option<String>)> {
    pattern.split_whitespace().zip(&FIELDS).enumerate().find_map(|(index, (text, field))| {
        text.split(',').find_map(|part| {
            let (why, fixed) = of_part(part, field)?;
            // The other parts of the list stay.
            let parts: Vec<&str> = text
                .split(',')
                .map(|other| if other == part { fixed.as_deref().unwrap_or(part) } else { other })
                .collect();
            let fixed = fixed.is_some().then(|| parts.join(","));
            Some((index, part.to_owned(), why, fixed))
        })
    })
}

fn of_part(part: &str, field: &Field) -> Option<(String, Option<String>)> {
    let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
    if let Some(step) = step
        && !step.parse::<u32>().is_ok_and(|step| step > 0)
    {
        return Some((format!("has a step that is no number from 1: {}", quoted(step)), None));
    }
    // The characters of the last day, the nearest working day and the n-th day of the week.
    if matches!(range, "*" | "?") || range.contains(['L', 'l', 'W', 'w', '#']) && field.name.starts_with("day") {
        return None;
    }
    let Some((first, last)) = range.split_once('-') else {
        return value(range, field).err().map(|why| (why, None));
    };
    let (first, last) = match (value(first, field), value(last, field)) {
        (Ok(first), Ok(last)) => (first, last),
        (Err(why), _) | (_, Err(why)) => return Some((why, None)),
    };
    if first <= last {
        return None;
    }
    // A range over the end of the week, of the year or of the day.
    let most = if field.most == 7 { 6 } else { field.most };
    let word = |number: u32| match field.words.get((number - field.least) as usize) {
        Some(word) if range.contains(|c: char| c.is_ascii_alphabetic()) => (*word).to_owned(),
        _ => number.to_string(),
    };
    let all: Vec<String> = (first..=most).chain(field.least..=last).map(word).collect();
    let fixed = if all.len() <= 7 {
        all.join(",")
    } else {
        format!("{}-{},{}-{}", word(first), word(most), word(field.least), word(last))
    };
    Some(("goes backwards".to_owned(), step.is_none().then_some(fixed)))
}

fn value(text: &str, field: &Field) -> Result<u32, String> {
    let upper = text.to_ascii_uppercase();
    if let Some(at) = (0..).zip(field.words).find_map(|(at, word)| (*word == upper).then_some(at)) {
        return Ok(field.least + at);
    }
    match text.parse::<u32>() {
        Ok(number) if (field.least..=field.most).contains(&number) => Ok(number),
        Ok(_) => Err("is out of range".to_owned()),
        Err(_) => Err("is no number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use croner::parser::{CronParser, Seconds, Year};

    use super::*;

    fn parse(pattern: &str) -> Result<(), String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        parser.parse(pattern).map(|_| ()).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn case(pattern: &str, message: &str, fixed: Option<&str>) {
        let error = parse(pattern).expect_err(pattern);
        let finding = mistake(pattern, &error);
        assert!(finding.message.contains(message), "{pattern}: {}", finding.message);
        let written = finding.hint.as_deref().and_then(|hint| hint.strip_prefix("write `")?.strip_suffix('`'));
        assert_eq!(written, fixed, "{pattern}");
        if let Some(fixed) = fixed {
            assert_eq!(parse(fixed), Ok(()), "{pattern}: the fix cannot be read");
        }
    }

    #[test]
    fn mistakes_point_to_their_field() {
        case("60 * * * *", "the minute \"60\" is out of range", None);
        case("0 24 * * *", "the hour \"24\" is out of range", None);
        case("0 0 32 * *", "the day of month \"32\" is out of range", None);
        case("0 0 0 * *", "the day of month \"0\" is out of range", None);
        case("0 0 * 13 *", "the month \"13\" is out of range", None);
        case("0 0 * * 8", "the day of week \"8\" is out of range", None);
        case("0 0 * * MOX", "the day of week \"MOX\" is no number", None);
        case("0 0 * * 1,MOX", "the day of week \"MOX\" is no number", None);
        case("a * * * *", "the minute \"a\" is no number", None);
        case("*/0 * * * *", "has a step that is no number from 1: \"0\"", None);
        case("0 0 * * FRI-MON", "the day of week \"FRI-MON\" goes backwards", Some("0 0 * * FRI,SAT,SUN,MON"));
        case("0 0 * * 5-1", "goes backwards", Some("0 0 * * 5,6,0,1"));
        case("0 22-6 * * *", "the hour \"22-6\" goes backwards", Some("0 22-23,0-6 * * *"));
        case("0 0 * NOV-FEB *", "goes backwards", Some("0 0 * NOV,DEC,JAN,FEB *"));
        case("0 30 12 * * 1-5", "6 fields: there are no seconds", Some("30 12 * * 1-5"));
        case("0 12 * *", "has 4 fields", None);
        case("noon", "has 1 field", None);
        case("@dayly", "has no nickname", Some("@daily"));
        case("@reboot", "has no nickname", None);
    }

    #[test]
    fn the_last_day_the_nearest_working_day_and_the_nth_day_are_accepted() {
        for pattern in [
            "0 12 L * *",
            "0 12 15W * *",
            "0 12 * * 5#2",
            "0 12 * * 5L",
            "0 12 ? * 1-5",
            "0 12 * * 7",
            "@daily",
            "@hourly",
        ] {
            assert_eq!(parse(pattern), Ok(()), "{pattern}");
        }
    }

    proptest::proptest! {
        /// Every suggested pattern is valid.
        #[test]
        fn a_fix_fits(pattern in "([0-9A-Za-z*/,-]{1,7} ){4,6}[0-9A-Z-]{1,7}") {
            if let Err(error) = parse(&pattern) {
                let hint = mistake(&pattern, &error).hint.unwrap_or_default();
                if let Some(fixed) = hint.strip_prefix("write `").and_then(|hint| hint.strip_suffix('`')) {
                    let again = parse(fixed).err().map(|error| mistake(fixed, &error));
                    // Another field may be wrong as well; the fixed one is not reported again.
                    let same = again.is_some_and(|again| again.message == mistake(&pattern, &error).message);
                    assert!(!same, "{pattern} -> {fixed}");
                }
            }
        }
    }
}
