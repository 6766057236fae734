//! Escaping of text for terminals, logs and forges.
//!
//! Other people write names, labels, messages and file names. Control characters move a cursor, format characters
//! (U+202E, U+200B) make a text look like another one, and GitHub executes a line that begins with `::`. All of them
//! are shown as escapes. No other module decides which characters are harmful.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns whether a character acts on the screen instead of being visible: controls, format characters, separators of
/// lines and paragraphs, private and unassigned characters. Not combining marks and wide blanks, which words need.
pub fn acts(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    if c.is_whitespace() {
        return matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}');
    }
    // The standard library knows the categories of Unicode: `{:?}` escapes unprintable characters. It escapes a
    // combining mark only at the beginning of a text, hence the letter before it.
    let mut pair = [b'a'; 5];
    let length = 1 + c.encode_utf8(&mut pair[1..]).len();
    std::str::from_utf8(&pair[..length]).is_ok_and(|pair| pair.escape_debug().nth(1) != Some(c))
}

/// A text on one line, with escapes such as `\n` and `\u{202e}`, and with commands of a forge (`##[..]`) broken.
pub fn escape(text: &str) -> Cow<'_, str> {
    with_escapes(text, |safe, c| match c {
        '#' => safe.push_str("\\u{23}"),
        _ => safe.extend(c.escape_debug()),
    })
}

/// A text with one character for each that acts, for an excerpt in which columns count.
pub fn aligned(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if acts(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// A whole page, line by line: the last guard before a terminal. [`escape`] has removed line breaks from its fields;
/// the other characters that act are escaped here. Colours (SGR) pass.
pub fn page(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let mut rest = line;
        // GitHub executes such a line, also after blanks. `::: ` begins a further place in a diagnostic, as in rustc's;
        // no command has a name that begins with a colon.
        let command = line.trim_start().strip_prefix("::").filter(|command| !command.starts_with(": "));
        if let Some(command) = command {
            safe.push_str(&escape(&line[..line.len() - command.len() - 2]));
            safe.push_str("\\u{3a}");
            rest = &line[line.len() - command.len() - 1..];
        }
        while let Some(at) = rest.find('\x1b') {
            safe.push_str(&escape(&rest[..at]));
            let length = colour(&rest[at..]);
            safe.push_str(if length == 0 { "\\u{1b}" } else { &rest[at..at + length] });
            rest = &rest[at + length.max(1)..];
        }
        safe.push_str(&escape(rest));
        safe.push_str(end);
    }
    safe
}

/// JSON with the characters that act as escapes, which every reader undoes.
pub fn json(text: &str) -> Cow<'_, str> {
    with_escapes(text, |safe, c| match c {
        // Between the parts of JSON; strings have it as an escape already.
        '\n' => safe.push(c),
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(safe, "\\u{unit:04x}");
            }
        }
    })
}

