//! A tolerant reader of the server's JSON that keeps only the fields the operator uses.
//!
//! A page of a hundred apps is some 150 KiB, of which a few words for each app are used. The rest, with its environment
//! variables and invite codes, never becomes a value. Faults in text that the operator does not need are tolerated: raw
//! control characters, broken UTF-8 and broken escapes (they become U+FFFD), numbers out of range, and nesting of any
//! depth. NaN and Infinity are reported with their place. Other faults make only their own item of a list unreadable.
//!
//! `serde_json` does not fit: it rejects a whole text at the first of these faults.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

/// The kind of a value, which selects the fields that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    Message,
    App,
    Metrics,
    Pagination,
    /// A word or a number. Objects and arrays become empty ones.
    Leaf,
}

impl Pick {
    /// The kind of the value of a field that is kept.
    fn below(self, key: &str) -> Option<Self> {
        match (self, key) {
            // The vendor's file has it inside each item, too.
            (Self::App, "pagination") => Some(Self::Pagination),
            (Self::App, "currentResourceMetrics") => Some(Self::Metrics),
            (Self::App, "_id" | "status" | "name" | "allocatedMemoryMB" | "restartRequired")
            | (Self::Metrics, "online" | "timestamp" | "startedAt" | "uptime")
            | (Self::Message, "error" | "message")
            | (Self::Pagination, "totalItems" | "totalPages" | "hasNextPage") => Some(Self::Leaf),
            (Self::Message | Self::App | Self::Metrics | Self::Pagination | Self::Leaf, _) => None,
        }
    }
}

/// The text is not JSON from this byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) at: usize,
}

/// The content of a page besides its items.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) pagination: Option<Value>,
    /// The place of the first fault behind the items.
    pub(super) broken: Option<Broken>,
    /// The first NaN or Infinity of the page.
    pub(super) odd: Option<usize>,
}

/// The reason why a text is not a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPage {
    Broken(Broken),
    Shape(&'static str),
}

impl From<Broken> for NoPage {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Reads one value. Returns also the place of the first NaN or Infinity in it.
pub(super) fn value(text: &[u8], pick: Pick) -> Result<(Value, Option<usize>), Broken> {
    let mut reader = Reader { text, at: 0, odd: None };
    let value = reader.value(pick)?;
    reader.end()?;
    Ok((value, reader.odd))
}

/// Reads a page of the list: an object that holds the apps, or a bare array of apps. Passes each item to `keep`, or the
/// place at which it cannot be read.
pub(super) fn page(text: &[u8], keep: &mut impl FnMut(Result<Value, Broken>)) -> Result<Beside, NoPage> {
    let mut reader = Reader { text, at: 0, odd: None };
    let mut beside = Beside::default();
    let shape = match reader.peek() {
        Some(b'[') => {
            reader.items(Tail::Nothing, keep)?;
            reader.end()?;
            return Ok(Beside { odd: reader.odd, ..beside });
        }
        Some(b'{') => {
            reader.at += 1;
            let mut first = true;
            while let Some(key) = reader.key(&mut first)? {
                match (&*key, reader.peek()) {
                    ("applications", Some(b'[')) => {
                        reader.items(Tail::Fields, keep)?;
                        // A fault behind the items costs only the pagination: the next page is requested without it. A
                        // text that was cut is not a page.
                        if let Err(broken) = reader.fields(&mut beside.pagination) {
                            if !text.trim_ascii_end().ends_with(b"}") {
                                return Err(broken.into());
                            }
                            beside.broken = Some(broken);
                        }
                        return Ok(Beside { odd: reader.odd, ..beside });
                    }
                    ("pagination", _) => beside.pagination = Some(reader.value(Pick::Pagination)?),
                    _ => reader.skip()?,
                }
            }
            "an object without an applications array"
        }
        _ => {
            reader.value(Pick::Leaf)?;
            "neither an array nor an object"
        }
    };
    reader.end()?;
    Err(NoPage::Shape(shape))
}

/// The text behind the items of a page.
#[derive(Debug, Clone, Copy)]
enum Tail {
    Nothing,
    /// More fields of the object that holds the items.
    Fields,
}

#[derive(Debug, Clone)]
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    odd: Option<usize>,
}

