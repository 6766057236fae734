//! The token for the next request.
//!
//! It comes from the environment, or from a file that is read again when it changes and after a 401. The token cannot
//! be printed: it leaves this module only as a header value that is marked sensitive.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::reconcile::redacted::{SHORTEST, Secrets, Token};

/// The largest token file that is read, in bytes.
const MAX_TOKEN_FILE: u64 = 64 * 1024;
/// Number of past tokens that text of the server is searched for, because a response may arrive after a rotation.
const REMEMBERED: usize = 8;

/// The cause why there is no token to send. It never contains a part of a token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    #[error("reading the token file {path}")]
    Unreadable { path: PathBuf, source: Arc<std::io::Error> },
    #[error("reading the token file {0}: the file system does not answer")]
    Silent(PathBuf),
    #[error("the token file {0} is empty")]
    Empty(PathBuf),
    #[error("the token {0} contains a character that cannot be sent in a header (only visible ASCII can)")]
    Unsendable(String),
}

/// The source of the token.
pub struct TokenSource {
    origin: Origin,
    /// The last tokens that were sent, newest last.
    used: Mutex<VecDeque<Token>>,
}

/// A token to send with one request.
#[derive(Debug)]
pub struct Current {
    pub header: HeaderValue,
    /// The token that the text of the response may not show.
    pub token: Token,
}

enum Origin {
    Fixed(Token),
    File(Arc<TokenFile>),
}

/// Longest wait for the file system. After it, the request uses the last token.
const FILE_TIMEOUT: Duration = Duration::from_secs(2);

/// A file that holds the token. Separate threads read it, so that neither requests nor the loop wait for a file system
/// that does not answer.
struct TokenFile {
    path: PathBuf,
    known: Mutex<Known>,
    /// The running check, or the last one.
    check: Mutex<Option<Check>>,
}

#[derive(Default)]
struct Known {
    token: Option<(Stamp, Token)>,
    /// Whether the next check reads the file also if its state is the same.
    again: bool,
    /// The state of the file at the last check; `None` without a file.
    seen: Option<Stamp>,
    /// The state of the file whose token the server refused; `None` without a file.
    refused: Option<Stamp>,
    /// Whether the warning about the permissions of the file was logged.
    open: bool,
    /// Whether the warning about the file system was logged.
    silent: bool,
}

#[derive(Clone)]
struct Check {
    began: Instant,
    result: watch::Receiver<Option<Result<Token, TokenError>>>,
}

impl Check {
    fn is_done(&self) -> bool {
        self.result.borrow().is_some() || self.result.has_changed().is_err()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TokenFile {
    /// Starts a check of the file, unless one is running.
    fn check(self: &Arc<Self>) -> Check {
        let mut last = lock(&self.check);
        if let Some(check) = last.as_ref().filter(|check| !check.is_done()) {
            return check.clone();
        }
        let (done, result) = watch::channel(None);
        let file = self.clone();
        tokio::task::spawn_blocking(move || done.send_replace(Some(file.read())));
        let check = Check { began: Instant::now(), result };
        *last = Some(check.clone());
        check
    }

    /// The token in the file; the last known one if the file system does not answer.
    async fn token(self: &Arc<Self>) -> Result<Token, TokenError> {
        let Check { began, mut result } = self.check();
        let read = tokio::time::timeout_at(began + FILE_TIMEOUT, result.wait_for(Option::is_some)).await;
        if let Ok(Ok(result)) = read
            && let Some(result) = &*result
        {
            return result.clone();
        }
        let mut known = lock(&self.known);
        let token = known.token.as_ref().map(|(_, token)| token.clone());
        let token = token.ok_or_else(|| TokenError::Silent(self.path.clone()))?;
        if !std::mem::replace(&mut known.silent, true) {
            let file = self.path.display();
            warn!(%file, "the file system of the token file does not answer; using the last token");
        }
        Ok(token)
    }

    /// Reads the file if it has changed. Holds no lock while it waits for the file system.
    ///
    /// A file that became unreadable is an error even if an older token is known: the token was revoked or is being
    /// replaced, and sending the old one could block the account.
    fn read(&self) -> Result<Token, TokenError> {
        let unreadable = |source| TokenError::Unreadable { path: self.path.clone(), source: Arc::new(source) };
        let metadata = fs::metadata(&self.path);
        let seen = metadata.as_ref().ok().map(stamp);
        {
            let mut known = lock(&self.known);
            (known.seen, known.silent) = (seen, false);
            let again = known.again;
            if let Some((_, token)) = known.token.as_ref().filter(|(state, _)| Some(*state) == seen && !again) {
                return Ok(token.clone());
            }
        }
        let metadata = metadata.map_err(unreadable)?;
        if !metadata.is_file() || metadata.len() > MAX_TOKEN_FILE {
            return Err(unreadable(std::io::Error::other("not a regular file of at most 64 KiB")));
        }
        let text = fs::read_to_string(&self.path).map_err(unreadable)?;
        let token = Token::new(SecretString::from(text.trim()));
        if token.value().expose_secret().is_empty() {
            return Err(TokenError::Empty(self.path.clone()));
        }
        header(&token, &self.of())?;
        let mut known = lock(&self.known);
        (known.token, known.again) = (Some((stamp(&metadata), token.clone())), false);
        if metadata.mode() & OTHERS != 0 && !std::mem::replace(&mut known.open, true) {
            warn!(
                file = %self.path.display(),
                mode = format!("{:04o}", metadata.mode() & 0o7777),
                "other users of this machine can read the token file; chmod 600 keeps it to its owner"
            );
        }
        Ok(token)
    }

    fn of(&self) -> String {
        format!("in the file {}", self.path.display())
    }
}

/// Permission of other users to read a file.
const OTHERS: u32 = 0o004;

/// The state of the file, compared without reading it: device, inode, time of modification, length.
type Stamp = (u64, u64, i64, i64, u64);

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.origin {
            Origin::Fixed(_) => f.write_str("TokenSource(environment)"),
            Origin::File(file) => write!(f, "TokenSource({})", file.path.display()),
        }
    }
}

