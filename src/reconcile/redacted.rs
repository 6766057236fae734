//! Text of the server, without tokens.
//!
//! A server may repeat the token of a request in a message, a `status` or a name. Such text is stored and published
//! only as [`Redacted`]. Only [`Secrets::redact`] creates it, before the text is cut, so that no half of a token is
//! left. Decisions use the decoded value. The caller passes the tokens; this module stores none.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;
use secrecy::{ExposeSecret as _, SecretString};

use crate::printable;

/// Minimum length of a token that is redacted: a shorter one, as a part of ordinary words, would make text unreadable.
pub const SHORTEST: usize = 8;
/// Replacement of a token.
const COVER: &str = "***";
/// Maximum number of encodings that are undone: a message may quote a URL that quotes a URL, or JSON in JSON.
const LAYERS: usize = 4;

/// Text of the server that contains no token.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Redacted(Arc<str>);

impl Redacted {
    /// The text on one line of at most `longest` characters; `None` if nothing is left.
    #[must_use]
    pub fn line(&self, longest: usize) -> Option<Self> {
        let line: String = self.0.chars().map(|c| if c.is_control() { ' ' } else { c }).take(longest).collect();
        let line = line.trim();
        (!line.is_empty()).then(|| Self(line.into()))
    }

    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

/// Text of the operator, which cannot contain a token.
impl From<&'static str> for Redacted {
    fn from(text: &'static str) -> Self {
        Self(text.into())
    }
}

impl Deref for Redacted {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A token, with every form in which it is searched for.
#[derive(Clone)]
pub struct Token(Arc<Forms>);

struct Forms {
    value: SecretString,
    encoded: Vec<Encoded>,
}

/// The part of the base64 of a token that does not depend on its neighbours.
struct Encoded {
    core: SecretString,
    /// Whether the character before it holds bits of the token, too.
    before: bool,
    /// Whether the character after it does.
    after: bool,
}

impl Token {
    pub fn new(value: SecretString) -> Self {
        let token = value.expose_secret();
        let encoded = if token.len() < SHORTEST {
            Vec::new()
        } else {
            // Base64 turns 3 bytes into 4 characters, so that it depends on the position of the token in its text.
            let shifted = (0..3).map(|shift| ([&b"\0\0"[..shift], token.as_bytes()].concat(), shift));
            shifted
                .flat_map(|(bytes, shift)| {
                    [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD].map(|engine| core(engine.encode(&bytes), shift, bytes.len()))
                })
                .collect()
        };
        Self(Arc::new(Forms { value, encoded }))
    }

    pub fn value(&self) -> &SecretString {
        &self.0.value
    }

    /// Returns whether it is too short to be searched for.
    pub fn is_short(&self) -> bool {
        self.0.value.expose_secret().len() < SHORTEST
    }

    /// `joined(at)`: whether the byte at `at` follows the one before it without a gap.
    fn find(&self, text: &[u8], joined: impl Fn(usize) -> bool, found: &mut impl FnMut(Range<usize>)) {
        if self.is_short() {
            return;
        }
        let token = self.0.value.expose_secret();
        each(text, token.as_bytes(), |start| found(start..start + token.len()));
        for Encoded { core, before, after } in &self.0.encoded {
            let length = core.expose_secret().len();
            each(text, core.expose_secret().as_bytes(), |start| {
                let part = |at: usize| text.get(at).is_some_and(|byte| base64_character(*byte));
                let begin = start - usize::from(*before && start > 0 && part(start - 1) && joined(start));
                let mut end = start + length;
                end += usize::from(*after && part(end) && joined(end));
                end += text[end..].iter().take(2).take_while(|byte| **byte == b'=').count();
                found(begin..end);
            });
        }
    }
}

fn core(text: String, shift: usize, bytes: usize) -> Encoded {
    let (first, end) = ((8 * shift).div_ceil(6), 8 * bytes / 6);
    let core = SecretString::from(&text[first..end]);
    // The rest of the text is wiped when it is dropped, as the token is.
    drop(SecretString::from(text));
    Encoded { core, before: shift > 0, after: !(8 * bytes).is_multiple_of(6) }
}

fn base64_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte)
}

