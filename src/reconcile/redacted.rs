//! Text of the server, without our tokens.
//!
//! A server may repeat the token of a request in a message, a `status` or a name. Such text is kept and shown only as
//! [`Redacted`], and only [`Secrets::redact`] makes one of it: before anything is cut, so that no half of a token is
//! left. Decisions use the decoded value. The tokens are those that the caller knows; this module remembers none.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;
use secrecy::{ExposeSecret as _, SecretString};

/// A shorter token is not searched for: as a part of ordinary words it would make text unreadable.
pub const SHORTEST: usize = 8;
/// Stands for a token.
const COVER: &str = "***";
/// Percent-encoding is undone at most so often: a message may quote a URL that quotes a URL.
const LAYERS: usize = 4;

/// Text of the server that holds none of our tokens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Redacted(Arc<str>);

impl Redacted {
    /// The text on one line of at most `longest` characters; `None` if nothing is left of it.
    #[must_use]
    pub fn line(&self, longest: usize) -> Option<Self> {
        let line: String = self.0.chars().map(|c| if c.is_control() { ' ' } else { c }).take(longest).collect();
        let line = line.trim();
        (!line.is_empty()).then(|| Self(line.into()))
    }

    /// The text, shared.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

/// Our own words: the server cannot have made them.
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

/// The part of a token's base64 that does not depend on its neighbours.
struct Encoded {
    core: SecretString,
    /// Whether the character before it holds bits of the token, too.
    before: bool,
    /// Whether the character after it does.
    after: bool,
}

impl Token {
    /// A token with its encodings.
    pub fn new(value: SecretString) -> Self {
        let token = value.expose_secret();
        let encoded = if token.len() < SHORTEST {
            Vec::new()
        } else {
            // Base64 turns 3 bytes into 4 characters, so that it depends on where in its text the token begins.
            let shifted = (0..3).map(|shift| ([&b"\0\0"[..shift], token.as_bytes()].concat(), shift));
            shifted
                .flat_map(|(bytes, shift)| {
                    [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD].map(|engine| core(engine.encode(&bytes), shift, bytes.len()))
                })
                .collect()
        };
        Self(Arc::new(Forms { value, encoded }))
    }

    /// The token itself, to send.
    pub fn value(&self) -> &SecretString {
        &self.0.value
    }

    /// Whether it is too short to be searched for.
    pub fn is_short(&self) -> bool {
        self.0.value.expose_secret().len() < SHORTEST
    }

    fn find(&self, text: &[u8], found: &mut impl FnMut(Range<usize>)) {
        if self.is_short() {
            return;
        }
        let token = self.0.value.expose_secret();
        each(text, token.as_bytes(), |start| found(start..start + token.len()));
        for Encoded { core, before, after } in &self.0.encoded {
            let length = core.expose_secret().len();
            each(text, core.expose_secret().as_bytes(), |start| {
                let part = |at: usize| text.get(at).is_some_and(|byte| base64_character(*byte));
                let begin = start - usize::from(*before && start > 0 && part(start - 1));
                let mut end = start + length;
                end += usize::from(*after && part(end));
                end += text[end..].iter().take(2).take_while(|byte| **byte == b'=').count();
                found(begin..end);
            });
        }
    }
}

fn core(text: String, shift: usize, bytes: usize) -> Encoded {
    let (first, end) = ((8 * shift).div_ceil(6), 8 * bytes / 6);
    let core = SecretString::from(&text[first..end]);
    // The rest of the text goes the way of the token: it is wiped when it is dropped.
    drop(SecretString::from(text));
    Encoded { core, before: shift > 0, after: !(8 * bytes).is_multiple_of(6) }
}

fn base64_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte)
}

/// Calls `found` with the start of every occurrence, overlapping ones included.
fn each(text: &[u8], part: &[u8], mut found: impl FnMut(usize)) {
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

/// The tokens that must not be in a text.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Vec<Token>);

impl FromIterator<Token> for Secrets {
    fn from_iter<T: IntoIterator<Item = Token>>(tokens: T) -> Self {
        Self(tokens.into_iter().collect())
    }
}

impl Secrets {
    /// Text that may hold words of the server, with every token in it covered: as it is, percent-encoded (also in part,
    /// or more than once) and in base64 (standard or URL-safe, padded or not, alone or within a longer text).
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

    /// Whether a token is in the text.
    pub fn are_in(&self, text: &str) -> bool {
        !self.find(text).is_empty()
    }

    /// The places of tokens, in no order.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        if text.len() < SHORTEST {
            return found;
        }
        for token in &self.0 {
            token.find(text.as_bytes(), &mut |range| found.push(range));
        }
        let mut layer = Layer::of(text);
        for _ in 0..LAYERS {
            let Some(decoded) = layer.as_ref().and_then(Layer::decoded) else { break };
            for token in &self.0 {
                token.find(&decoded.bytes, &mut |range| {
                    found.push(decoded.places[range.start]..decoded.places[range.end]);
                });
            }
            layer = Some(decoded);
        }
        found
    }
}

/// A text with the percent-encoding undone, and where in the original each byte begins.
struct Layer {
    bytes: Vec<u8>,
    /// One more than there are bytes: the last is the end.
    places: Vec<usize>,
}

impl Layer {
    /// `None` where nothing is encoded.
    fn of(text: &str) -> Option<Self> {
        text.contains('%').then(|| Self { bytes: text.as_bytes().to_vec(), places: (0..=text.len()).collect() })
    }

    fn decoded(&self) -> Option<Self> {
        let digit = |at: usize| self.bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        let mut at = 0;
        while let Some(byte) = self.bytes.get(at) {
            places.push(self.places[at]);
            if let (b'%', Some(high), Some(low)) = (byte, digit(at + 1), digit(at + 2)) {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            } else {
                bytes.push(*byte);
                at += 1;
            }
        }
        places.push(self.places[at]);
        (bytes.len() < self.bytes.len()).then_some(Self { bytes, places })
    }
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
        /// Wherever it stands in a text that is encoded, no eight characters of its encoding are left.
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
            // The characters before and after are as they were; what stood for the token is gone.
            let kept = redacted.len() - COVER.len() - 2;
            prop_assert!(kept <= whole.len() - (end - first), "{redacted} of {whole}");
        }

        #[test]
        fn redacting_never_panics(text in "([%2541a-f+/=é-]|token-token){0,40}") {
            let secrets = secrets(&["token-token", "%%25%41aaaa"]);
            prop_assert!(!secrets.redact(&text).contains("token-token"));
        }
    }
}