impl TokenSource {
    pub fn fixed(token: SecretString) -> Self {
        Self { origin: Origin::Fixed(Token::new(token)), used: Mutex::default() }
    }

    /// A token in a file; white space around it is ignored.
    pub fn file(path: PathBuf) -> Self {
        let file = TokenFile { path, known: Mutex::default(), check: Mutex::default() };
        Self { origin: Origin::File(Arc::new(file)), used: Mutex::default() }
    }

    /// The token to send now. Waits at most for [`FILE_TIMEOUT`]; must be called within a runtime.
    pub async fn current(&self) -> Result<Current, TokenError> {
        let (header, token) = match &self.origin {
            Origin::Fixed(token) => (header(token, "in CAMPOSCLOUD_TOKEN")?, token.clone()),
            Origin::File(file) => {
                let token = file.token().await?;
                (header(&token, &file.of())?, token)
            }
        };
        self.remember(&token);
        Ok(Current { header, token })
    }

    /// The tokens that a text of the server may contain: the token of the request, and the last ones before it.
    pub fn secrets(&self, sent: Option<&Token>) -> Secrets {
        let used = lock(&self.used);
        used.iter().chain(sent.filter(|sent| !used.contains(sent))).cloned().collect()
    }

    fn remember(&self, token: &Token) {
        let mut used = lock(&self.used);
        if used.back() == Some(token) {
            return;
        }
        if let Some(before) = used.iter().position(|known| known == token) {
            used.remove(before);
        } else if token.is_short() {
            warn!(
                "the token has fewer than {SHORTEST} characters, so the operator does not remove it from texts of the server; check that the token is complete"
            );
        }
        used.push_back(token.clone());
        if used.len() > REMEMBERED {
            used.pop_front();
        }
    }

    /// Records that the server refused the token: the next request reads the file again.
    pub fn refused(&self) {
        if let Origin::File(file) = &self.origin {
            let mut known = lock(&file.known);
            (known.refused, known.token) = (known.seen, None);
        }
    }

    /// Makes the next request read the file again, and allows a refused token again. If the file system does not
    /// answer, the last token stays in use.
    pub fn reload(&self) {
        if let Origin::File(file) = &self.origin {
            let mut known = lock(&file.known);
            (known.refused, known.again) = (None, true);
        }
    }