/// Calls `found` with the start of every occurrence, overlapping ones included.
fn each(text: &[u8], part: &[u8], mut found: impl FnMut(usize)) {
    if text.len() < part.len() {
        return;
    }
    let finder = memmem::Finder::new(part);
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| finder.find(rest)) {
        found(from + at);
        from += at + 1;
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.value().expose_secret() == other.value().expose_secret()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The tokens that no text may contain.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Vec<Token>);

impl FromIterator<Token> for Secrets {
    fn from_iter<T: IntoIterator<Item = Token>>(tokens: T) -> Self {
        Self(tokens.into_iter().collect())
    }
}

impl Secrets {
    /// Replaces every token in a text of the server: as it is, in base64 (standard or
    /// URL-safe, padded or not, alone or within a longer text), and either of them percent-encoded, with the escapes of
    /// JSON or HTML (also in part, or more than once), or split by white space, control or format characters.
    pub fn redact(&self, text: &str) -> Redacted {
        let mut found = self.find(text);
        if found.is_empty() {
            return Redacted(text.into());
        }
        found.sort_unstable_by_key(|range| (range.start, range.end));
        let mut covered = String::with_capacity(text.len());
        let mut at = 0;
        for range in found {
            // Places that touch or overlap are one.
            if covered.is_empty() || range.start > at {
                covered.push_str(&text[at..range.start]);
                covered.push_str(COVER);
            }
            at = at.max(range.end);
        }
        covered.push_str(&text[at..]);
        Redacted(covered.into())
    }

    /// Returns whether a token is in the text.
    pub fn are_in(&self, text: &str) -> bool {
        !self.find(text).is_empty()
    }

    /// The places of tokens, unordered.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        if text.len() < SHORTEST {
            return found;
        }
        for token in &self.0 {
            token.find(text.as_bytes(), |_| true, &mut |range| found.push(range));
        }
        let mut layer = Layer::of(text);
        for _ in 0..LAYERS {
            let Some(decoded) = layer.as_ref().and_then(Layer::decoded) else { break };
            for token in &self.0 {
                let joined = |at: usize| decoded.places[at - 1].end == decoded.places[at].start;
                token.find(&decoded.bytes, joined, &mut |range| {
                    found.push(decoded.places[range.start].start..decoded.places[range.end - 1].end);
                });
            }
            layer = Some(decoded);
        }
        found
    }
}

