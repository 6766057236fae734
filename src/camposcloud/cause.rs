//! The cause of a request without a response: a kind, a message, and advice.
//!
//! The text of a kind is the same at each attempt (no time, no local port, no order of addresses), so that the operator
//! logs the same failure once.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use super::connect::NameError;
use crate::platform::CONNECT_DEADLINE;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    Name(String),
    Refused,
    Unreachable,
    ConnectTimeout,
    ProxyPassword,
    ProxyRefused,
    Certificate(Certificate),
    NotTls,
    TlsRefused(String),
    Tls(String),
    NotHttp,
    Closed,
    Reset,
    Unacknowledged,
    Timeout(Duration),
    TooLarge(usize),
    Cut,
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Certificate {
    Expired(Option<Timestamp>),
    NotYetValid(Option<Timestamp>),
    UnknownIssuer,
    OtherName,
    /// The certificate of an authority instead of that of a server.
    Authority,
    Revoked,
    Unusable(String),
}

impl Cause {
    /// The kind of `error`, which other errors may wrap.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut other = None;
        for error in chain(error) {
            if let Some(error) = error.downcast_ref::<reqwest::Error>() {
                if error.is_connect() && error.is_timeout() {
                    return Self::ConnectTimeout;
                }
            } else if let Some(NameError(error)) = error.downcast_ref() {
                return Self::Name(name_error(error));
            } else if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Self::of_tls(error);
            } else if let Some(error) = error.downcast_ref::<hyper::Error>() {
                if error.is_parse() {
                    return Self::NotHttp;
                }
                if error.is_timeout() {
                    return Self::Unacknowledged;
                }
                if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
                    return Self::Closed;
                }
            } else if let Some(error) = error.downcast_ref::<io::Error>() {
                if let Some(cause) = Self::of_io(error) {
                    return cause;
                }
                other = Some(plain(error));
            } else if let Some(error) = error.downcast_ref::<h2::Error>() {
                match error.reason() {
                    Some(reason) if error.is_remote() => return Self::Other(format!("HTTP/2 error {reason:?}")),
                    Some(_) => return Self::NotHttp,
                    None => match error.get_io().and_then(Self::of_io) {
                        Some(cause) => return cause,
                        None => other = Some(error.to_string()),
                    },
                }
            } else {
                // The type of the errors of a tunnel is not public.
                match error.to_string().as_str() {
                    "tunnel error: proxy authorization required" => return Self::ProxyPassword,
                    "tunnel error: unsuccessful" | "tunnel error: unexpected end of file" => return Self::ProxyRefused,
                    _ => {}
                }
            }
        }
        Self::Other(other.unwrap_or_else(|| chain(error).last().map(ToString::to_string).unwrap_or_default()))
    }

    fn of_io(error: &io::Error) -> Option<Self> {
        use io::ErrorKind as Kind;
        #[expect(clippy::wildcard_enum_match_arm, reason = "the list of kinds is open")]
        match error.kind() {
            Kind::ConnectionRefused => Some(Self::Refused),
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => Some(Self::Unreachable),
            Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted => Some(Self::Reset),
            Kind::UnexpectedEof => Some(Self::Closed),
            Kind::TimedOut => Some(Self::Unacknowledged),
            _ => None,
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the list of errors is open")]
        match error {
            rustls::Error::InvalidCertificate(error) => Self::Certificate(Certificate::of(error)),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::AlertReceived(alert) => Self::TlsRefused(format!("{alert:?}")),
            error => Self::Tls(error.to_string()),
        }
    }

    /// Returns whether the other end sent nothing, not even a refusal.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Unacknowledged)
    }

    /// The text, and the advice if there is any.
    fn text(&self) -> (String, &'static str) {
        let advised = |text: &str, advice| (text.to_owned(), advice);
        let plain = |text: &str| (text.to_owned(), "");
        match self {
            Self::Name(why) => (format!("the name cannot be resolved ({why})"), "check --api-url and the name server"),
            Self::Refused => advised("connection refused", "check --api-url, and that the server runs"),
            Self::Unreachable => advised("no route to the host", "check the network and the firewall"),
            Self::ConnectTimeout => {
                (format!("no connection within {CONNECT_DEADLINE:?}"), "check the network and the firewall")
            }
            Self::ProxyPassword => {
                advised("the proxy requires a password (407)", "put the proxy's user and password into HTTPS_PROXY")
            }
            Self::ProxyRefused => advised(
                "the proxy refuses the connection",
                "check HTTPS_PROXY and the proxy's rules, or name the host in NO_PROXY",
            ),
            Self::Certificate(error) => error.text(),
            Self::NotTls => advised("the server does not speak TLS", "check the scheme and the port of --api-url"),
            Self::TlsRefused(alert) => (format!("the server refuses TLS ({alert})"), ""),
            Self::Tls(why) => (format!("TLS failed ({why})"), ""),
            Self::NotHttp => advised("the server does not speak HTTP", "check the scheme and the port of --api-url"),
            Self::Closed => plain("connection closed before the response"),
            Self::Reset => plain("connection reset"),
            Self::Unacknowledged => plain("the connection is dead: the other end no longer acknowledges"),
            Self::Timeout(deadline) => (format!("no whole answer within {deadline:?}"), ""),
            Self::TooLarge(cap) => (format!("the answer is larger than {} KiB", cap >> 10), ""),
            Self::Cut => plain("connection lost in the middle of the response"),
            Self::Other(why) => plain(why),
        }
    }
}

