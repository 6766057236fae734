//! JSON of a server that may be careless, of which only some parts are kept.
//!
//! A page of a hundred apps is some 150 KiB, of which a few words for each app are used. The rest, environment variables
//! and invite codes among it, is passed over and never becomes a value. What nothing depends on costs nothing: text may
//! hold raw control characters, broken UTF-8 and broken escapes (they become U+FFFD), numbers may be out of range,
//! nesting may be of any depth, and NaN and Infinity are noted with their place. What is not JSON beyond that costs its
//! own item of a list and no other.

use serde_json::{Map, Number, Value};

/// What is kept of a value, by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// A message for people.
    Message,
    /// One app.
    App,
    /// What is measured of it.
    Metrics,
    /// How a list is divided into pages.
    Pagination,
    /// A word or a number; of an object or array, only that it is one.
    Leaf,
}

impl Pick {
    /// What is kept below a key of an object.
    fn below(self, key: &str) -> Option<Self> {
        match (self, key) {
            // The vendor's file has it inside each item, too.
            (Self::App, "pagination") => Some(Self::Pagination),
            (Self::App, "currentResourceMetrics") => Some(Self::Metrics),
            (Self::App, "_id" | "status" | "name")
            | (Self::Metrics, "online" | "timestamp")
            | (Self::Message, "error" | "message")
            | (Self::Pagination, "totalItems" | "totalPages" | "currentPage" | "hasNextPage") => Some(Self::Leaf),
            (Self::Message | Self::App | Self::Metrics | Self::Pagination | Self::Leaf, _) => None,
        }
    }
}

/// The text is not JSON from this byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) at: usize,
}

/// What stands beside the items of a page.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) pagination: Option<Value>,
    /// Where something of it cannot be read.
    pub(super) broken: Option<Broken>,
    /// The first NaN or Infinity of the page.
    pub(super) odd: Option<usize>,
}

/// Why a page is none.
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

/// Reads one value, and where NaN or Infinity stands in it.
pub(super) fn value(text: &[u8], pick: Pick) -> Result<(Value, Option<usize>), Broken> {
    let mut reader = Reader::new(text);
    let value = reader.value(pick)?;
    reader.end()?;
    Ok((value, reader.odd))
}

