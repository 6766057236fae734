//! Whom does https trust? The certificates of the system, and where it has none, those that are in the binary.
//!
//! An empty container image has no `/etc/ssl`, and the TLS library then refuses to work at all, for plain http too. What
//! is in the binary is never added to what the system has: whoever removed an authority there, or named a single one in
//! `SSL_CERT_FILE`, meant it.

use reqwest::{Certificate, Client, ClientBuilder};

/// Each names certificates to trust instead of the system's.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Builds an HTTP client. `builder` is asked again where the system has no certificates.
pub(crate) fn client(builder: impl Fn() -> ClientBuilder) -> reqwest::Result<Client> {
    builder().build().or_else(|error| {
        if VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) {
            // What was named cannot be read: to trust others instead is not what was asked for.
            return Err(error);
        }
        builder().tls_certs_merge(bundled()?).build()
    })
}

/// Mozilla's list of certificate authorities, as of the version of the crate.
fn bundled() -> reqwest::Result<Vec<Certificate>> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|certificate| Certificate::from_der(certificate)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificates_in_the_binary_can_all_be_used() {
        let certificates = bundled().unwrap();
        assert!(certificates.len() > 100, "{}", certificates.len());
        assert!(Client::builder().tls_certs_only(certificates).build().is_ok());
    }
}