impl<'a> Reader<'a> {
    fn broken<T>(&self) -> Result<T, Broken> {
        Err(Broken { at: self.at })
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Passes `byte` if it is the next one.
    fn passed(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    fn take(&mut self, byte: u8) -> Result<(), Broken> {
        if self.passed(byte) { Ok(()) } else { self.broken() }
    }

    fn end(&mut self) -> Result<(), Broken> {
        if self.peek().is_some() { self.broken() } else { Ok(()) }
    }

    fn value(&mut self, pick: Pick) -> Result<Value, Broken> {
        match self.peek() {
            Some(b'{') if pick != Pick::Leaf => self.object(pick),
            Some(b'{') => self.skip().map(|()| Value::Object(Map::new())),
            Some(b'[') => self.skip().map(|()| Value::Array(Vec::new())),
            Some(b'"') => Ok(Value::String(self.string()?.into_owned())),
            _ => self.scalar(),
        }
    }

    fn object(&mut self, pick: Pick) -> Result<Value, Broken> {
        self.take(b'{')?;
        let mut fields = Map::new();
        let mut first = true;
        while let Some(key) = self.key(&mut first)? {
            let Some(below) = pick.below(&key) else {
                self.skip()?;
                continue;
            };
            let value = self.value(below)?;
            // Two values that disagree prove nothing: they become an array, which no field accepts.
            let agreed = fields.get(&*key).is_none_or(|known| *known == value);
            fields.insert(key.into_owned(), if agreed { value } else { Value::Array(Vec::new()) });
        }
        Ok(Value::Object(fields))
    }

    /// Reads the next key of an object with its colon; `None` at the end of the object.
    fn key(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, Broken> {
        if self.passed(b'}') {
            return Ok(None);
        }
        if !std::mem::take(first) {
            self.take(b',')?;
        }
        self.peek();
        let key = self.string()?;
        self.take(b':')?;
        Ok(Some(key))
    }

    /// Reads the fields of a page behind its items, up to the end of the text.
    fn fields(&mut self, pagination: &mut Option<Value>) -> Result<(), Broken> {
        let mut found = None;
        while let Some(key) = self.key(&mut false)? {
            if key == "pagination" {
                found = Some(self.value(Pick::Pagination)?);
            } else {
                self.skip()?;
            }
        }
        self.end()?;
        if found.is_some() {
            *pagination = found;
        }
        Ok(())
    }

    fn scalar(&mut self) -> Result<Value, Broken> {
        let rest = &self.text[self.at..];
        for (word, value) in [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        let number =
            |value: f64| Number::from_f64(value.clamp(f64::MIN, f64::MAX)).map_or(Value::Bool(false), Value::Number);
        for word in ["NaN", "Infinity", "-Infinity"] {
            if rest.starts_with(word.as_bytes()) {
                self.odd.get_or_insert(self.at);
                self.at += word.len();
                // A number, because null metrics have a meaning.
                return Ok(number(f64::MAX));
            }
        }
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte)).count();
        let text = std::str::from_utf8(&rest[..length]).unwrap_or_default();
        let value = match text.parse::<u64>() {
            _ if text.starts_with('+') => return self.broken(),
            Ok(whole) => whole.into(),
            Err(_) => number(text.parse().or_else(|_| self.broken())?),
        };
        self.at += length;
        Ok(value)
    }

    /// Passes a value of any depth, without recursion.
    fn skip(&mut self) -> Result<(), Broken> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    if self.key(&mut true)?.is_some() {
                        open.push(b'}');
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    if !self.passed(b']') {
                        open.push(b']');
                        continue;
                    }
                }
                Some(b'"') => self.pass_string()?,
                _ => drop(self.scalar()?),
            }
            loop {
                match open.last() {
                    None => return Ok(()),
                    Some(b'}') => {
                        if self.key(&mut false)?.is_some() {
                            break;
                        }
                    }
                    Some(_) if self.passed(b',') => break,
                    Some(_) => self.take(b']')?,
                }
                open.pop();
            }
        }
    }

    fn pass_string(&mut self) -> Result<(), Broken> {
        self.take(b'"')?;
        loop {
            let Some(length) = memchr::memchr2(b'"', b'\\', &self.text[self.at..]) else {
                self.at = self.text.len();
                return self.broken();
            };
            self.at += length + 1;
            if self.text[self.at - 1] == b'"' {
                return Ok(());
            }
            // Skip the escaped byte.
            self.at = self.text.len().min(self.at + 1);
        }
    }

    /// Reads a string; replaces its faults by U+FFFD. Borrows it if possible: most strings are keys that are not kept.
    fn string(&mut self) -> Result<Cow<'a, str>, Broken> {
        let start = self.at + 1;
        self.pass_string()?;
        let text = String::from_utf8_lossy(&self.text[start..self.at - 1]);
        Ok(if text.contains('\\') { unescaped(&text).into() } else { text })
    }

    /// Reads the items of an array up to the end of the array. If one is broken, reads all others that it can find.
    fn items(&mut self, tail: Tail, keep: &mut impl FnMut(Result<Value, Broken>)) -> Result<(), Broken> {
        self.take(b'[')?;
        if self.passed(b']') {
            return Ok(());
        }
        loop {
            self.peek();
            let start = self.at;
            let item = self.item();
            // A broken item may seem to be whole and the last one, but then the text behind it is not a tail.
            let sound = item.as_ref().is_ok_and(|(_, more)| *more || self.clone().tail(tail).is_ok());
            if !sound && let Some(recovery) = Recovery::new(&Self { at: start, ..self.clone() }, tail) {
                recovery.read(self, keep);
                return Ok(());
            }
            let (item, more) = item?;
            keep(Ok(item));
            if !more {
                return Ok(());
            }
        }
    }

    fn tail(&mut self, tail: Tail) -> Result<(), Broken> {
        match tail {
            Tail::Nothing => self.end(),
            Tail::Fields => self.fields(&mut None),
        }
    }

    /// Reads an item and its separator. Returns whether another item follows.
    fn item(&mut self) -> Result<(Value, bool), Broken> {
        let item = self.value(Pick::App)?;
        let more = self.passed(b',');
        if !more {
            self.take(b']')?;
        }
        Ok((item, more))
    }
}