/// Reads a page of the list: an object that holds the apps, or the apps alone. Passes each item to `keep`, or the place
/// at which it cannot be read.
pub(super) fn page(text: &[u8], keep: &mut impl FnMut(Result<Value, Broken>)) -> Result<Beside, NoPage> {
    let mut reader = Reader::new(text);
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
                match (key.as_str(), reader.peek()) {
                    ("applications", Some(b'[')) => {
                        reader.items(Tail::Fields, keep)?;
                        // The items are worth more than the rest: without it, the next page is requested. A text that
                        // was cut is no page.
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

/// What follows the items of a page.
#[derive(Debug, Clone, Copy)]
enum Tail {
    /// They are the whole text.
    Nothing,
    /// More fields of the object that holds them.
    Fields,
}

#[derive(Debug, Clone)]
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    odd: Option<usize>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, odd: None }
    }

    fn broken<T>(&self) -> Result<T, Broken> {
        Err(Broken { at: self.at })
    }

    /// The next character that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Result<(), Broken> {
        if self.peek() != Some(wanted) {
            return self.broken();
        }
        self.at += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Broken> {
        if self.peek().is_some() { self.broken() } else { Ok(()) }
    }

    fn value(&mut self, pick: Pick) -> Result<Value, Broken> {
        match self.peek() {
            Some(b'{') if pick != Pick::Leaf => self.object(pick),
            Some(b'{') => self.skip().map(|()| Value::Object(Map::new())),
            Some(b'[') => self.skip().map(|()| Value::Array(Vec::new())),
            Some(b'"') => self.string().map(Value::String),
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
            // Two values that disagree say nothing: an array is nowhere what is looked for.
            let agreed = fields.get(&key).is_none_or(|known| *known == value);
            fields.insert(key, if agreed { value } else { Value::Array(Vec::new()) });
        }
        Ok(Value::Object(fields))
    }

    /// The next key of an object with its colon, or its end.
    fn key(&mut self, first: &mut bool) -> Result<Option<String>, Broken> {
        if std::mem::take(first) {
            if self.peek() == Some(b'}') {
                self.at += 1;
                return Ok(None);
            }
        } else if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(None);
        } else {
            self.take(b',')?;
        }
        if self.peek() != Some(b'"') {
            return self.broken();
        }
        let key = self.string()?;
        self.take(b':')?;
        Ok(Some(key))
    }

    /// The fields after the first ones of an object that is the whole text.
    fn fields(&mut self, pagination: &mut Option<Value>) -> Result<(), Broken> {
        let mut found = None;
        let mut first = false;
        while let Some(key) = self.key(&mut first)? {
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
        // A number, not null: null metrics mean something.
        let number =
            |value: f64| Number::from_f64(value.clamp(f64::MIN, f64::MAX)).map_or(Value::Bool(false), Value::Number);
        for word in ["NaN", "Infinity", "-Infinity"] {
            if rest.starts_with(word.as_bytes()) {
                self.odd.get_or_insert(self.at);
                self.at += word.len();
                return Ok(number(f64::MAX));
            }
        }
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte)).count();
        let text = std::str::from_utf8(&rest[..length]).unwrap_or_default();
        let value = match (text.parse::<u64>(), text.parse::<f64>()) {
            _ if text.starts_with('+') => return self.broken(),
            (Ok(whole), _) => whole.into(),
            (Err(_), Ok(other)) => number(other),
            (Err(_), Err(_)) => return self.broken(),
        };
        self.at += length;
        Ok(value)
    }

    /// Passes a value over, however deep it is.
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
                    if self.peek() != Some(b']') {
                        open.push(b']');
                        continue;
                    }
                    self.at += 1;
                }
                Some(b'"') => self.pass_string()?,
                _ => drop(self.scalar()?),
            }
            loop {
                match (open.last(), self.peek()) {
                    (None, _) => return Ok(()),
                    (Some(b'}'), Some(b',' | b'}')) => {
                        if self.key(&mut false)?.is_some() {
                            break;
                        }
                        open.pop();
                    }
                    (Some(b']'), Some(b',')) => {
                        self.at += 1;
                        break;
                    }
                    (Some(b']'), Some(b']')) => {
                        self.at += 1;
                        open.pop();
                    }
                    _ => return self.broken(),
                }
            }
        }
    }

    /// Passes a string over.
    fn pass_string(&mut self) -> Result<(), Broken> {
        self.take(b'"')?;
        loop {
            match self.text.get(self.at) {
                None => return self.broken(),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.at = self.text.len().min(self.at + 2),
                Some(_) => self.at += 1,
            }
        }
    }

    /// Reads a string; what is broken in it becomes U+FFFD.
    fn string(&mut self) -> Result<String, Broken> {
        let start = self.at + 1;
        self.pass_string()?;
        let inner = &self.text[start..self.at - 1];
        let text = String::from_utf8_lossy(inner);
        Ok(if text.contains('\\') { unescaped(&text) } else { text.into_owned() })
    }

    /// Reads the items of the array that begins here, and what can be read of them where one is broken.
    fn items(&mut self, tail: Tail, keep: &mut impl FnMut(Result<Value, Broken>)) -> Result<(), Broken> {
        self.take(b'[')?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.peek();
            let start = self.at;
            let item = self.item();
            // A broken item may seem to end, and the page does not go on as one behind it.
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

    /// Reads what follows the items of a page.
    fn tail(&mut self, tail: Tail) -> Result<(), Broken> {
        match tail {
            Tail::Nothing => self.end(),
            Tail::Fields => self.fields(&mut None),
        }
    }

    /// Reads an item and what separates it from the next; whether there is a next one.
    fn item(&mut self) -> Result<(Value, bool), Broken> {
        let item = self.value(Pick::App)?;
        let more = match self.peek() {
            Some(b',') => true,
            Some(b']') => false,
            _ => return self.broken(),
        };
        self.at += 1;
        Ok((item, more))
    }
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let unit = |text: &str| {
            let digits =
                text.strip_prefix('u')?.get(..4).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
            u16::from_str_radix(digits, 16).ok()
        };
        let simple = match after.as_bytes().first() {
            Some(byte @ (b'"' | b'\\' | b'/')) => Some(char::from(*byte)),
            Some(b'b') => Some('\u{8}'),
            Some(b'f') => Some('\u{c}'),
            Some(b'n') => Some('\n'),
            Some(b'r') => Some('\r'),
            Some(b't') => Some('\t'),
            _ => None,
        };
        rest = match (simple, unit(after)) {
            (Some(character), _) => {
                plain.push(character);
                &after[1..]
            }
            (None, Some(first)) => {
                let second = after[5..].strip_prefix('\\').and_then(unit);
                let pair = second.map(|second| char::decode_utf16([first, second]));
                match (char::from_u32(first.into()), pair.and_then(|mut pair| pair.next()?.ok())) {
                    (Some(character), _) => plain.push(character),
                    (None, Some(character)) => {
                        plain.push(character);
                        rest = &after[11..];
                        continue;
                    }
                    (None, None) => plain.push(char::REPLACEMENT_CHARACTER),
                }
                &after[5..]
            }
            (None, None) => {
                plain.push(char::REPLACEMENT_CHARACTER);
                after
            }
        };
    }
    plain + rest
}

/// How much is read in search of the items behind a broken one, as a multiple of the text's length: a text that is made
/// to be searched for ever is given up.
const EFFORT: usize = 16;

