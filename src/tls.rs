//! The certificate authorities of https: those of the system, or of the binary if the system has none.
//!
//! `SSL_CERT_FILE` and `SSL_CERT_DIR` (several directories, separated by colons) replace the system's authorities, as
//! OpenSSL and rustls-native-certs document it. The authorities in the binary are never added to either: an
//! administrator may have removed one on purpose. So an unreadable file causes a warning and trusts no authority.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use tracing::warn;

const FILE: &str = "SSL_CERT_FILE";
const DIRECTORY: &str = "SSL_CERT_DIR";

/// A TLS configuration that trusts the authorities of this system. Loading them takes milliseconds, so without `https`
/// only those that a variable names are loaded.
pub(crate) fn config(https: bool) -> ClientConfig {
    let named = named(|name| std::env::var_os(name));
    let trust = match named {
        None if !https => Trust::none(),
        named => load(named),
    };
    for warning in &trust.warnings {
        warn!("{warning}");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
        .with_root_certificates(trust.roots)
        .with_no_client_auth()
}

/// The places of certificates that the variables name.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    file: Option<PathBuf>,
    directories: Vec<PathBuf>,
}

#[derive(Debug)]
struct Trust {
    roots: RootCertStore,
    warnings: Vec<String>,
}

impl Trust {
    fn none() -> Self {
        Self { roots: RootCertStore::empty(), warnings: Vec::new() }
    }

    fn add(&mut self, place: &str, found: CertificateResult) {
        for error in &found.errors {
            self.warnings.push(format!("{place}: {error}"));
        }
        let (_, unusable) = self.roots.add_parsable_certificates(found.certs);
        if unusable > 0 {
            self.warnings.push(format!("{place}: {unusable} certificates cannot be used"));
        }
    }
}

/// The places that the variables name; an empty variable counts as unset.
fn named(environment: impl Fn(&str) -> Option<OsString>) -> Option<Named> {
    let set = |name| environment(name).filter(|value| !value.is_empty());
    let file = set(FILE).map(PathBuf::from);
    let directories = set(DIRECTORY).map_or_else(Vec::new, |value| {
        std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect()
    });
    (file.is_some() || !directories.is_empty()).then_some(Named { file, directories })
}

fn load(named: Option<Named>) -> Trust {
    let mut trust = Trust::none();
    let Some(Named { file, directories }) = named else {
        trust.add("the certificates of this system", load_native_certs());
        if trust.roots.is_empty() {
            // An empty container image has no /etc/ssl, which is no reason for a warning.
            trust.warnings.clear();
            trust.roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        }
        return trust;
    };
    let places = file
        .iter()
        .map(|path| (FILE, path, load_certs_from_paths(Some(path), None)))
        .chain(directories.iter().map(|path| (DIRECTORY, path, load_certs_from_paths(None, Some(path)))));
    for (name, path, found) in places {
        let place = format!("{name}={}", path.display());
        if found.certs.is_empty() && found.errors.is_empty() {
            trust.warnings.push(format!("{place}: no certificate in PEM format was found there"));
        }
        trust.add(&place, found);
    }
    if trust.roots.is_empty() {
        trust.warnings.push(format!(
            "no certificate authority is trusted, so https connections will fail; correct {FILE} and {DIRECTORY}, or \
             unset them to trust the authorities of this system"
        ));
    }
    trust
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = include_str!("tls/testdata/authority.pem");

    fn places(file: Option<&str>, directory: Option<&str>) -> Option<Named> {
        named(|name| (if name == FILE { file } else { directory }).map(OsString::from))
    }

    #[test]
    fn the_certificates_in_the_binary_can_all_be_used() {
        let mut roots = RootCertStore::empty();
        let (usable, unusable) =
            roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        assert!(usable > 100 && unusable == 0, "{usable} {unusable}");
    }

    #[test]
    fn the_variables_replace_the_authorities_of_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("one.pem");
        std::fs::write(&file, PEM).unwrap();
        let file = file.to_str().unwrap();
        for (named, case, authorities) in [
            (places(Some(file), None), "a file", 1),
            (places(None, Some(dir.path().to_str().unwrap())), "a directory", 1),
            (places(Some(file), Some(&format!(":{}", dir.path().display()))), "both", 2),
        ] {
            let trust = load(named);
            assert_eq!((trust.roots.len(), trust.warnings), (authorities, vec![]), "{case}");
        }
    }

    #[test]
    fn an_empty_variable_is_unset() {
        assert_eq!(places(Some(""), Some("")), None);
        assert_eq!(places(Some(""), Some(":")), None);
        assert!(load(None).roots.len() > 1);
    }

    #[test]
    fn a_missing_or_empty_file_warns_and_trusts_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str, text: Option<&str>| {
            let path = dir.path().join(name);
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            path.to_str().unwrap().to_owned()
        };
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for file in [
            path("missing.pem", None),
            path("empty.pem", Some("")),
            path("prose.pem", Some("nothing")),
            path("broken.pem", Some(broken)),
        ] {
            let trust = load(places(Some(&file), None));
            assert!(trust.roots.is_empty(), "{file}");
            assert!(trust.warnings[0].starts_with(&format!("SSL_CERT_FILE={file}: ")), "{:?}", trust.warnings);
            assert!(trust.warnings.last().unwrap().contains("no certificate authority is trusted"));
        }
        let trust = load(places(None, Some(&path("missing", None))));
        assert!(trust.roots.is_empty() && trust.warnings[0].starts_with("SSL_CERT_DIR="), "{:?}", trust.warnings);
    }
}
