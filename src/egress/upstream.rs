//! The proxy that this machine itself needs to reach the network, where it needs one: that of the usual variables.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::header::HeaderValue;
use percent_encoding::percent_decode_str;

/// The proxies of this machine, as `http_proxy`, `https_proxy` and `no_proxy` name them.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    http: Option<Parent>,
    https: Option<Parent>,
    direct: Vec<String>,
}

/// One proxy.
#[derive(Clone)]
pub(super) struct Parent {
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// `Proxy-Authorization`, when its URL has a user.
    pub(super) authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Parent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A proxy that cannot be used. The URL is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value of `{variable}` is no URL of an HTTP proxy")]
pub struct UpstreamError {
    /// Which variable.
    pub variable: &'static str,
}

impl Upstream {
    /// From the variables' values; empty ones are none.
    pub fn new(http: Option<&str>, https: Option<&str>, direct: Option<&str>) -> Result<Self, UpstreamError> {
        let parse = |variable, value: Option<&str>| match value.filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(url) => parent(url).map(Some).ok_or(UpstreamError { variable }),
        };
        let direct = direct.unwrap_or_default().split(',').map(|entry| entry.trim().to_ascii_lowercase());
        Ok(Self {
            http: parse("http_proxy", http)?,
            https: parse("https_proxy", https)?,
            direct: direct.filter(|entry| !entry.is_empty()).collect(),
        })
    }

    /// The proxy on the way to a host, by a tunnel or not.
    pub(super) fn to(&self, host: &str, tunnel: bool) -> Option<&Parent> {
        let parent = if tunnel { &self.https } else { &self.http };
        parent.as_ref().filter(|_| !self.is_direct(host))
    }

    /// As curl reads `no_proxy`: `*`, or names that stand for themselves and all below them.
    fn is_direct(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.direct.iter().any(|entry| {
            let entry = entry.trim_start_matches("*.").trim_start_matches('.');
            entry == "*" || host == entry || host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'))
        })
    }
}

/// `http://user:password@host:port`; the scheme and the port may be left out.
fn parent(url: &str) -> Option<Parent> {
    const DEFAULT_PORT: u16 = 80;
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let url: Uri = url.parse().ok()?;
    let authority = url.authority().filter(|_| url.scheme_str() == Some("http"))?;
    let user =
        authority.as_str().rsplit_once('@').map(|(user, _)| percent_decode_str(user).collect::<Vec<u8>>());
    let authorization = match user {
        Some(user) => {
            let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(user))).ok()?;
            value.set_sensitive(true);
            Some(value)
        }
        None => None,
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(DEFAULT_PORT);
    (!host.is_empty() && port > 0).then_some(Parent { host, port, authorization })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_are_read_as_curl_reads_them() {
        let upstream = Upstream::new(
            Some("proxy:3128"),
            Some("http://u:p%40@[::1]:8080/"),
            Some("internal, .corp.test,10.0.0.1"),
        )
        .unwrap();
        assert_eq!(format!("{upstream:?}").matches("proxy:3128").count(), 1);
        let https = upstream.to("example.com", true).unwrap();
        assert_eq!((https.host.as_str(), https.port), ("::1", 8080));
        assert_eq!(https.authorization.as_ref().unwrap(), &format!("Basic {}", STANDARD.encode("u:p@")));
        assert!(!format!("{upstream:?}").contains("p%40"), "{upstream:?}");
        for host in ["internal", "a.internal", "corp.test", "a.b.Corp.Test", "10.0.0.1"] {
            assert!(upstream.to(host, true).is_none(), "{host}");
        }
        for host in ["notinternal", "example.com", "10.0.0.11"] {
            assert!(upstream.to(host, false).is_some(), "{host}");
        }
        assert!(Upstream::new(None, Some("http://p"), Some("*")).unwrap().to("x", true).is_none());
        assert!(Upstream::new(Some(""), None, None).unwrap().to("x", false).is_none());
        for wrong in ["socks5://p:1", "https://p:1", "http://", "http://p:0"] {
            let error = Upstream::new(None, Some(wrong), None).unwrap_err();
            assert_eq!(error.variable, "https_proxy", "{wrong}");
        }
    }
}
