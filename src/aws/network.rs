//! The way to AWS: through which proxy, and whose certificates are trusted. The SDK's clients and the connections
//! of shells take the same one; the SDK by itself looks at none of the variables that other AWS tools follow.

use std::path::PathBuf;
use std::sync::Arc;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector, tls};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::Empty;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::AwsError;

/// What no proxy is asked for in the clear, because it is another machine's there: loopback, and the link-local
/// addresses that give credentials to instances and containers of AWS. [RFC 6890]
const THIS_MACHINE: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fe80::/10,fd00:ec2::254";

/// The key of a profile for what `AWS_CA_BUNDLE` is for all of them. [botocore]
const CA_BUNDLE: &str = "ca_bundle";

/// What the user's environment says of the network.
#[derive(Clone, Default)]
pub struct NetworkSettings {
    /// `http_proxy`: the proxy for addresses in the clear.
    pub http_proxy: Option<String>,
    /// `https_proxy`: the proxy for all others.
    pub https_proxy: Option<String>,
    /// `no_proxy`: what is reached without one.
    pub no_proxy: Option<String>,
    /// `AWS_CA_BUNDLE`: the certificates that are trusted, instead of the machine's own and of those that a profile names.
    pub ca_bundle: Option<PathBuf>,
    /// The user's home directory, which `~` is in a profile.
    pub home: Option<PathBuf>,
}

impl std::fmt::Debug for NetworkSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // URLs of proxies may hold passwords.
        f.debug_struct("NetworkSettings").field("ca_bundle", &self.ca_bundle).finish_non_exhaustive()
    }
}

/// The way to AWS.
#[derive(Debug, Clone, Default)]
pub(super) struct Network(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// Certificates in place of the machine's: as they were read, for the SDK, and parsed.
    bundle: Option<(Vec<u8>, RootCertStore)>,
}

/// A proxy for one kind of address, in the words of the SDK and of the library below it.
#[derive(Debug)]
struct Proxy {
    config: ProxyConfig,
    matcher: Matcher,
}

/// A connection that bytes go over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Network {
    /// Reads and checks what the environment says and, of certificates where it says nothing, the profile of that name;
    /// without a name, the one that the user's AWS set-up selects.
    pub(super) async fn new(settings: &NetworkSettings, profile: Option<&str>) -> Result<Self, AwsError> {
        let direct = settings.no_proxy.as_deref().unwrap_or_default();
        let http = match &settings.http_proxy {
            Some(url) => Some(Proxy::http(url, &format!("{direct},{THIS_MACHINE}"))?),
            None => None,
        };
        let https = match &settings.https_proxy {
            Some(url) => Some(Proxy::https(url, direct)?),
            None => None,
        };
        let bundle = if let Some(file) = &settings.ca_bundle {
            Some(bundle(file).map_err(|reason| AwsError::Setting {
                variable: "AWS_CA_BUNDLE",
                reason: format!("`{}` {reason}", file.display()),
            })?)
        } else if let Some((profile, file)) = profile_bundle(settings, profile).await {
            Some(bundle(&file).map_err(|reason| AwsError::Setting {
                variable: CA_BUNDLE,
                reason: format!("`{}` of profile `{profile}` {reason}", file.display()),
            })?)
        } else {
            None
        };
        Ok(Self(Arc::new(Inner { http, https, bundle })))
    }

    /// An HTTP client for the SDK. What TLS needs is made when it is needed, because it takes longer than a call in
    /// the clear.
    pub(super) fn http_client(&self) -> SharedHttpClient {
        let of_scheme = |secure: bool| {
            let network = self.clone();
            Builder::new().build_with_connector_fn(move |settings, components| {
                let proxy = if secure { &network.0.https } else { &network.0.http };
                let mut builder = Connector::builder();
                builder.set_connector_settings(settings.cloned());
                builder.set_sleep_impl(components.and_then(|c| c.sleep_impl()));
                builder.set_proxy_config(proxy.as_ref().map(|p| p.config.clone()));
                // A proxy may itself be behind TLS.
                if !secure && proxy.as_ref().is_none_or(|p| !p.is_secure()) {
                    return builder.build_http();
                }
                let rustls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
                builder.tls_provider(rustls).tls_context(network.tls_context()).build()
            })
        };
        SharedHttpClient::new(ByScheme { plain: of_scheme(false), tls: of_scheme(true) })
    }

    /// The bundle; without one the machine's own roots and, for a machine without any, the bundled ones.
    fn tls_context(&self) -> tls::TlsContext {
        let store = match &self.0.bundle {
            Some((text, _)) => tls::TrustStore::empty().with_pem_certificate(text.as_slice()),
            None => {
                let mut store = tls::TrustStore::default();
                for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
                    store.add_pem_certificate(pem(root));
                }
                store
            }
        };
        // Building fails on no input that is made here; the default context is the same without our roots.
        tls::TlsContext::builder().with_trust_store(store).build().unwrap_or_default()
    }

    /// A connection to where `uri` says, for what the SDK has no client for.
    pub(super) async fn connect(&self, uri: &Uri) -> Result<Box<dyn Stream>, String> {
        let secure = uri.scheme_str() == Some("https");
        let proxy = if secure { &self.0.https } else { &self.0.http };
        let (host, port) = end(uri);
        let stream = match proxy.as_ref().and_then(|proxy| proxy.matcher.intercept(uri)) {
            Some(proxy) => self.tunnel(&proxy, uri).await?,
            None => dial(&host, port).await?,
        };
        if secure { self.secured(&host, stream).await } else { Ok(stream) }
    }

    /// A connection that a proxy hands on unseen.
    async fn tunnel(&self, proxy: &Intercept, uri: &Uri) -> Result<Box<dyn Stream>, String> {
        let (host, port) = end(proxy.uri());
        let of_proxy = |e: &dyn std::fmt::Display| format!("the proxy `{host}:{port}`: {e}");
        let mut stream = dial(&host, port).await.map_err(|e| of_proxy(&e))?;
        if proxy.uri().scheme_str() == Some("https") {
            stream = self.secured(&host, stream).await.map_err(|e| of_proxy(&e))?;
        }
        let target = format!("{}:{}", uri.host().unwrap_or_default(), end(uri).1);
        let mut request =
            Request::builder().method(Method::CONNECT).uri(&target).header(header::HOST, &target);
        if let Some(credentials) = proxy.basic_auth() {
            request = request.header(header::PROXY_AUTHORIZATION, credentials);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| of_proxy(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| of_proxy(&e))?;
        // It ends when the connection has become the tunnel, or with the sender.
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(|e| of_proxy(&e))?;
        if !response.status().is_success() {
            return Err(of_proxy(&format!("it refused the connection with `{}`", response.status())));
        }
        let tunnel = hyper::upgrade::on(response).await.map_err(|e| of_proxy(&e))?;
        Ok(Box::new(TokioIo::new(tunnel)))
    }

    async fn secured(&self, host: &str, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let provider = tokio_rustls::rustls::crypto::ring::default_provider();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        Ok(Box::new(stream.map_err(|e| e.to_string())?))
    }

    fn roots(&self) -> RootCertStore {
        if let Some((_, roots)) = &self.0.bundle {
            return roots.clone();
        }
        let mut roots = RootCertStore::empty();
        // As in `tls_context`; a bad one among them is no reason to stop.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        roots
    }
}