/// A text in which `escape` writes each character that acts.
pub fn with_escapes(text: &str, mut escape: impl FnMut(&mut String, char)) -> Cow<'_, str> {
    if is_harmless(text) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for (at, c) in text.char_indices() {
        if acts(c) || begins_command(&text[at..]) {
            escape(&mut safe, c);
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

pub fn is_harmless(text: &str) -> bool {
    !text.contains(acts) && !text.match_indices('#').any(|(at, _)| begins_command(&text[at..]))
}

/// Returns whether a text begins with a command that a forge accepts anywhere in a line: `##[`, `##vso[`,
/// `##teamcity[`.
fn begins_command(text: &str) -> bool {
    let Some(word) = text.strip_prefix("##") else { return false };
    word.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).starts_with('[')
}

/// The length of the colour at the beginning of a text; 0 if there is none.
fn colour(text: &str) -> usize {
    let Some(codes) = text.strip_prefix("\x1b[") else { return 0 };
    let end = codes.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
    if end.starts_with('m') { text.len() - end.len() + 1 } else { 0 }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every format character (Cf) of Unicode, and the other characters that must not pass.
    const ACTING: [std::ops::RangeInclusive<u32>; 24] = [
        0..=0x1f,
        0x7f..=0x9f,
        0xad..=0xad,
        0x600..=0x605,
        0x61c..=0x61c,
        0x6dd..=0x6dd,
        0x70f..=0x70f,
        0x890..=0x891,
        0x8e2..=0x8e2,
        0x180e..=0x180e,
        0x200b..=0x200f,
        0x2028..=0x202e,
        0x2060..=0x206f,
        0xe000..=0xe000,
        0xfeff..=0xfeff,
        0xfff9..=0xfffb,
        0xfffe..=0xffff,
        0x110bd..=0x110bd,
        0x110cd..=0x110cd,
        0x13430..=0x1343f,
        0x1bca0..=0x1bca3,
        0x1d173..=0x1d17a,
        0xe0000..=0xe007f,
        0xf0000..=0xf0000,
    ];

    fn acting() -> impl Iterator<Item = char> {
        ACTING.into_iter().flatten().filter_map(char::from_u32)
    }

    /// A hostile text: characters that act, beginnings of commands, and any others.
    pub(crate) fn hostile() -> impl Strategy<Value = String> {
        let acting: Vec<char> = acting().collect();
        let piece = prop_oneof![
            proptest::sample::select(acting).prop_map(String::from),
            any::<char>().prop_map(String::from),
            proptest::sample::select(vec![
                "\n::error file=x::pwn",
                "::stop-commands::x",
                "##[error]",
                "##vso[task.x]",
                "\x1b[31m",
                "\x1b[2J",
                "\r\n",
                "| `a` <b> @ana",
                " ",
                ":",
                "#",
                "a",
            ])
            .prop_map(String::from),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    /// Fails if a text holds a character that acts, except line breaks, or a command.
    #[track_caller]
    pub(crate) fn assert_harmless(text: &str) {
        for line in text.split('\n') {
            assert!(!line.contains(acts), "{line:?} of {text:?}");
            let blank = line.trim_start();
            assert!(!blank.starts_with("::") || blank.starts_with("::: "), "{line:?} of {text:?}");
            for at in line.match_indices('#').map(|(at, _)| at) {
                assert!(!begins_command(&line[at..]), "{line:?} of {text:?}");
            }
        }
    }

    #[test]
    fn acting_characters_are_escaped_and_visible_ones_are_not() {
        for c in acting() {
            assert!(acts(c), "{:x}", u32::from(c));
            let shown = escape(c.encode_utf8(&mut [0; 4])).into_owned();
            assert!(shown.starts_with('\\') && shown.is_ascii(), "{shown:?}");
        }
        // A combining mark, a variation selector, an ideographic blank, letters of any script, an emoji.
        let words = "caf\u{65}\u{301} ❤\u{fe0f} 東京\u{3000}नमस्ते مرحبا 🎵 a\\b \"q\" 'q' \u{a0}\u{fffd}";
        assert_eq!(escape(words), words);
        assert_eq!(escape("a\nb\t\u{202e}\x1b[2J\0"), "a\\nb\\t\\u{202e}\\u{1b}[2J\\0");
        assert_eq!(aligned("a\tb\u{200b}c"), "a b\u{fffd}c");
    }

    #[test]
    fn no_line_is_a_command_of_a_forge() {
        assert_eq!(page("a\n  ::error::x\n::x\n"), "a\n  \\u{3a}:error::x\n\\u{3a}:x\n");
        assert_eq!(page("### plan ##[error] ##vso[x] ## a"), "### plan \\u{23}#[error] \\u{23}#vso[x] ## a");
        assert_eq!(page("\x1b[1;31mred\x1b[0m \x1b[2J\r"), "\x1b[1;31mred\x1b[0m \\u{1b}[2J\\r");
    }

    proptest! {
        #[test]
        fn no_acting_character_passes(text in hostile()) {
            assert_harmless(&escape(&text).replacen("::", "", 2).replace("::", ""));
            prop_assert!(!escape(&text).contains('\n'));
            let plain: String = text.chars().filter(|c| *c != '\x1b').collect();
            assert_harmless(&page(&plain));
            prop_assert_eq!(aligned(&text).chars().count(), text.chars().count());
            prop_assert!(!aligned(&text).contains(acts));
        }

        #[test]
        fn json_is_the_same_json(text in hostile()) {
            let value = serde_json::json!({ "a": &text });
            let plain = serde_json::to_string(&value).unwrap();
            let safe = json(&plain);
            assert_harmless(&safe);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        }
    }
}
