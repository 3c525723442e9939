//! Which requests a server takes, by their headers `Host` and `Origin`.
//!
//! A browser sends requests of any page to any server that it can reach, also to one on a
//! developer's machine. Two headers tell such a request apart. `Host` is the name that the browser
//! was told to ask for: a foreign page whose own name was pointed at this server's address is found
//! out by it. `Origin` is where the page came from. Programs other than browsers send no `Origin`.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Version};

use crate::error::Failure;

/// The names by which a server may be asked.
#[derive(Clone, Debug)]
pub enum Hosts {
    /// Any names, because a gateway in front of the server decides who may ask.
    Any,
    /// IP addresses, `localhost`, and these names.
    Named(Vec<String>),
}

impl Hosts {
    /// Checks that a request is for this server, and does not come from the page of another one.
    ///
    /// A target in absolute form names a host as `Host` does, and is held to the same rules. A
    /// proxy may have gone by either, so that both must be this server.
    ///
    /// # Errors
    /// Returns status 403 for a foreign host or origin, and 400 for one that cannot be read.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Failure> {
        let Self::Named(names) = self else {
            return Ok(());
        };
        let mut own = Vec::new();
        if let Some(target) = request.uri().authority() {
            own.push(authority(target.as_str().as_bytes()).ok_or_else(|| {
                Failure::invalid(format!(
                    "the target of the request: `{target}` is not a host"
                ))
            })?);
        }
        match NamedHost::of(request)? {
            NamedHost::Missing => {}
            NamedHost::Empty => return Err(unreadable(b"")),
            NamedHost::One(host) => own.push(host),
        }
        for host in &own {
            if !is_own(host.host(), names) {
                let message = format!(
                    "`{}` is not a name of this server; if it is one, add it to `hosts` in [server] of \
                     wafer.toml, or start the server with --host",
                    host.host()
                );
                return Err(Failure::forbidden(message));
            }
        }
        for value in request.headers().get_all(ORIGIN) {
            if !is_own_origin(value, &own, names) {
                let message = format!(
                    "requests of pages from `{}` are not taken; if they are this project's, add the \
                     host to `hosts` in [server] of wafer.toml, or start the server with --host",
                    String::from_utf8_lossy(value.as_bytes())
                );
                return Err(Failure::forbidden(message));
            }
        }
        Ok(())
    }
}

/// What a request says in its header `Host`.
#[derive(Clone, Debug)]
pub(crate) enum NamedHost {
    /// There is no header.
    Missing,
    /// The header is empty, which stands for no host.
    Empty,
    /// The header names a host.
    One(Authority),
}

impl NamedHost {
    /// Returns what a request says: what is kept with it, or else what its header says.
    ///
    /// # Errors
    /// Returns status 400 if the header is not as it has to be.
    pub(crate) fn of(request: &Request) -> Result<Self, Failure> {
        match request.extensions().get::<Self>() {
            Some(kept) => Ok(kept.clone()),
            None => Self::read(request.version(), request.headers()),
        }
    }

    /// Reads the header of a request. Section 3.2 of RFC 9112 asks for exactly one, which may be
    /// empty. Only a request of a version before HTTP/1.1 may have none.
    fn read(version: Version, headers: &HeaderMap) -> Result<Self, Failure> {
        let mut hosts = headers.get_all(HOST).iter();
        match (hosts.next(), hosts.next()) {
            (None, _) if version < Version::HTTP_11 => Ok(Self::Missing),
            (None, _) => Err(Failure::invalid(
                "the request has no header host, which HTTP/1.1 asks for; send the name of the \
                 server",
            )),
            (Some(_), Some(_)) => Err(Failure::invalid(
                "the request has the header host more than once; send it once",
            )),
            (Some(host), None) if host.is_empty() => Ok(Self::Empty),
            (Some(host), None) => match authority(host.as_bytes()) {
                Some(host) => Ok(Self::One(host)),
                None => Err(unreadable(host.as_bytes())),
            },
        }
    }
}

fn unreadable(host: &[u8]) -> Failure {
    let host = String::from_utf8_lossy(host);
    Failure::invalid(format!("header host: `{host}` is not a host"))
}

/// Parses `HOST`, `HOST:` or `HOST:PORT`.
fn authority(text: &[u8]) -> Option<Authority> {
    let authority = Authority::try_from(text).ok()?;
    // A port may be empty, which is the one of the scheme.
    let is_host_alone = authority.host().len() == text.strip_suffix(b":").unwrap_or(text).len();
    let is_host_and_port = authority.port_u16().is_some();
    // A user's name before the host would be allowed in a URL, and has no place here.
    let is_plain = !text.contains(&b'@') && !authority.host().is_empty();
    (is_plain && (is_host_alone || is_host_and_port)).then_some(authority)
}

/// Returns whether a host is this server. An address cannot be pointed elsewhere, so every one is.
fn is_own(host: &str, names: &[String]) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    if address.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || names.iter().any(|name| name.eq_ignore_ascii_case(&host))
}