impl Proxy {
    fn http(url: &str, direct: &str) -> Result<Self, AwsError> {
        let url = checked("http_proxy", url)?;
        let config = ProxyConfig::http(url.as_str()).map_err(|_| unusable("http_proxy"))?;
        let matcher = Matcher::builder().http(url).no(direct.to_owned()).build();
        Ok(Self { config: config.no_proxy(direct), matcher })
    }

    fn https(url: &str, direct: &str) -> Result<Self, AwsError> {
        let url = checked("https_proxy", url)?;
        let config = ProxyConfig::https(url.as_str()).map_err(|_| unusable("https_proxy"))?;
        let matcher = Matcher::builder().https(url).no(direct.to_owned()).build();
        Ok(Self { config: config.no_proxy(direct), matcher })
    }

    /// True when the proxy itself is behind TLS.
    fn is_secure(&self) -> bool {
        let any = Uri::from_static("http://proxied.invalid");
        self.matcher.intercept(&any).is_some_and(|proxy| proxy.uri().scheme_str() == Some("https"))
    }
}

/// The URL of a proxy of HTTP; the scheme may be left out. It is in no message: it may hold a password.
fn checked(variable: &'static str, url: &str) -> Result<String, AwsError> {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let parsed: Uri = url.parse().map_err(|_| unusable(variable))?;
    let known = matches!(parsed.scheme_str(), Some("http" | "https"));
    if known && parsed.host().is_some_and(|host| !host.is_empty()) {
        Ok(url)
    } else {
        Err(unusable(variable))
    }
}

fn unusable(variable: &'static str) -> AwsError {
    AwsError::Setting { variable, reason: "it is no URL of an HTTP proxy".to_owned() }
}

/// What a profile says of certificates, and the profile's name. One that cannot be read says nothing here: the search for
/// credentials tells what is wrong with it.
async fn profile_bundle(settings: &NetworkSettings, profile: Option<&str>) -> Option<(String, PathBuf)> {
    let (files, environment, which) = (Default::default(), Default::default(), Default::default());
    let named = profile.map(|name| name.to_owned().into());
    let set = aws_config::profile::load(&files, &environment, &which, named).await.ok()?;
    let file = set.get(CA_BUNDLE).filter(|file| !file.is_empty())?;
    // As every other tool reads it, which gives it to one that knows `~`. [urllib3]
    let file = match (file.strip_prefix("~/"), &settings.home) {
        (Some(below), Some(home)) => home.join(below),
        _ => file.into(),
    };
    Some((set.selected_profile().to_owned(), file))
}