/// The text of a string with escapes. Broken escapes and lone surrogates become U+FFFD.
fn unescaped(text: &str) -> String {
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        units.extend(before.encode_utf16());
        let hex = after.get(1..5).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = hex.and_then(|hex| u16::from_str_radix(hex, 16).ok());
        let (unit, length) = match (after.as_bytes().first(), code) {
            (Some(b'u'), Some(code)) => (code, 5),
            (Some(byte @ (b'"' | b'\\' | b'/')), _) => (u16::from(*byte), 1),
            (Some(b'b'), _) => (0x8, 1),
            (Some(b'f'), _) => (0xc, 1),
            (Some(b'n'), _) => (0xa, 1),
            (Some(b'r'), _) => (0xd, 1),
            (Some(b't'), _) => (0x9, 1),
            _ => (0xfffd, 0),
        };
        units.push(unit);
        rest = &after[length..];
    }
    units.extend(rest.encode_utf16());
    String::from_utf16_lossy(&units)
}

/// Limit of the bytes that a search for the items behind a broken one reads, as a multiple of the text's length. It
/// bounds the time that a hostile text can cost.
const EFFORT: usize = 16;

/// The readable items of an array with at least one broken item.
///
/// The place where the next item begins is unknown: a missing quotation mark turns text into structure and structure
/// into text. The search tries each place that looks like the beginning of an item. It does not take an object within a
/// broken item for an item, because the array that holds the object does not end where the page does.
struct Recovery<'a> {
    text: &'a [u8],
    starts: Vec<usize>,
    follows: Vec<Follows>,
    /// The place behind the array.
    end: usize,
}

/// The content behind an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    /// Another item, by its index among the starts.
    Item(usize),
    End,
    /// Neither: this is not an item of the page.
    Nonsense,
    /// The item itself is broken.
    Broken(Broken),
}

impl<'a> Recovery<'a> {
    /// Searches from the beginning of a broken item. Returns `None` if it finds no end of the array.
    fn new(reader: &Reader<'a>, tail: Tail) -> Option<Self> {
        let text = reader.text;
        let mut effort = text.len().saturating_mul(EFFORT);
        let end = end_of_items(text, reader.at, tail, &mut effort)?;
        let starts = starts(text, reader.at, end);
        let mut follows = vec![Follows::Nonsense; starts.len()];
        // Backwards, because an item needs the result of the next one.
        for (index, start) in starts.iter().enumerate().rev() {
            let mut attempt = Reader { at: *start, ..reader.clone() };
            let result = attempt.item();
            effort = effort.checked_sub(attempt.at - start)?;
            follows[index] = match result {
                Err(broken) => Follows::Broken(broken),
                Ok((_, false)) if attempt.at == end => Follows::End,
                Ok((_, false)) => Follows::Nonsense,
                Ok((_, true)) => {
                    attempt.peek();
                    let next = starts.binary_search(&attempt.at).ok();
                    next.filter(|next| follows[*next] != Follows::Nonsense).map_or(Follows::Nonsense, Follows::Item)
                }
            };
        }
        Some(Self { text, starts, follows, end })
    }

