//! How this program speaks HTTPS.

use std::sync::Arc;

use ureq::tls::{RootCerts, TlsConfig};

/// Returns the settings of HTTPS for clients of this program. Servers are trusted by the
/// certificates of this machine, to which a company may have added its own.
pub fn tls() -> TlsConfig {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(provider))
        .build()
}
