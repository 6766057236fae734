//! Which token is sent now?
//!
//! From the environment, or from a file that is read again when it changes and after a 401. The token cannot be
//! printed: it leaves this file only as a header value that is marked sensitive.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// The largest token file that is read, in bytes.
const MAX_TOKEN_FILE: u64 = 64 * 1024;

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
pub struct TokenSource(Origin);

enum Origin {
    Fixed(SecretString),
    File { path: PathBuf, last: Mutex<Last> },
}

#[derive(Default)]
struct Last {
    token: Option<(Stamp, SecretString)>,
    /// The state of the file whose token was refused; `None` where there was no file.
    refused: Option<Stamp>,
}

/// What tells one state of the file from another without reading it.
type Stamp = (u64, u64, i64, i64, u64);

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Origin::Fixed(_) => f.write_str("TokenSource(environment)"),
            Origin::File { path, .. } => write!(f, "TokenSource({})", path.display()),
        }
    }
}

impl TokenSource {
    /// A token that does not change.
    pub fn fixed(token: SecretString) -> Self {
        Self(Origin::Fixed(token))
    }

    /// A file that holds the token; white space around it is ignored.
    pub fn file(path: PathBuf) -> Self {
        Self(Origin::File { path, last: Mutex::default() })
    }

    /// The `Authorization` header to send now.
    ///
    /// A file that became unreadable is an error even when an older token is known: it was revoked or is being
    /// replaced, and sending the old one could get the account blocked.
    pub fn authorization(&self) -> Result<HeaderValue, TokenError> {
        match &self.0 {
            Origin::Fixed(token) => header(token, "in CAMPOSCLOUD_TOKEN"),
            Origin::File { path, last } => {
                let unreadable = |source| TokenError::Unreadable { path: path.clone(), source };
                let metadata = fs::metadata(path).map_err(unreadable)?;
                let stamp = stamp(&metadata);
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                let of = format!("in the file {}", path.display());
                if let Some((_, token)) = last.token.as_ref().filter(|(known, _)| *known == stamp) {
                    return header(token, &of);
                }
                if !metadata.is_file() || metadata.len() > MAX_TOKEN_FILE {
                    return Err(unreadable(std::io::Error::other("not a regular file of at most 64 KiB")));
                }
                let text = fs::read_to_string(path).map_err(unreadable)?;
                let token = SecretString::from(text.trim());
                if token.expose_secret().is_empty() {
                    return Err(TokenError::Empty(path.clone()));
                }
                let value = header(&token, &of)?;
                last.token = Some((stamp, token));
                Ok(value)
            }
        }
    }

    /// The token was refused: the next request reads the file again.
    pub fn refused(&self) {
        if let Origin::File { path, last } = &self.0 {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            last.refused = fs::metadata(path).ok().as_ref().map(stamp);
            last.token = None;
        }
    }

    /// Whether the file is another than the one whose token was refused.
    pub fn changed_since_refused(&self) -> bool {
        match &self.0 {
            Origin::Fixed(_) => false,
            Origin::File { path, last } => {
                let now = fs::metadata(path).ok().as_ref().map(stamp);
                now.is_some() && now != last.lock().unwrap_or_else(PoisonError::into_inner).refused
            }
        }
    }

    /// `text` with every occurrence of the token blotted out, in case a server echoes it.
    pub fn blot(&self, text: &str) -> String {
        let blot = |token: &SecretString| text.replace(token.expose_secret(), "***");
        match &self.0 {
            Origin::Fixed(token) => blot(token),
            Origin::File { last, .. } => {
                let last = last.lock().unwrap_or_else(PoisonError::into_inner);
                last.token.as_ref().map_or_else(|| text.to_owned(), |(_, token)| blot(token))
            }
        }
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    (metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
}

fn header(token: &SecretString, of: &str) -> Result<HeaderValue, TokenError> {
    let token = token.expose_secret();
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
        source.authorization().unwrap().to_str().unwrap().to_owned()
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
        assert!(matches!(source.authorization(), Err(TokenError::Empty(_))));
        fs::remove_file(&path).unwrap();
        assert!(matches!(source.authorization(), Err(TokenError::Unreadable { .. })));
    }

    #[test]
    fn nothing_prints_the_token() {
        let source = TokenSource::fixed(SecretString::from("hush-hush"));
        let value = source.authorization().unwrap();
        assert!(!format!("{source:?} {value:?}").contains("hush"));
        assert_eq!(source.blot("key hush-hush is bad"), "key *** is bad");
        let odd = TokenSource::fixed(SecretString::from("hush\nhush")).authorization().unwrap_err();
        assert!(!odd.to_string().contains("hush"));
    }
}