    fn read(&self, reader: &mut Reader<'_>, keep: &mut impl FnMut(Result<Value, Broken>)) {
        let mut next = Some(0);
        while let Some(index) = next {
            let start = self.starts[index];
            let item = match self.follows[index] {
                Follows::Item(_) | Follows::End => {
                    reader.at = start;
                    reader.item().map(|(item, _)| item)
                }
                Follows::Broken(broken) => Err(broken),
                Follows::Nonsense => Err(Broken { at: start }),
            };
            keep(item);
            next = match self.follows[index] {
                Follows::Item(next) => Some(next),
                Follows::End => None,
                Follows::Broken(_) | Follows::Nonsense => self.after(index),
            };
        }
        reader.at = self.end;
    }

    /// The next item behind a broken one: a readable one, or a broken one that begins like this one.
    fn after(&self, broken: usize) -> Option<usize> {
        let beginning = self.beginning(broken);
        (broken + 1..self.starts.len()).find(|index| match self.follows[*index] {
            Follows::Item(_) | Follows::End => true,
            Follows::Broken(_) => self.beginning(*index) == beginning,
            Follows::Nonsense => false,
        })
    }

    /// The text of an item up to the end of its first key.
    fn beginning(&self, index: usize) -> &[u8] {
        let rest = &self.text[self.starts[index]..];
        let colon = rest.iter().take(64).position(|byte| *byte == b':');
        &rest[..colon.unwrap_or(0)]
    }
}

/// The places from `from` to `end` that look like the beginning of an item: a brace behind a comma.
fn starts(text: &[u8], from: usize, end: usize) -> Vec<usize> {
    let mut starts = vec![from];
    let mut comma = false;
    for (at, byte) in text.iter().enumerate().take(end).skip(from) {
        match byte {
            b'{' if comma && at > from => starts.push(at),
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            _ => {}
        }
        comma = *byte == b',';
    }
    starts
}

