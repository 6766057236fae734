//! The cause of a request without a response: a kind, a text for people, and what to do about it.
//!
//! The text of a kind never changes from one attempt to the next (no time, no port of ours, no order of addresses), so
//! the same trouble is the same text and is logged once.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use super::connect::NameError;
use crate::platform::CONNECT_DEADLINE;

/// The kinds of causes.
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

/// The kinds of certificate errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Certificate {
    Expired(Option<Timestamp>),
    NotYetValid(Option<Timestamp>),
    UnknownIssuer,
    OtherName,
    /// An authority's own certificate, where a server's belongs.
    Authority,
    Revoked,
    Unusable(String),
}

impl Cause {
    /// The kind of `error`, which may be wrapped by any number of others.
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
        Self::Other(other.unwrap_or_else(|| innermost(error)))
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

    /// Whether nothing came from the other end, not even a refusal.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Unacknowledged)
    }

    /// Advice, where there is some.
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Name(_) => Some("check --api-url and the name server"),
            Self::Refused => Some("check --api-url, and that the server runs"),
            Self::Unreachable | Self::ConnectTimeout => Some("check the network and the firewall"),
            Self::ProxyPassword => Some("put the proxy's user and password into HTTPS_PROXY"),
            Self::ProxyRefused => Some("check HTTPS_PROXY and the proxy's rules, or name the host in NO_PROXY"),
            Self::Certificate(error) => Some(error.advice()),
            Self::NotTls => Some("check the scheme and the port of --api-url"),
            Self::NotHttp => Some("check the scheme and the port of --api-url"),
            Self::TlsRefused(_)
            | Self::Tls(_)
            | Self::Closed
            | Self::Reset
            | Self::Unacknowledged
            | Self::Timeout(_)
            | Self::TooLarge(_)
            | Self::Cut
            | Self::Other(_) => None,
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

    fn advice(&self) -> &'static str {
        match self {
            Self::Expired(_) => "the server needs a new certificate; if it has one, check the clock of this machine",
            Self::NotYetValid(_) => "check the clock of this machine",
            Self::UnknownIssuer => "if it is a private authority, name its certificate in SSL_CERT_FILE",
            Self::OtherName => "check the host in --api-url",
            Self::Authority => "let the authority issue a certificate for the server, without CA:TRUE",
            Self::Revoked | Self::Unusable(_) => "the server needs another certificate",
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(Some(at)) => write!(f, "the certificate expired at {at}"),
            Self::Expired(None) => f.write_str("the certificate has expired"),
            Self::NotYetValid(Some(at)) => write!(f, "the certificate is not valid before {at}"),
            Self::NotYetValid(None) => f.write_str("the certificate is not valid yet"),
            Self::UnknownIssuer => f.write_str("the certificate is not from an authority that this machine trusts"),
            Self::OtherName => f.write_str("the certificate is for another host"),
            Self::Authority => f.write_str("the certificate is that of an authority, not that of a server"),
            Self::Revoked => f.write_str("the certificate was revoked"),
            Self::Unusable(why) => write!(f, "the certificate cannot be used ({why})"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(why) => write!(f, "the name cannot be resolved ({why})"),
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable => f.write_str("no route to the host"),
            Self::ConnectTimeout => write!(f, "no connection within {CONNECT_DEADLINE:?}"),
            Self::ProxyPassword => f.write_str("the proxy asks for a password"),
            Self::ProxyRefused => f.write_str("the proxy refuses the connection"),
            Self::Certificate(error) => error.fmt(f),
            Self::NotTls => f.write_str("the server does not speak TLS"),
            Self::TlsRefused(alert) => write!(f, "the server refuses TLS ({alert})"),
            Self::Tls(why) => write!(f, "TLS failed ({why})"),
            Self::NotHttp => f.write_str("the server does not speak HTTP"),
            Self::Closed => f.write_str("connection closed before the response"),
            Self::Reset => f.write_str("connection reset"),
            Self::Unacknowledged => f.write_str("the connection is dead: the other end no longer acknowledges"),
            Self::Timeout(deadline) => write!(f, "no whole answer within {deadline:?}"),
            Self::TooLarge(cap) => write!(f, "the answer is larger than {} KiB", cap >> 10),
            Self::Cut => f.write_str("connection lost in the middle of the response"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

/// A cause, and where it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TransportError {
    /// Host and port, and the proxy on the way there.
    pub(super) place: String,
    pub(super) cause: Cause,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.cause, self.place)?;
        self.cause.advice().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

/// An error and what caused it, outermost first. The error inside an `io::Error` is not its source, but its content.
pub(super) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// The text of an error of the operating system, without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(text, _)| text.to_lowercase())
}

/// getaddrinfo's own words, without the layers around them.
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