    /// Returns whether the file has changed since the server refused its token, according to the last check. Starts the
    /// next check. Must be called within a runtime.
    pub fn changed_since_refused(&self) -> bool {
        match &self.origin {
            Origin::Fixed(_) => false,
            Origin::File(file) => {
                file.check();
                let known = lock(&file.known);
                known.seen.is_some() && known.seen != known.refused
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
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).expect("visible ASCII is a header value");
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(source: &TokenSource) -> String {
        source.current().await.unwrap().header.to_str().unwrap().to_owned()
    }

    async fn changes(source: &TokenSource) -> bool {
        source.changed_since_refused();
        let Origin::File(file) = &source.origin else { panic!("a file") };
        file.check().result.wait_for(Option::is_some).await.unwrap();
        let changed = source.changed_since_refused();
        // That began another check, which must not see what the test does next.
        file.check().result.wait_for(Option::is_some).await.unwrap();
        changed
    }

    #[tokio::test]
    async fn a_file_is_trimmed_and_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "\n one \r\n").unwrap();
        let source = TokenSource::file(path.clone());
        assert_eq!(sent(&source).await, "Bearer one");
        fs::write(dir.path().join("new"), "second").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(sent(&source).await, "Bearer second");
        source.refused();
        assert!(!changes(&source).await);
        source.reload();
        assert!(changes(&source).await, "a reload tries it again");
        source.refused();
        fs::write(&path, "  \n").unwrap();
        assert!(changes(&source).await);
        assert!(matches!(source.current().await, Err(TokenError::Empty(_))));
        source.refused();
        assert!(!changes(&source).await, "a file without a token is tried once");
        fs::remove_file(&path).unwrap();
        assert!(matches!(source.current().await, Err(TokenError::Unreadable { .. })));
        assert!(!changes(&source).await);
    }

    /// A check that never ends, because its thread is blocked in the file system.
    #[tokio::test(start_paused = true)]
    async fn a_hung_file_system_costs_one_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "the-token").unwrap();
        let source = TokenSource::file(path.clone());
        let Origin::File(file) = &source.origin else { panic!("a file") };
        let (_stuck, result) = watch::channel(None);
        let hang = || *lock(&file.check) = Some(Check { began: Instant::now(), result: result.clone() });
        hang();
        assert!(matches!(source.current().await, Err(TokenError::Silent(_))));
        *lock(&file.check) = None;
        assert_eq!(sent(&source).await, "Bearer the-token");
        hang();
        let began = Instant::now();
        for _ in 0..100 {
            assert_eq!(sent(&source).await, "Bearer the-token");
            assert!(source.changed_since_refused());
        }
        assert_eq!(began.elapsed(), FILE_TIMEOUT);
        source.reload();
        assert_eq!(sent(&source).await, "Bearer the-token", "a reload does not lose it");
        *lock(&file.check) = None;
        // The state of the file is the same, so only the reload makes the next check read it.
        lock(&file.known).token.as_mut().unwrap().1 = Token::new(SecretString::from("an-older-one"));
        assert_eq!(sent(&source).await, "Bearer the-token");
        lock(&file.known).token.as_mut().unwrap().1 = Token::new(SecretString::from("an-older-one"));
        assert_eq!(sent(&source).await, "Bearer an-older-one");
    }

    #[tokio::test]
    async fn nothing_prints_the_token() {
        let source = TokenSource::fixed(SecretString::from("hush-hush"));
        let current = source.current().await.unwrap();
        assert!(!format!("{source:?} {current:?} {:?}", source.secrets(None)).contains("hush"));
        assert_eq!(&*source.secrets(None).redact("key hush-hush is bad"), "key *** is bad");
        let odd = TokenSource::fixed(SecretString::from("hush\nhush")).current().await.unwrap_err();
        assert!(!odd.to_string().contains("hush"));
    }

    #[tokio::test]
    async fn the_last_eight_tokens_and_the_one_that_was_sent_are_redacted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let source = TokenSource::file(path.clone());
        // Of different lengths: the time of a file may be too coarse to distinguish two states.
        let all: Vec<String> = (0..10).map(|number| format!("{number}-a-token{}", "-".repeat(number))).collect();
        let mut first = None;
        for token in &all {
            fs::write(&path, token).unwrap();
            let token = source.current().await.unwrap().token;
            first.get_or_insert(token);
        }
        let shown = |secrets: Secrets| all.iter().filter(|token| secrets.redact(token).contains("token")).count();
        assert_eq!(shown(source.secrets(None)), 2);
        assert_eq!(shown(source.secrets(first.as_ref())), 1, "the answer to a request that was sent long ago");
    }
}