/// A text with one layer of its encoding undone, and the place of each byte in the original.
struct Layer {
    bytes: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Layer {
    /// `None` where nothing is encoded or left out.
    fn of(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"%\\&".contains(&byte);
        let layer = || Self { bytes: text.as_bytes().to_vec(), places: (0..text.len()).map(|at| at..at + 1).collect() };
        (!text.bytes().all(plain)).then(layer)
    }

    /// Undoes one layer, and removes separators, which are no part of a token.
    fn decoded(&self) -> Option<Self> {
        let mut decoded = Self { bytes: Vec::new(), places: Vec::new() };
        let mut at = 0;
        while let Some(byte) = self.bytes.get(at) {
            let rest = &self.bytes[at..];
            let (length, part) = match byte {
                b'%' => percent(rest),
                b'\\' => backslash(rest),
                b'&' => entity(rest),
                _ => None,
            }
            .unwrap_or_else(|| itself(rest));
            let place = self.places[at].start..self.places[at + length - 1].end;
            let mut buffer = [0; 4];
            let bytes = match part {
                Part::Byte(byte) => {
                    buffer[0] = byte;
                    &buffer[..1]
                }
                Part::Char(c) if c.is_whitespace() || printable::acts(c) => &[],
                Part::Char(c) => c.encode_utf8(&mut buffer).as_bytes(),
            };
            decoded.bytes.extend_from_slice(bytes);
            decoded.places.extend(bytes.iter().map(|_| place.clone()));
            at += length;
        }
        (decoded.bytes.len() < self.bytes.len()).then_some(decoded)
    }
}

/// Meaning of some bytes of a layer.
enum Part {
    /// Possibly a part of a character.
    Byte(u8),
    Char(char),
}

fn itself(text: &[u8]) -> (usize, Part) {
    let first = text.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
    first.map_or((1, Part::Byte(text[0])), |c| (c.len_utf8(), Part::Char(c)))
}

/// `%41`
fn percent(text: &[u8]) -> Option<(usize, Part)> {
    Some((3, Part::Byte(u8::try_from(number(text.get(1..3)?, 16)?).ok()?)))
}

/// `\/`, `\n`, `\x41`, `\u0041`, `\u{41}`
fn backslash(text: &[u8]) -> Option<(usize, Part)> {
    let code = |digits: Range<usize>, length| Some((length, character(number(text.get(digits)?, 16)?)));
    match text.get(1)? {
        b'x' => Some((4, Part::Byte(u8::try_from(number(text.get(2..4)?, 16)?).ok()?))),
        b'u' if text.get(2) == Some(&b'{') => {
            let end = text.iter().take(11).position(|byte| *byte == b'}')?;
            code(3..end, end + 1)
        }
        b'u' => code(2..6, 6),
        b'n' | b'r' | b't' | b'b' | b'f' | b'0' => Some((2, Part::Char('\n'))),
        byte if byte.is_ascii_punctuation() => Some((2, Part::Byte(*byte))),
        _ => None,
    }
}

/// `&#65;`, `&#x41;`, `&amp;`
fn entity(text: &[u8]) -> Option<(usize, Part)> {
    let end = text.iter().take(10).position(|byte| *byte == b';')?;
    let part = match &text[1..end] {
        [b'#', b'x' | b'X', digits @ ..] => character(number(digits, 16)?),
        [b'#', digits @ ..] => character(number(digits, 10)?),
        b"amp" => Part::Byte(b'&'),
        b"lt" => Part::Byte(b'<'),
        b"gt" => Part::Byte(b'>'),
        b"quot" => Part::Byte(b'"'),
        b"apos" => Part::Byte(b'\''),
        b"sol" => Part::Byte(b'/'),
        b"plus" => Part::Byte(b'+'),
        b"equals" => Part::Byte(b'='),
        _ => return None,
    };
    Some((end + 1, part))
}

/// A code without a character is no part of a token.
fn character(code: u32) -> Part {
    Part::Char(char::from_u32(code).unwrap_or('\n'))
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let all = !digits.is_empty() && digits.iter().all(|digit| char::from(*digit).is_digit(radix));
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok().filter(|_| all)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "Qx7v/Rt2+LmZ9pKd4WsB6nHj8?gC3~yTa5E";

    fn secrets(tokens: &[&str]) -> Secrets {
        tokens.iter().map(|token| Token::new(SecretString::from(*token))).collect()
    }

    #[track_caller]
    fn case(text: &str, redacted: &str) {
        assert_eq!(&*secrets(&[TOKEN]).redact(text), redacted, "{text}");
    }

    fn percent(text: &str, upper: bool) -> String {
        text.bytes().map(|byte| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") }).collect()
    }

    #[test]
    fn every_form_of_a_token_is_covered() {
        case("nothing of it", "nothing of it");
        case(&format!("key {TOKEN} is bad"), "key *** is bad");
        case(&format!("{TOKEN}{TOKEN}"), "***");
        case(&format!("ç{TOKEN}é%"), "ç***é%");
        case(&percent(TOKEN, true), "***");
        case(&format!("?k={}&x=%C3%A9", percent(TOKEN, false)), "?k=***&x=%C3%A9");
        let partly = TOKEN.replace('/', "%2F").replace('+', "%2b").replace('?', "%3F");
        case(&format!("/{partly}/"), "/***/");
        case(&format!("/{}/", partly.replace('%', "%25")), "/***/");
        for engine in [&STANDARD, &URL_SAFE, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            case(&format!("b64 {} end", engine.encode(TOKEN)), "b64 *** end");
            case(&format!("q={}", percent(&engine.encode(TOKEN), true)), "q=***");
        }
    }

    #[test]
    fn a_percent_sign_of_the_token_itself_is_found() {
        let secrets = secrets(&["ab%41%25cdef"]);
        assert_eq!(&*secrets.redact("is ab%41%25cdef bad"), "is *** bad");
        assert_eq!(&*secrets.redact("is ab%2541%2525cdef bad"), "is *** bad");
    }

    #[test]
    fn a_token_in_escapes_or_split_is_covered_whole() {
        const TOKEN: &str = "Qx7vRt2L/Z9pKd4W+sB6nHj8FgC3yTa5E";
        let each = |escape: &dyn Fn(char) -> String| TOKEN.chars().map(escape).collect::<String>();
        let base64 = STANDARD.encode(format!("{}{TOKEN}", "x".repeat(40)));
        let forms = [
            each(&|c| format!("{c}\0")),
            each(&|c| format!("{c}\u{200b}")),
            each(&|c| format!("{c} ")),
            TOKEN.replacen("W+", "W\r\n\t+", 1),
            TOKEN.replacen("W+", "W\u{ad}+", 1),
            TOKEN.replace('/', "\\/"),
            TOKEN.replacen("W+", "W\\n+", 1),
            each(&|c| format!("\\u{:04x}", u32::from(c))),
            each(&|c| format!("\\\\u{:04X}", u32::from(c))),
            each(&|c| format!("\\u{{{:x}}}", u32::from(c))),
            each(&|c| format!("\\x{:02x}", u32::from(c))),
            each(&|c| format!("%5Cu{:04x}", u32::from(c))),
            TOKEN.replace('/', "&#x2F;").replace('+', "&#43;"),
            TOKEN.replace('/', "&sol;").replace('+', "&amp;plus;"),
            each(&|c| format!("&#{};", u32::from(c))),
        ];
        let secrets = secrets(&[TOKEN]);
        for form in forms {
            let said = secrets.redact(&format!("is {form} bad"));
            assert!(
                said.starts_with("is ***") && said.ends_with("bad") && said.len() <= "is *** bad".len() + 3,
                "{said:?}"
            );
        }
        let wrapped = format!("is {}\n{} bad", &base64[..70], &base64[70..]);
        let said = secrets.redact(&wrapped);
        assert!(said.len() < "is  bad".len() + 60, "{said:?}");
        assert_eq!(&*secrets.redact(&format!("it is {TOKEN} that is bad \\ & %")), "it is *** that is bad \\ & %");
    }

    #[test]
    fn overlapping_and_several_tokens_leave_nothing() {
        let secrets = secrets(&["aaaaaaaa", "aaaabbbbb"]);
        assert_eq!(&*secrets.redact("-aaaaaaaaaaabbbbb-aaaabbbbb-"), "-***-***-");
    }

    #[test]
    fn a_short_token_is_not_searched_for() {
        let short = secrets(&["active"]);
        assert_eq!(&*short.redact("active"), "active");
        assert!(Token::new(SecretString::from("1234567")).is_short());
        assert!(!Token::new(SecretString::from("12345678")).is_short());
    }

    #[test]
    fn nothing_is_cut_before_it_is_redacted() {
        let long = format!("{}{TOKEN} tail", "x".repeat(190));
        let line = secrets(&[TOKEN]).redact(&long).line(200).unwrap();
        assert_eq!(&*line, format!("{}*** tail", "x".repeat(190)));
    }

    proptest! {
        /// At any place of an encoded text, no eight characters of the encoded token are left.
        #[test]
        fn no_alignment_of_base64_is_left(
            before in "[ -~]{0,7}", after in "[ -~]{0,7}", token in "[!-~]{8,40}", url_safe in any::<bool>(), padded in any::<bool>(),
        ) {
            let engine = match (url_safe, padded) {
                (false, false) => &STANDARD_NO_PAD,
                (false, true) => &STANDARD,
                (true, false) => &URL_SAFE_NO_PAD,
                (true, true) => &URL_SAFE,
            };
            let whole = engine.encode(format!("{before}{token}{after}"));
            let redacted = secrets(&[&token]).redact(&format!("<{whole}>"));
            let first = (8 * before.len()).div_ceil(6);
            let end = 8 * (before.len() + token.len()) / 6;
            prop_assert!(redacted.contains(COVER), "{redacted}");
            // The characters before and after are unchanged, and the token is gone.
            let kept = redacted.len() - COVER.len() - 2;
            prop_assert!(kept <= whole.len() - (end - first), "{redacted} of {whole}");
        }

        #[test]
        fn redacting_never_panics(text in r"([%2541a-f+/=é \\&#xu{};-]|token-token){0,40}") {
            let secrets = secrets(&["token-token", "%%25%41aaaa"]);
            prop_assert!(!secrets.redact(&text).contains("token-token"));
        }
    }
}
