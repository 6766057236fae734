//! One webhook: its address, which is a secret, and the delivery of a message to it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::hmac;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect, retry};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::warn;

use super::message::Message;
use crate::clock::Clock;
use crate::http::is_loopback_host;
use crate::proxy::Proxy;
use crate::reconcile::backoff;
use crate::tls;

/// Deadline for one attempt.
const DEADLINE: Duration = Duration::from_secs(10);
/// Maximum number of attempts for one message, while later ones wait.
const ATTEMPTS: u32 = 5;
/// Longest wait that a service can request.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// The largest body of an answer that is read, in bytes.
const BODY: usize = 4 * 1024;
/// The largest file of an address or a secret, in bytes.
const FILE: u64 = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Discord,
    Slack,
    Webhook,
}

impl Service {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discord => "discord",
            Self::Slack => "slack",
            Self::Webhook => "webhook",
        }
    }

    /// The flag that names its file.
    const fn flag(self) -> &'static str {
        match self {
            Self::Discord => "--notify-discord-file",
            Self::Slack => "--notify-slack-file",
            Self::Webhook => "--notify-webhook-file",
        }
    }
}

/// Error of a webhook file. It does not show the content of the file.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {path}: {why}")]
pub struct HookError {
    flag: &'static str,
    path: PathBuf,
    why: String,
}

/// A webhook.
pub struct Hook {
    pub service: Service,
    url: SecretString,
    key: Option<hmac::Key>,
    client: Client,
    /// Wait before an attempt, after a number of failed ones.
    waits: backoff::Schedule,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hook({})", self.service.as_str())
    }
}

/// The end of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Delivered,
    /// The service refused the message; a retry would not help.
    Refused,
    /// No attempt was answered.
    Failed,
}

impl Delivery {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// An attempt that did not deliver.
enum Attempt {
    Delivered,
    Refused(StatusCode),
    /// A retry may help, after this wait if the service requested one.
    Retry {
        why: String,
        after: Option<Duration>,
    },
}

impl Hook {
    /// Reads the address in `file`, and the secret of the signature in `secret`.
    pub fn from_files(service: Service, file: &Path, secret: Option<&Path>) -> Result<Self, HookError> {
        let wrong = |why: &str| HookError { flag: service.flag(), path: file.to_owned(), why: why.to_owned() };
        let text = read(service.flag(), file)?;
        let url: Url =
            text.expose_secret().parse().map_err(|_| wrong("expected one URL, such as https://HOST/PATH"))?;
        let host = url.host_str().ok_or_else(|| wrong("the URL has no host"))?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback_host(host) => {}
            _ => return Err(wrong("the URL must begin with https://; its path is a secret")),
        }
        let secret = secret.map(|secret| read("--notify-webhook-secret-file", secret)).transpose()?;
        let key = secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes()));
        let proxy =
            Proxy::from_environment(&url, url.scheme() == "https").map_err(|error| wrong(&error.to_string()))?;
        let client = Client::builder()
            .user_agent(concat!("campos-operator/", env!("CARGO_PKG_VERSION")))
            // Another host must not receive the message.
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .timeout(DEADLINE)
            .tls_backend_preconfigured(tls::config(url.scheme() == "https"));
        let client = Proxy::configure(proxy.as_ref(), client);
        let client = client.build().map_err(|error| wrong(&error.without_url().to_string()))?;
        Ok(Self { service, url: text, key, client, waits: backoff::PER_APP })
    }

    /// Sends a message, with retries.
    pub async fn deliver(&self, message: &Message) -> Delivery {
        let service = self.service.as_str();
        let body = match self.service {
            Service::Discord => message.discord(),
            Service::Slack => message.slack(),
            Service::Webhook => message.webhook(Clock::wall_now()),
        }
        .to_string();
        for attempt in 1..=ATTEMPTS {
            match self.attempt(&body).await {
                Attempt::Delivered => return Delivery::Delivered,
                Attempt::Refused(status) => {
                    warn!(
                        service,
                        status = status.as_u16(),
                        "the service refused a notification; check the URL in its file"
                    );
                    return Delivery::Refused;
                }
                Attempt::Retry { why, .. } if attempt == ATTEMPTS => {
                    warn!(service, error = why, attempts = ATTEMPTS, "could not send a notification; it is dropped");
                }
                Attempt::Retry { after, .. } => {
                    let wait = after.unwrap_or_else(|| self.waits.ceiling(attempt));
                    tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
                }
            }
        }
        Delivery::Failed
    }

    async fn attempt(&self, body: &str) -> Attempt {
        let mut request =
            self.client.post(self.url.expose_secret()).header(CONTENT_TYPE, "application/json").body(body.to_owned());
        if let Some(key) = &self.key {
            let signature = hmac::sign(key, body.as_bytes());
            let hex: Vec<String> = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            request = request.header("x-campos-signature", format!("sha256={}", hex.concat()));
        }
        match request.send().await {
            Ok(answer) => judge(answer).await,
            Err(error) => Attempt::Retry { why: causes(&error.without_url()), after: None },
        }
    }
}

/// Returns the result of an answer.
async fn judge(mut answer: Response) -> Attempt {
    let status = answer.status();
    if status.is_success() {
        return Attempt::Delivered;
    }
    if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() && status != StatusCode::REQUEST_TIMEOUT {
        return Attempt::Refused(status);
    }
    let seconds = |text: &str| Duration::try_from_secs_f64(text.trim().parse().ok()?).ok();
    let header = answer.headers().get(RETRY_AFTER).and_then(|value| seconds(value.to_str().ok()?));
    let mut body = Vec::new();
    while body.len() < BODY
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    // The body of Discord's answer is more exact than its header.
    let body = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let named = body.and_then(|body| Duration::try_from_secs_f64(body["retry_after"].as_f64()?).ok());
    Attempt::Retry { why: format!("HTTP {}", status.as_u16()), after: named.or(header) }
}

/// An error and its causes, without the URL.
fn causes(error: &reqwest::Error) -> String {
    let first = if error.is_timeout() { "no answer in time".to_owned() } else { error.to_string() };
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    std::iter::once(first).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

/// The one line of a file.
fn read(flag: &'static str, path: &Path) -> Result<SecretString, HookError> {
    use std::io::Read as _;

    let wrong = |why: String| HookError { flag, path: path.to_owned(), why };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(FILE).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    match text.trim() {
        "" => Err(wrong("the file is empty".to_owned())),
        text if text.lines().count() > 1 => Err(wrong("expected one line".to_owned())),
        text => Ok(SecretString::from(text.to_owned())),
    }
}
