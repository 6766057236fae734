//! The proxy that a request goes through, if the environment names one.
//!
//! An empty variable counts as unset. An unreadable one is an error: a request without the proxy would bypass the
//! rules of the network. Messages never repeat a value, because it may contain a password.

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{ClientBuilder, Url};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    #[error("{0} is not the address of a proxy; expected http://HOST:PORT, or an empty value for no proxy")]
    Unreadable(&'static str),
    #[error(
        "{0} names a proxy that is not an HTTP proxy; expected http://HOST:PORT or https://HOST:PORT, \
         or an empty value for no proxy"
    )]
    Unsupported(&'static str),
}

/// The proxy on the way to one host.
pub(crate) struct Proxy {
    /// It may contain a password.
    proxy: reqwest::Proxy,
    uri: Uri,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({})", self.address())
    }
}

impl Proxy {
    /// Reads `HTTPS_PROXY` (with `https` set; otherwise `HTTP_PROXY`), `ALL_PROXY` and `NO_PROXY` for the host of
    /// `url`. The name in lower case counts if the one in capitals is unset. A CGI script gets `HTTP_PROXY` from a
    /// header of a request, so it is not read in capitals there.
    pub(crate) fn from_environment(url: &Url, https: bool) -> Result<Option<Self>, ProxyError> {
        Self::from_variables(url, https, |name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    pub(crate) fn from_variables(
        url: &Url,
        https: bool,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, ProxyError> {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| Some((*name, environment(name).filter(|value| !value.trim().is_empty())?)))
        };
        let cgi = environment("REQUEST_METHOD").is_some();
        let own: &[&'static str] = match (https, cgi) {
            (true, _) => &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
            (false, false) => &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
            (false, true) => &["http_proxy", "ALL_PROXY", "all_proxy"],
        };
        let Some((name, value)) = first(own) else { return Ok(None) };
        let except = first(&["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
        let value = value.trim();
        let address = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
        // reqwest ignores a proxy that its matcher cannot read.
        let known =
            Matcher::builder().all(address.clone()).build().intercept(&Uri::from_static("https://host.invalid/"));
        let uri = known.ok_or(ProxyError::Unreadable(name))?.uri().clone();
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(ProxyError::Unsupported(name));
        }
        let proxy = reqwest::Proxy::all(&address).map_err(|_| ProxyError::Unreadable(name))?;
        // `*` of the library does not match IP addresses.
        let all = except.split(',').any(|entry| entry.trim() == "*");
        let used = Matcher::builder().all(address).no(except).build();
        let goes_through = url.as_str().parse().is_ok_and(|url| used.intercept(&url).is_some());
        Ok((goes_through && !all).then_some(Self { proxy, uri }))
    }

    /// Host and port, without a password.
    pub(crate) fn address(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    pub(crate) fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.uri.scheme_str() == Some("http") { 80 } else { 443 })
    }

    /// Makes a client use this proxy, or none. Without this, reqwest would use an empty variable as set, and
    /// ignore an unreadable one.
    pub(crate) fn configure(proxy: Option<&Self>, client: ClientBuilder) -> ClientBuilder {
        match proxy {
            Some(proxy) => client.proxy(proxy.proxy.clone()),
            None => client.no_proxy(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(url: &str, variables: &[(&str, &str)]) -> Result<Option<Proxy>, ProxyError> {
        Proxy::from_variables(&url.parse().unwrap(), url.starts_with("https"), |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[track_caller]
    fn case(variables: &[(&str, &str)], url: &str, expected: Option<&str>) {
        let found = proxy(url, variables).unwrap();
        assert_eq!(found.as_ref().map(Proxy::address), expected, "{variables:?} {url}");
    }

    #[test]
    fn the_environment_names_the_proxy_and_its_exceptions() {
        let api = "https://api.test/v1/apps";
        let proxy = Some("p:3128");
        case(&[], api, None);
        case(&[("HTTPS_PROXY", "http://p:3128")], api, proxy);
        case(&[("HTTPS_PROXY", "p:3128")], api, proxy);
        case(&[("https_proxy", "http://user:hush@p:3128")], api, proxy);
        case(&[("HTTPS_PROXY", ""), ("ALL_PROXY", "http://p:3128")], api, proxy);
        case(&[("HTTPS_PROXY", ""), ("https_proxy", "http://p:3128")], api, proxy);
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
            let error = proxy("https://api.test", &[("HTTPS_PROXY", value)]).unwrap_err();
            assert_eq!(error, ProxyError::Unreadable("HTTPS_PROXY"), "{value}");
            assert!(!error.to_string().contains("hush"));
        }
        let socks = proxy("https://api.test", &[("all_proxy", "socks5://user:hush@p:1080")]).unwrap_err();
        assert_eq!(socks, ProxyError::Unsupported("all_proxy"));
        assert!(!socks.to_string().contains("hush"));
    }
}