/// The place behind the first bracket that the rest of a page can follow.
fn end_of_items(text: &[u8], from: usize, tail: Tail, effort: &mut usize) -> Option<usize> {
    let ends = text.iter().enumerate().skip(from).filter(|(_, byte)| **byte == b']').map(|(at, _)| at + 1);
    for end in ends {
        let mut rest = Reader { text, at: end, odd: None };
        if rest.tail(tail).is_ok() {
            return Some(end);
        }
        *effort = effort.checked_sub(rest.at - end)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn kept(pick: Pick, body: &str, expected: &str) {
        assert_eq!(value(body.as_bytes(), pick).unwrap().0.to_string(), expected, "{body}");
    }

    #[test]
    fn unused_fields_are_not_kept() {
        kept(
            Pick::App,
            r#"{"_id":"a","env":{"KEY":"hush"},"currentResourceMetrics":{"online":true,"cpu":1},"teamId":[{"code":"hush"}]}"#,
            r#"{"_id":"a","currentResourceMetrics":{"online":true}}"#,
        );
        kept(Pick::App, r#"{"_id":{"x":1},"name":[1]}"#, r#"{"_id":{},"name":[]}"#);
        kept(Pick::Message, r#"{"error":"a","detail":{"deep":["hush"]}}"#, r#"{"error":"a"}"#);
    }

    #[test]
    fn faults_in_text_are_tolerated() {
        let name = |text: &[u8]| {
            let body = [br#"{"name":""#, text, br#"","_id":"a"}"#].concat();
            let value = value(&body, Pick::App).unwrap().0;
            assert_eq!(value["_id"], "a");
            value["name"].as_str().unwrap().to_owned()
        };
        assert_eq!(name(b"a\tb\x00c\x1bd\ne"), "a\tb\0c\u{1b}d\ne");
        assert_eq!(name(b"a\xe7\xe3o"), "a\u{fffd}\u{fffd}o");
        assert_eq!(name(br"\ud83c\udfb5 \u00e7 \/ \b\f\n\r\t \\"), "\u{1f3b5} \u{e7} / \u{8}\u{c}\n\r\t \\");
        assert_eq!(name(br"\ud83c x \udfb5 \ud83c\ud83c\udfb5"), "\u{fffd} x \u{fffd} \u{fffd}\u{1f3b5}");
        assert_eq!(name(br"C:\path \u12 \x \u"), "C:\u{fffd}path \u{fffd}u12 \u{fffd}x \u{fffd}u");
    }

    #[test]
    fn odd_numbers_deep_nesting_and_duplicates_are_tolerated() {
        let deep = format!(
            r#"{{"x":{}1{},"y":{}{},"_id":"a"}}"#,
            "[".repeat(9999),
            "]".repeat(9999),
            r#"{"a":"#.repeat(9999),
            "1".to_owned() + &"}".repeat(9999)
        );
        kept(Pick::App, &deep, r#"{"_id":"a"}"#);
        kept(Pick::App, r#"{"cpu":1e999,"_id":"a","name":1e999}"#, r#"{"_id":"a","name":1.7976931348623157e+308}"#);
        kept(Pick::Pagination, r#"{"totalItems":99999999999999999999}"#, r#"{"totalItems":1e+20}"#);
        kept(Pick::App, r#"{"_id":"a","_id":"a"}"#, r#"{"_id":"a"}"#);
        // Two that disagree prove nothing.
        kept(Pick::Metrics, r#"{"online":true,"online":false}"#, r#"{"online":[]}"#);
        let (read, odd) = value(br#"{"cpu":NaN,"_id":"a","name":-Infinity}"#, Pick::App).unwrap();
        assert_eq!((&read["_id"], odd), (&Value::from("a"), Some(7)));
        assert!(!read["name"].is_null());
    }

    #[track_caller]
    fn broken(body: &str, at: usize) {
        assert_eq!(value(body.as_bytes(), Pick::App).map(|_| ()), Err(Broken { at }), "{body}");
    }

    #[test]
    fn a_fault_is_reported_with_its_place() {
        broken("", 0);
        broken("not json", 0);
        broken(r#"{"_id":"a""#, 10);
        broken(r#"{"_id":"a"}x"#, 11);
        broken(r#"{"_id":"a",}"#, 11);
        broken(r#"{"x":[1 2]}"#, 8);
        broken(r#"{"x":'a'}"#, 5);
        broken(r#"{"x":+1}"#, 5);
        broken(r#"{"x":undefined}"#, 5);
        broken(r#"{"x":{"a":1]}"#, 11);
    }

    /// The `_id` of each item, or where it is broken.
    fn items(body: &str) -> Result<Vec<Result<String, usize>>, NoPage> {
        let mut items = Vec::new();
        page(body.as_bytes(), &mut |item| {
            items.push(item.map(|item| item["_id"].as_str().unwrap_or("?").to_owned()).map_err(|broken| broken.at));
        })?;
        Ok(items)
    }

    #[test]
    fn a_broken_item_hides_no_other_item() {
        let ok = |id: &str| Ok(id.to_owned());
        let around = |item: &str| {
            let middle =
                format!(r#"{{"_id":"a","x":[{{"_id":"1"}},{{"_id":"2"}}]}}, {item} ,{{"_id":"c","name":"c"}}"#);
            [
                format!("[{middle}]"),
                format!(r#"{{"applications":[{middle}],"tags":["x"],"pagination":{{"totalItems":3}}}}"#),
            ]
        };
        let nested = r#""team":[{"_id":"n1"},{"_id":"n2"},{"_id":"n3"}]"#;
        for item in [
            format!(r#"{{"_id":"b","name":"b"x",{nested}}}"#),
            format!(r#"{{"_id":"b","name":"b\",{nested}}}"#),
            format!(r#"{{"_id":"b",{nested},"name":"b"}}]x"}}"#),
            format!(r#"{{"_id":"b",{nested},"name":"b}}"#),
            format!(r#"{{"_id":"b",{nested},"name":b}}"#),
            format!(r#"{{"_id":"b" "name":"b",{nested}}}"#),
            format!(r#"{{"_id":"b",{nested}"#),
        ] {
            for body in around(&item) {
                let items = items(&body).unwrap();
                assert_eq!((items.len(), &items[0], &items[2]), (3, &ok("a"), &ok("c")), "{body}");
                assert!(items[1].is_err(), "{body}");
            }
        }
        // Two in a row, and at both ends.
        let all = items(r#"[{"_id":a},{"_id":b},{"_id":"c"},{"_id":d}]"#).unwrap();
        assert_eq!(all, [Err(8), Err(18), ok("c"), Err(40)]);
    }

    #[test]
    fn a_cut_page_is_an_error() {
        let whole = r#"{"applications":[{"_id":"a"},{"_id":"b"}],"pagination":{"totalItems":2}}"#;
        assert!(items(whole).is_ok());
        for length in 0..whole.len() - 1 {
            assert!(items(&whole[..length]).is_err(), "{}", &whole[..length]);
        }
        // Text behind the items may be broken if the page has an end.
        let odd = page(br#"{"applications":[{"_id":"a"}],"totalUsedRAM":52 MB,"pagination":{}}"#, &mut |_| {}).unwrap();
        assert_eq!(odd.broken, Some(Broken { at: 48 }));
    }

    #[test]
    fn the_search_in_a_hostile_text_is_bounded() {
        let hostile = format!(r"[{{x,{}]", r#"{"a":[1,"#.repeat(50_000));
        assert!(items(&hostile).is_err());
    }
}