/// The certificates of a file, each of which can be used.
fn bundle(file: &std::path::Path) -> Result<(Vec<u8>, RootCertStore), String> {
    let text = std::fs::read(file).map_err(|e| format!("cannot be read: {e}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|e| format!("is damaged: {e}"))?;
        roots.add(certificate).map_err(|e| format!("has a certificate that cannot be used: {e}"))?;
    }
    if roots.is_empty() { Err("has no certificates in PEM form".to_owned()) } else { Ok((text, roots)) }
}

/// Host, without the brackets of an IPv6 address, and port.
fn end(uri: &Uri) -> (String, u16) {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    (host.to_owned(), uri.port_u16().unwrap_or(default))
}

async fn dial(host: &str, port: u16) -> Result<Box<dyn Stream>, String> {
    let stream = TcpStream::connect((host, port)).await.map_err(|e| e.to_string())?;
    // What is typed goes out at once.
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(Box::new(stream))
}

/// A certificate as the SDK's connector wants it.
fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|c| std::str::from_utf8(c).unwrap_or_default()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Two clients: the first call of a scheme makes what it needs.
#[derive(Debug)]
struct ByScheme {
    plain: SharedHttpClient,
    tls: SharedHttpClient,
}

impl HttpClient for ByScheme {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Choosing {
            plain: self.plain.clone(),
            tls: self.tls.clone(),
            settings: settings.clone(),
            components: components.clone(),
        })
    }
}

#[derive(Debug)]
struct Choosing {
    plain: SharedHttpClient,
    tls: SharedHttpClient,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpConnector for Choosing {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = if request.uri().starts_with("http://") { &self.plain } else { &self.tls };
        client.http_connector(&self.settings, &self.components).call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(http: &str, https: &str, no: &str) -> NetworkSettings {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        NetworkSettings {
            http_proxy: some(http),
            https_proxy: some(https),
            no_proxy: some(no),
            ..NetworkSettings::default()
        }
    }

    fn way(network: &Network, uri: &'static str) -> Option<String> {
        let proxy = if uri.starts_with("https") { &network.0.https } else { &network.0.http };
        proxy.as_ref()?.matcher.intercept(&Uri::from_static(uri)).map(|p| p.uri().to_string())
    }

    #[test]
    fn bundled_roots_are_certificates_that_the_connector_takes() {
        let text = pem(&webpki_root_certs::TLS_SERVER_ROOT_CERTS[0]);
        assert!(text.lines().all(|l| l.len() <= 64));
        // Loading happens when the connector is built, so this fails on a bad certificate.
        let mut builder = Connector::builder();
        builder.set_connector_settings(None);
        let _ = builder
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .tls_context(Network::default().tls_context())
            .build();
    }

    #[tokio::test]
    async fn each_kind_of_address_has_its_proxy_and_exceptions() {
        let network =
            Network::new(&settings("plain:3128", "http://u:p@secure:3129", "no.example, 10.0.0.0/8"), None)
                .await
                .unwrap();
        for (uri, expected) in [
            ("http://a.example/", Some("http://plain:3128/")),
            ("https://a.example/", Some("http://secure:3129/")),
            ("https://no.example/", None),
            ("https://below.no.example/", None),
            ("https://10.1.2.3/", None),
            ("http://localhost:8642/", None),
            ("http://127.0.0.1:8642/", None),
            ("http://[::1]:8642/", None),
            ("http://169.254.169.254/latest/meta-data/", None),
        ] {
            assert_eq!(way(&network, uri).as_deref(), expected, "{uri}");
        }
        assert_eq!(way(&Network::default(), "https://a.example/"), None);
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_named_and_no_password_shown() {
        for (settings, variable) in [
            (settings("socks5://u:secret@h", "", ""), "http_proxy"),
            (settings("", "http://u:secret@", ""), "https_proxy"),
            (settings("", "secret secret", ""), "https_proxy"),
        ] {
            let error = Network::new(&settings, None).await.unwrap_err().to_string();
            assert!(error.contains(&format!("`{variable}`")), "{error}");
            assert!(!error.contains("secret") && !format!("{settings:?}").contains("secret"), "{error}");
        }
        let directory = tempfile::tempdir().unwrap();
        for (content, reason) in [
            (None, "cannot be read"),
            (Some("no certificates here"), "has no certificates"),
            (Some("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"), "cannot be used"),
            (Some("-----BEGIN CERTIFICATE-----\nMA"), "is damaged"),
        ] {
            let file = directory.path().join("ca.pem");
            if let Some(content) = content {
                std::fs::write(&file, content).unwrap();
            }
            let settings = NetworkSettings { ca_bundle: Some(file), ..NetworkSettings::default() };
            let error = Network::new(&settings, None).await.unwrap_err().to_string();
            assert!(error.contains("`AWS_CA_BUNDLE`") && error.contains(reason), "{error}");
        }
    }
}