/// Returns whether an origin is one of the hosts that the request is for, with the same port, or
/// has one of the server's names.
fn is_own_origin(origin: &HeaderValue, own: &[Authority], names: &[String]) -> bool {
    let Some((scheme, rest)) = origin.to_str().ok().and_then(|text| text.split_once("://")) else {
        return false;
    };
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let Some(origin) = authority(rest.as_bytes()) else {
        return false;
    };
    let port = |of: &Authority| of.port_u16().unwrap_or(default_port);
    let is_same = |host: &Authority| {
        host.host().eq_ignore_ascii_case(origin.host()) && port(host) == port(&origin)
    };
    let is_named = |name: &String| name.eq_ignore_ascii_case(origin.host());
    own.iter().any(is_same) || names.iter().any(is_named)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;

    use super::*;

    /// Returns a request with a header `Host`, and with a header `Origin` unless that is empty.
    fn request(target: &str, host: &str, origin: &str) -> Request {
        let mut request = axum::http::Request::get(target).header(HOST, host);
        if !origin.is_empty() {
            request = request.header(ORIGIN, origin);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn foreign_hosts_and_origins_are_refused() {
        let hosts = Hosts::Named(vec!["features.example.com".to_owned()]);
        let (forbidden, invalid) = (Some(StatusCode::FORBIDDEN), Some(StatusCode::BAD_REQUEST));
        for (host, origin, wanted) in [
            ("127.0.0.1:8080", "", None),
            ("localhost:8080", "", None),
            ("LOCALHOST.:8080", "", None),
            ("localhost:", "", None),
            ("[::1]:", "", None),
            (":", "", invalid),
            ("wafer.localhost", "", None),
            ("[::1]:8080", "", None),
            ("192.168.1.7", "", None),
            ("Features.Example.com", "", None),
            ("features.example.com:443", "", None),
            ("evil.example", "", forbidden),
            ("localhost.evil.example:8080", "", forbidden),
            ("127.0.0.1.evil.example", "", forbidden),
            ("evillocalhost", "", forbidden),
            ("a b", "", invalid),
            ("user@localhost", "", invalid),
            ("localhost:80x.evil.example", "", invalid),
            ("localhost:8080", "http://localhost:8080", None),
            ("localhost:8080", "http://LOCALHOST:8080", None),
            ("localhost", "http://localhost", None),
            ("localhost:80", "http://localhost", None),
            ("localhost:443", "https://localhost", None),
            ("127.0.0.1:8080", "https://features.example.com", None),
            ("localhost:8080", "http://localhost:3000", forbidden),
            ("localhost:8080", "http://127.0.0.1:8080", forbidden),
            ("localhost:8080", "https://localhost", forbidden),
            ("localhost:8080", "https://evil.example", forbidden),
            (
                "localhost:8080",
                "http://localhost:8080.evil.example",
                forbidden,
            ),
            (
                "localhost:8080",
                "http://localhost:8080@evil.example",
                forbidden,
            ),
            ("localhost:8080", "file://localhost:8080", forbidden),
            ("localhost:8080", "null", forbidden),
            ("localhost:8080", " ", forbidden),
        ] {
            let request = request("/v1/views", host, origin);
            let found = hosts.check(&request).err();
            let found = found.map(|failure| failure.status());
            assert_eq!(found, wanted, "{host} {origin}");
            assert!(Hosts::Any.check(&request).is_ok());
        }
        // What stands in the request line counts as well.
        let old = axum::http::Request::get("http://evil.example/v1/views");
        let old = old.version(Version::HTTP_10).body(Body::empty()).unwrap();
        let found = hosts.check(&old).unwrap_err();
        assert_eq!(found.status(), StatusCode::FORBIDDEN);
    }

    #[test]
    fn a_target_in_absolute_form_is_held_to_the_rules_of_the_header_host() {
        let hosts = Hosts::Named(vec!["features.example.com".to_owned()]);
        let (forbidden, invalid) = (Some(StatusCode::FORBIDDEN), Some(StatusCode::BAD_REQUEST));
        for (target, host, origin, wanted) in [
            ("http://localhost:8080/", "localhost:8080", "", None),
            (
                "http://features.example.com/",
                "features.example.com",
                "",
                None,
            ),
            ("http://[::1]:8080/", "[::1]:8080", "", None),
            ("http://evil.example/", "localhost", "", forbidden),
            ("http://localhost/", "evil.example", "", forbidden),
            ("http://user@localhost/", "localhost", "", invalid),
            ("http://localhost@evil.example/", "localhost", "", invalid),
            (
                "http://localhost:8080/",
                "localhost:8080",
                "http://localhost:8080",
                None,
            ),
            (
                "http://localhost:8080/",
                "localhost:8080",
                "http://evil.example",
                forbidden,
            ),
        ] {
            let found = hosts.check(&request(target, host, origin)).err();
            let found = found.map(|failure| failure.status());
            assert_eq!(found, wanted, "{target} {host} {origin}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        for (version, hosts, wanted) in [
            (new, &["localhost"][..], Ok(())),
            (new, &["localhost:8080"], Ok(())),
            (new, &["[::1]:8080"], Ok(())),
            (new, &["of-nobody"], Ok(())),
            (new, &[""], Ok(())),
            (new, &[], Err("has no header host")),
            (new, &["localhost", "localhost"], Err("more than once")),
            (new, &["localhost", ""], Err("more than once")),
            (new, &["a b"], Err("`a b` is not a host")),
            (new, &["localhost, localhost"], Err("is not a host")),
            (old, &[], Ok(())),
            (old, &["localhost"], Ok(())),
            (old, &["localhost", "localhost"], Err("more than once")),
            (old, &["user@localhost"], Err("is not a host")),
        ] {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, host.parse().unwrap());
            }
            match (NamedHost::read(version, &headers), wanted) {
                (Ok(_), Ok(())) => {}
                (Err(failure), Err(part)) => {
                    assert_eq!(failure.status(), StatusCode::BAD_REQUEST);
                    let message = failure.into_message();
                    assert!(message.contains(part), "{message}");
                }
                (found, wanted) => panic!("{version:?} {hosts:?}: {found:?}, {wanted:?}"),
            }
        }
    }
}