/// The way through the items of an array of which at least one is broken.
///
/// Where an item breaks, the place where the next one begins is not known: a quotation mark that is missing turns text
/// into structure and structure into text. Each place that looks like the beginning of an item is tried. An object within
/// a broken item is not taken for an item, since the array that it is in ends where the page does not.
struct Recovery<'a> {
    text: &'a [u8],
    starts: Vec<usize>,
    follows: Vec<Follows>,
    /// Behind the array.
    end: usize,
}

/// What stands behind an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    /// The item that begins there, by its number among the starts.
    Item(usize),
    /// The end of the items.
    End,
    /// Nothing that fits: this is not an item of the page.
    Nonsense,
    /// The item itself is broken.
    Broken(Broken),
}

impl<'a> Recovery<'a> {
    /// Searches from the beginning of a broken item. `None` where no end of the items is found.
    fn new(reader: &Reader<'a>, tail: Tail) -> Option<Self> {
        let text = reader.text;
        let mut effort = text.len().saturating_mul(EFFORT);
        let end = end_of_items(text, reader.at, tail, &mut effort)?;
        let starts = starts(text, reader.at, end);
        let mut follows = vec![Follows::Nonsense; starts.len()];
        // From the last to the first, so that what follows an item is known already.
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
                    match starts.binary_search(&attempt.at) {
                        Ok(next) if follows[next] != Follows::Nonsense => Follows::Item(next),
                        Ok(_) | Err(_) => Follows::Nonsense,
                    }
                }
            };
        }
        Some(Self { text, starts, follows, end })
    }

    fn read(&self, reader: &mut Reader<'_>, keep: &mut impl FnMut(Result<Value, Broken>)) {
        let mut at = 0;
        while at < self.starts.len() {
            let start = self.starts[at];
            let next = match self.follows[at] {
                follows @ (Follows::Item(_) | Follows::End) => {
                    reader.at = start;
                    keep(reader.item().map(|(item, _)| item));
                    if let Follows::Item(next) = follows { Some(next) } else { None }
                }
                Follows::Broken(broken) => {
                    keep(Err(broken));
                    self.after(at)
                }
                Follows::Nonsense => {
                    keep(Err(Broken { at: start }));
                    self.after(at)
                }
            };
            let Some(next) = next else { break };
            at = next;
        }
        reader.at = self.end;
    }

    /// The next item behind a broken one: one that can be read, or one that is broken, too, and begins like this one.
    fn after(&self, broken: usize) -> Option<usize> {
        let beginning = self.beginning(broken);
        (broken + 1..self.starts.len()).find(|index| match self.follows[*index] {
            Follows::Item(_) | Follows::End => true,
            Follows::Broken(_) => self.beginning(*index) == beginning,
            Follows::Nonsense => false,
        })
    }

    /// The text of an item as far as the end of its first key.
    fn beginning(&self, index: usize) -> &[u8] {
        let rest = &self.text[self.starts[index]..];
        let colon = rest.iter().take(64).position(|byte| *byte == b':');
        &rest[..colon.unwrap_or(0)]
    }
}

/// Every place from `from` on that looks like the beginning of an item: a brace behind a comma.
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

/// Behind the first bracket after which the text ends as a page does.
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
    fn what_nothing_depends_on_is_not_kept() {
        kept(
            Pick::App,
            r#"{"_id":"a","env":{"KEY":"hush"},"currentResourceMetrics":{"online":true,"cpu":1},"teamId":[{"code":"hush"}]}"#,
            r#"{"_id":"a","currentResourceMetrics":{"online":true}}"#,
        );
        kept(Pick::App, r#"{"_id":{"x":1},"name":[1]}"#, r#"{"_id":{},"name":[]}"#);
        kept(Pick::Message, r#"{"error":"a","detail":{"deep":["hush"]}}"#, r#"{"error":"a"}"#);
    }

    #[test]
    fn text_costs_nothing() {
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
    fn numbers_nesting_and_duplicates_cost_nothing() {
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
        // Two that disagree say nothing.
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
    fn what_is_not_json_is_found_where_it_is() {
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
    fn a_broken_item_hides_no_other() {
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
    fn a_page_that_was_cut_is_none() {
        let whole = r#"{"applications":[{"_id":"a"},{"_id":"b"}],"pagination":{"totalItems":2}}"#;
        assert!(items(whole).is_ok());
        for length in 0..whole.len() - 1 {
            assert!(items(&whole[..length]).is_err(), "{}", &whole[..length]);
        }
        // What stands beside the items may be broken, if the page has an end.
        let odd = page(br#"{"applications":[{"_id":"a"}],"totalUsedRAM":52 MB,"pagination":{}}"#, &mut |_| {}).unwrap();
        assert_eq!(odd.broken, Some(Broken { at: 48 }));
    }

    #[test]
    fn a_text_that_is_made_to_be_searched_for_ever_is_given_up() {
        let hostile = format!(r"[{{x,{}]", r#"{"a":[1,"#.repeat(50_000));
        assert!(items(&hostile).is_err());
    }
}
