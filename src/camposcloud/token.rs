//! Which token is sent now?
//!
//! From the environment, or from a file that is read again when it changes and after a 401. The token cannot be
//! printed: it leaves this file only as a header value that is marked sensitive.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tracing::warn;

use crate::reconcile::redacted::{SHORTEST, Secrets, Token};

/// The largest token file that is read, in bytes.
const MAX_TOKEN_FILE: u64 = 64 * 1024;
/// How many tokens are remembered, so that text of the server that comes after a rotation is redacted, too.
const REMEMBERED: usize = 8;

/// Why there is no token to send. Never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("reading the token file {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no token.
    #[error("the token file {0} is empty")]
    Empty(PathBuf),
    /// The text cannot be a token.
    #[error("the token {0} contains a character that cannot be sent in a header (only visible ASCII can)")]
    Unsendable(String),
}

/// Where the token comes from.
pub struct TokenSource {
    origin: Origin,
    /// The last tokens that were sent, newest last.
    used: Mutex<VecDeque<Token>>,
}

/// A token to send with one request.
#[derive(Debug)]
pub struct Current {
    /// The `Authorization` header.
    pub header: HeaderValue,
    /// What the answer may not show.
    pub token: Token,
}

enum Origin {
    Fixed(Token),
    File { path: PathBuf, last: Mutex<Last> },
}

#[derive(Default)]
struct Last {
    token: Option<(Stamp, Token)>,
    /// The state of the file whose token was refused; `None` where there was no file.
    refused: Option<Stamp>,
}

/// What tells one state of the file from another without reading it.
type Stamp = (u64, u64, i64, i64, u64);

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.origin {
            Origin::Fixed(_) => f.write_str("TokenSource(environment)"),
            Origin::File { path, .. } => write!(f, "TokenSource({})", path.display()),
        }
    }
}

impl TokenSource {
    /// A token that does not change.
    pub fn fixed(token: SecretString) -> Self {
        Self { origin: Origin::Fixed(Token::new(token)), used: Mutex::default() }
    }

    /// A file that holds the token; white space around it is ignored.
    pub fn file(path: PathBuf) -> Self {
        Self { origin: Origin::File { path, last: Mutex::default() }, used: Mutex::default() }
    }

    /// The token to send now.
    ///
    /// A file that became unreadable is an error even when an older token is known: it was revoked or is being
    /// replaced, and sending the old one could get the account blocked.
    pub fn current(&self) -> Result<Current, TokenError> {
        let (header, token) = match &self.origin {
            Origin::Fixed(token) => (header(token, "in CAMPOSCLOUD_TOKEN")?, token.clone()),
            Origin::File { path, last } => {
                let unreadable = |source| TokenError::Unreadable { path: path.clone(), source };
                let metadata = fs::metadata(path).map_err(unreadable)?;
                let stamp = stamp(&metadata);
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                let of = format!("in the file {}", path.display());
                if let Some((_, token)) = last.token.as_ref().filter(|(known, _)| *known == stamp) {
                    return Ok(Current { header: header(token, &of)?, token: token.clone() });
                }
                if !metadata.is_file() || metadata.len() > MAX_TOKEN_FILE {
                    return Err(unreadable(std::io::Error::other("not a regular file of at most 64 KiB")));
                }
                let text = fs::read_to_string(path).map_err(unreadable)?;
                let token = Token::new(SecretString::from(text.trim()));
                if token.value().expose_secret().is_empty() {
                    return Err(TokenError::Empty(path.clone()));
                }
                let value = header(&token, &of)?;
                last.token = Some((stamp, token.clone()));
                (value, token)
            }
        };
        self.remember(&token);
        Ok(Current { header, token })
    }

    /// Every token that text of the server may hold: the one that a request was sent with, and the last ones that were.
    pub fn secrets(&self, sent: Option<&Token>) -> Secrets {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.iter().chain(sent.filter(|sent| !used.contains(sent))).cloned().collect()
    }

    fn remember(&self, token: &Token) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.back() == Some(token) {
            return;
        }
        if let Some(before) = used.iter().position(|known| known == token) {
            used.remove(before);
        } else if token.is_short() {
            warn!("the token has fewer than {SHORTEST} characters; if the server repeats it, the log will show it");
        }
        used.push_back(token.clone());
        if used.len() > REMEMBERED {
            used.pop_front();
        }
    }

    /// The token was refused: the next request reads the file again.
    pub fn refused(&self) {
        if let Origin::File { path, last } = &self.origin {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            last.refused = fs::metadata(path).ok().as_ref().map(stamp);
            last.token = None;
        }
    }

    /// Whether the file is another than the one whose token was refused.
    pub fn changed_since_refused(&self) -> bool {
        match &self.origin {
            Origin::Fixed(_) => false,
            Origin::File { path, last } => {
                let now = fs::metadata(path).ok().as_ref().map(stamp);
                now.is_some() && now != last.lock().unwrap_or_else(PoisonError::into_inner).refused
            }
        }
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    (metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
}

fn header(token: &Token, of: &str) -> Result<HeaderValue, TokenError> {
    let token = token.value().expose_secret();
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::Unsendable(of.to_owned()));
    }
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| TokenError::Unsendable(of.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(source: &TokenSource) -> String {
        source.current().unwrap().header.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_file_is_trimmed_and_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "\n one \r\n").unwrap();
        let source = TokenSource::file(path.clone());
        assert_eq!(sent(&source), "Bearer one");
        fs::write(dir.path().join("new"), "second").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(sent(&source), "Bearer second");
        fs::write(&path, " \n").unwrap();
        source.refused();
        assert!(!source.changed_since_refused());
        fs::write(&path, "  \n").unwrap();
        assert!(source.changed_since_refused());
        assert!(matches!(source.current(), Err(TokenError::Empty(_))));
        fs::remove_file(&path).unwrap();
        assert!(matches!(source.current(), Err(TokenError::Unreadable { .. })));
    }

    #[test]
    fn nothing_prints_the_token() {
        let source = TokenSource::fixed(SecretString::from("hush-hush"));
        let current = source.current().unwrap();
        assert!(!format!("{source:?} {current:?} {:?}", source.secrets(None)).contains("hush"));
        assert_eq!(&*source.secrets(None).redact("key hush-hush is bad"), "key *** is bad");
        let odd = TokenSource::fixed(SecretString::from("hush\nhush")).current().unwrap_err();
        assert!(!odd.to_string().contains("hush"));
    }

    #[test]
    fn the_last_eight_tokens_and_the_one_that_was_sent_are_redacted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let source = TokenSource::file(path.clone());
        // Of different lengths: the time of a file may be too coarse to tell one state from the next.
        let all: Vec<String> = (0..10).map(|number| format!("{number}-a-token{}", "-".repeat(number))).collect();
        let mut first = None;
        for token in &all {
            fs::write(&path, token).unwrap();
            first.get_or_insert(source.current().unwrap().token);
        }
        let shown = |secrets: Secrets| all.iter().filter(|token| secrets.redact(token).contains("token")).count();
        assert_eq!(shown(source.secrets(None)), 2);
        assert_eq!(shown(source.secrets(first.as_ref())), 1, "the answer to a request that was sent long ago");
    }
}