impl Certificate {
    fn of(error: &CertificateError) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the list of errors is open")]
        match error {
            CertificateError::Expired => Self::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired(timestamp(*not_after)),
            CertificateError::NotValidYet => Self::NotYetValid(None),
            CertificateError::NotValidYetContext { not_before, .. } => Self::NotYetValid(timestamp(*not_before)),
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::OtherName,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Self::Authority,
            CertificateError::Other(other) => Self::Unusable(other.to_string()),
            error => Self::Unusable(error.to_string()),
        }
    }

    fn text(&self) -> (String, &'static str) {
        let text = match self {
            Self::Expired(Some(at)) => format!("the certificate expired at {at}"),
            Self::Expired(None) => "the certificate has expired".to_owned(),
            Self::NotYetValid(Some(at)) => format!("the certificate is not valid before {at}"),
            Self::NotYetValid(None) => "the certificate is not valid yet".to_owned(),
            Self::UnknownIssuer => "the certificate is not from an authority that this machine trusts".to_owned(),
            Self::OtherName => "the certificate is for another host".to_owned(),
            Self::Authority => "the certificate is that of an authority, not that of a server".to_owned(),
            Self::Revoked => "the certificate was revoked".to_owned(),
            Self::Unusable(why) => format!("the certificate cannot be used ({why})"),
        };
        let advice = match self {
            Self::Expired(_) => "the server needs a new certificate; if it has one, check the clock of this machine",
            Self::NotYetValid(_) => "check the clock of this machine",
            Self::UnknownIssuer => "if it is a private authority, name its certificate in SSL_CERT_FILE",
            Self::OtherName => "check the host in --api-url",
            Self::Authority => "let the authority issue a certificate for the server, without CA:TRUE",
            Self::Revoked | Self::Unusable(_) => "the server needs another certificate",
        };
        (text, advice)
    }
}

/// A cause with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TransportError {
    /// Host and port, and the proxy.
    pub(super) place: String,
    pub(super) cause: Cause,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, advice) = self.cause.text();
        let separator = if advice.is_empty() { "" } else { "; " };
        write!(f, "{text} ({}){separator}{advice}", self.place)
    }
}

/// An error and its causes, outermost first. The error inside an `io::Error` is its content, not its source.
pub(super) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The text of an error of the operating system, without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(text, _)| text.to_lowercase())
}

/// The text of getaddrinfo, without its prefix.
fn name_error(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    words.to_lowercase()
}

fn timestamp(time: UnixTime) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(time.as_secs()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: &(dyn Error + 'static)) -> TransportError {
        TransportError { place: "api.test:443".to_owned(), cause: Cause::of(error) }
    }

    #[track_caller]
    fn said(error: impl Error + Send + Sync + 'static, text: &str) {
        assert_eq!(of(&io::Error::other(io::Error::other(error))).to_string(), text);
    }

    fn certificate(error: CertificateError) -> rustls::Error {
        rustls::Error::InvalidCertificate(error)
    }

    #[test]
    fn an_error_names_cause_host_and_remedy_in_one_line() {
        said(
            io::Error::from_raw_os_error(111),
            "connection refused (api.test:443); check --api-url, and that the server runs",
        );
        said(
            io::Error::from_raw_os_error(113),
            "no route to the host (api.test:443); check the network and the firewall",
        );
        said(io::Error::from_raw_os_error(104), "connection reset (api.test:443)");
        said(io::Error::from_raw_os_error(24), "too many open files (api.test:443)");
        said(
            NameError(io::Error::other("failed to lookup address information: Name or service not known")),
            "the name cannot be resolved (name or service not known) (api.test:443); check --api-url and the name server",
        );
        said(
            certificate(CertificateError::UnknownIssuer),
            "the certificate is not from an authority that this machine trusts (api.test:443); if it is a private \
             authority, name its certificate in SSL_CERT_FILE",
        );
        said(
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
            "the server does not speak TLS (api.test:443); check the scheme and the port of --api-url",
        );
    }

    #[test]
    fn the_time_of_the_attempt_does_not_change_a_certificate_error() {
        let expired = |seconds| {
            let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let error = CertificateError::ExpiredContext { time: at(seconds), not_after: at(1_790_000_000) };
            of(&certificate(error))
        };
        assert_eq!(expired(1_800_000_000), expired(1_800_000_060));
        assert_eq!(
            expired(1_800_000_000).to_string(),
            "the certificate expired at 2026-09-21T14:13:20Z (api.test:443); the server needs a new certificate; if it \
             has one, check the clock of this machine"
        );
    }

    #[test]
    fn no_layer_of_the_libraries_shows() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Inner(&'static str);
        let error = CertificateError::Other(rustls::OtherError(std::sync::Arc::new(Inner("CaUsedAsEndEntity"))));
        let text = of(&certificate(error)).to_string();
        assert!(
            text.starts_with("the certificate is that of an authority, not that of a server (api.test:443)"),
            "{text}"
        );
    }
}
