//! The proxy that a request goes through, if the environment names one.
//!
//! An empty variable counts as unset. A variable that cannot be read is an error: going around a proxy silently is a
//! way out of the network that its administrator closed. Messages never repeat a value, since it may hold a password.

use std::sync::Arc;

use hyper::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::{ClientBuilder, NoProxy};

/// A proxy variable that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The value is not an address.
    #[error("{0} is not the address of a proxy; expected http://HOST:PORT, or an empty value for no proxy")]
    Unreadable(&'static str),
    /// The value is the address of a proxy that speaks another protocol than HTTP.
    #[error(
        "{0} names a proxy that is not an HTTP proxy; expected http://HOST:PORT or https://HOST:PORT, \
         or an empty value for no proxy"
    )]
    Unsupported(&'static str),
}

/// The proxies of the environment.
#[derive(Clone, Default)]
pub(crate) struct Proxies(Option<Arc<Proxy>>);

struct Proxy {
    /// May hold a password.
    address: String,
    except: String,
    matcher: Matcher,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Proxies(1)" } else { "Proxies(0)" })
    }
}

impl Proxies {
    /// No proxy for any address.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Reads `HTTPS_PROXY` (with `https` set; otherwise `HTTP_PROXY`), `ALL_PROXY` and `NO_PROXY`. The name in lower case
    /// counts where the one in capitals is unset. A CGI script gets `HTTP_PROXY` from a request's header, so it is not
    /// read in capitals there.
    pub(crate) fn from_environment(https: bool) -> Result<Self, ProxyError> {
        Self::from_variables(https, |name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    fn from_variables(https: bool, environment: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| Some((*name, environment(name).filter(|value| !value.trim().is_empty())?)))
        };
        let cgi = environment("REQUEST_METHOD").is_some();
        let own: &[&'static str] = match (https, cgi) {
            (true, _) => &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
            (false, false) => &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
            (false, true) => &["http_proxy", "ALL_PROXY", "all_proxy"],
        };
        let Some((name, value)) = first(own) else { return Ok(Self::none()) };
        let except = first(&["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
        let address = proxy_address(name, value.trim())?;
        // The library's own `*` does not cover addresses that are numbers.
        if except.split(',').any(|entry| entry.trim() == "*") {
            return Ok(Self::none());
        }
        let matcher = Matcher::builder().all(&address).no(&except).build();
        Ok(Self(Some(Arc::new(Proxy { address, except, matcher }))))
    }

    /// The proxy for `uri`.
    pub(crate) fn intercept(&self, uri: &Uri) -> Option<Intercept> {
        self.0.as_ref()?.matcher.intercept(uri)
    }

    /// A client of reqwest that uses these proxies and no others.
    pub(crate) fn configure(&self, client: ClientBuilder) -> reqwest::Result<ClientBuilder> {
        let client = client.no_proxy();
        let Some(Proxy { address, except, .. }) = self.0.as_deref() else { return Ok(client) };
        Ok(client.proxy(reqwest::Proxy::all(address)?.no_proxy(NoProxy::from_string(except))))
    }
}

/// A proxy's address with its scheme.
fn proxy_address(name: &'static str, value: &str) -> Result<String, ProxyError> {
    let text = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url: reqwest::Url = text.parse().map_err(|_| ProxyError::Unreadable(name))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ProxyError::Unsupported(name));
    }
    // Url mends spaces and backslashes, the matcher's parser does not and would ignore the variable.
    let known = Matcher::builder().all(text.clone()).build();
    if url.host_str().is_none_or(str::is_empty) || known.intercept(&Uri::from_static("https://host.invalid/")).is_none()
    {
        return Err(ProxyError::Unreadable(name));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(https: bool, variables: &[(&str, &str)]) -> Result<Proxies, ProxyError> {
        Proxies::from_variables(https, |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[track_caller]
    fn case(variables: &[(&str, &str)], uri: &'static str, proxy: Option<&str>) {
        let found = proxies(uri.starts_with("https"), variables).unwrap().intercept(&Uri::from_static(uri));
        assert_eq!(found.map(|found| found.uri().to_string()).as_deref(), proxy, "{variables:?} {uri}");
    }

    #[test]
    fn the_environment_names_the_proxy_and_its_exceptions() {
        let api = "https://api.test/v1/apps";
        let proxy = Some("http://p:3128/");
        case(&[], api, None);
        case(&[("HTTPS_PROXY", "http://p:3128")], api, proxy);
        case(&[("HTTPS_PROXY", "p:3128")], api, proxy);
        case(&[("https_proxy", "http://user:hush@p:3128")], api, proxy);
        case(&[("HTTPS_PROXY", ""), ("ALL_PROXY", "http://p:3128")], api, proxy);
        case(&[("HTTPS_PROXY", "  "), ("https_proxy", "")], api, None);
        case(&[("HTTP_PROXY", "http://p:3128")], api, None);
        case(&[("HTTP_PROXY", "http://p:3128")], "http://daemon.test/", proxy);
        case(&[("HTTP_PROXY", "http://p:3128"), ("REQUEST_METHOD", "GET")], "http://daemon.test/", None);
        for except in ["*", "other.test, *", "api.test", ".test", "other.test,api.test"] {
            case(&[("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", except)], api, None);
        }
        case(&[("HTTPS_PROXY", "http://p:3128"), ("no_proxy", "*")], "https://192.0.2.1/", None);
        case(&[("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", "192.0.2.0/24")], "https://192.0.2.1/", None);
        for except in ["", "other.test", "pi.test"] {
            case(&[("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", except)], api, proxy);
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_read_is_an_error_without_its_value() {
        for value in
            ["http://", "http://user:hush@", "http://p:port-hush", "http://hush hush:1", "://hush", "hu|sh:1:2"]
        {
            let error = proxies(true, &[("HTTPS_PROXY", value)]).unwrap_err();
            assert_eq!(error, ProxyError::Unreadable("HTTPS_PROXY"), "{value}");
            assert!(!error.to_string().contains("hush"));
        }
        let socks = proxies(true, &[("all_proxy", "socks5://user:hush@p:1080")]).unwrap_err();
        assert_eq!(socks, ProxyError::Unsupported("all_proxy"));
        assert!(!socks.to_string().contains("hush"));
    }
}
