//! The index that packages come from, as JSON:
//! <https://packaging.python.org/en/latest/specifications/simple-repository-api/>.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use ureq::{Agent, ResponseExt as _};
use url::Url;

use super::requirements::is_digest;
use crate::tls::tls;

/// The index that is asked unless the environment names another one.
const PYPI: &str = "https://pypi.org/simple/";
/// The variables that name an index, as pip and uv read them.
const SETTINGS: [&str; 2] = ["PIP_INDEX_URL", "UV_INDEX_URL"];

/// The form in which the files of a package are asked for.
const JSON: &str = "application/vnd.pypi.simple.v1+json";
/// The most bytes of a list of files. That of a package with a long history has a few MiB.
const MOST_LIST: u64 = 32 << 20;

/// How long connecting may take, and how long a download.
const CONNECT: Duration = Duration::from_secs(30);
const DOWNLOAD: Duration = Duration::from_secs(300);

/// An index of packages.
pub(super) struct Index {
    /// Its address, which ends in a slash, without a user name and a password.
    url: Url,
    /// The header with these, if the address has them.
    authorization: Option<String>,
    agent: Agent,
}

/// A file of a package that an index lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Listed {
    /// The name of the file, which says what it is.
    pub(super) filename: String,
    /// Where it is.
    url: String,
    /// Its digests, by the names of the algorithms.
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

impl Listed {
    /// Returns the SHA-256 digest of the file, if the index has one, in hexadecimal.
    pub(super) fn digest(&self) -> Option<&str> {
        let digest = self.hashes.get("sha256").map(String::as_str);
        digest.filter(|digest| is_digest(digest))
    }

    /// Makes a file of a name and a digest, for tests.
    #[cfg(test)]
    pub(super) fn of(filename: &str, digest: &str) -> Self {
        Self {
            filename: filename.to_owned(),
            url: String::new(),
            hashes: BTreeMap::from([("sha256".to_owned(), digest.to_owned())]),
        }
    }
}

/// The list of the files of a package.
#[derive(Deserialize)]
struct List {
    files: Vec<Listed>,
}

impl Index {
    /// Returns the index that the environment names.
    ///
    /// # Errors
    /// Returns the variable that names none.
    #[allow(
        clippy::disallowed_methods,
        reason = "settings of pip and uv, whose index is asked"
    )]
    pub(super) fn of_environment() -> Result<Self, String> {
        let set = |name: &'static str| {
            let url = std::env::var(name).ok().filter(|url| !url.is_empty());
            Some((name, url?))
        };
        match SETTINGS.into_iter().find_map(set) {
            Some((name, url)) => Self::at(&url).map_err(|e| format!("{name}: {e}")),
            None => Self::at(PYPI),
        }
    }

    /// Returns the index at an address.
    ///
    /// # Errors
    /// Returns a message when it is not the address of one. It does not repeat the address, which
    /// may have a password.
    pub(super) fn at(url: &str) -> Result<Self, String> {
        let mut url = Url::parse(url).map_err(|e| format!("is not the URL of an index: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("is not the URL of an index, which begins with https://".to_owned());
        }
        let authorization = authorization(&url);
        // Addresses of HTTP have both, so that these cannot fail.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_query(None);
        url.set_fragment(None);
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls())
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(DOWNLOAD))
            .build();
        Ok(Self {
            url,
            authorization,
            agent: config.into(),
        })
    }

    /// Returns the address of the index, without a password.
    pub(super) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Lists the files of a package, of all versions.
    ///
    /// # Errors
    /// Returns a message that says why there is no list.
    pub(super) fn files(&self, package: &str) -> Result<Vec<Listed>, String> {
        let address = format!("{}{package}/", self.url);
        let wrong = |what: String| format!("the index {}: {what}", self.url);
        let url = Url::parse(&address).map_err(|e| wrong(e.to_string()))?;
        let answer = self.get(&url, JSON, MOST_LIST).map_err(wrong)?;
        if answer.status == 404 {
            return Err(wrong(format!("it has no package `{package}`")));
        }
        answer.check(&url).map_err(wrong)?;
        let list: List = serde_json::from_slice(&answer.body).map_err(|_| {
            wrong(format!(
                "its list of `{package}` is not JSON, as PEP 691 describes it; name another one by \
                 {}, or put the packages into a folder by `pip install --target FOLDER`, and name \
                 it by `requirements`",
                SETTINGS[0]
            ))
        })?;
        let mut files = list.files;
        for file in &mut files {
            // An address may be relative to that of the list.
            if let Ok(url) = answer.url.join(&file.url) {
                file.url = url.into();
            }
        }
        Ok(files)
    }

    /// Downloads a file of at most so many bytes.
    ///
    /// # Errors
    /// Returns a message that says why it cannot be had.
    pub(super) fn download(&self, file: &Listed, most: u64) -> Result<Vec<u8>, String> {
        let wrong = |what: String| format!("`{}`: {what}", file.filename);
        let url = Url::parse(&file.url);
        let url = url.map_err(|e| wrong(format!("the index has a wrong address of it: {e}")))?;
        let answer = self.get(&url, "*/*", most).map_err(wrong)?;
        answer.check(&url).map_err(wrong)?;
        Ok(answer.body)
    }

    fn get(&self, url: &Url, accept: &str, most: u64) -> Result<Answer, String> {
        let mut request = self.agent.get(url.as_str()).header("accept", accept);
        // A password is told to nobody but the index itself.
        if let Some(authorization) = &self.authorization
            && url.origin() == self.url.origin()
        {
            request = request.header("authorization", authorization.as_str());
        }
        let shown = shown(url);
        let mut answer = request
            .call()
            .map_err(|e| format!("{shown} cannot be reached: {e}"))?;
        let status = answer.status().as_u16();
        let final_url = Url::parse(&answer.get_uri().to_string());
        let mut body = Vec::new();
        // One byte more shows that there are too many.
        let mut reader = answer.body_mut().as_reader().take(most + 1);
        let read = reader.read_to_end(&mut body);
        match read.map_err(|e| format!("{shown} cannot be read: {e}"))? as u64 > most {
            true => Err(format!("{shown} has more than {} MiB", most >> 20)),
            false => Ok(Answer {
                status,
                url: final_url.unwrap_or_else(|_| url.clone()),
                body,
            }),
        }
    }
}

/// What a server answered.
struct Answer {
    status: u16,
    /// Where it came from, after redirections.
    url: Url,
    body: Vec<u8>,
}

impl Answer {
    /// Checks that it has what was asked for.
    fn check(&self, asked: &Url) -> Result<(), String> {
        match self.status {
            200 => Ok(()),
            401 | 403 => Err(format!(
                "{} answered {}: it wants a user name and a password, which the URL in {} can have",
                shown(asked),
                self.status,
                SETTINGS[0]
            )),
            status => Err(format!("{} answered {status}", shown(asked))),
        }
    }
}

/// Returns the header for the user name and the password of an address, if it has them.
fn authorization(url: &Url) -> Option<String> {
    let password = url.password().unwrap_or_default();
    if url.username().is_empty() && password.is_empty() {
        return None;
    }
    let mut text: Vec<u8> = percent_decode_str(url.username()).collect();
    text.push(b':');
    text.extend(percent_decode_str(password));
    Some(format!("Basic {}", STANDARD.encode(text)))
}

/// Returns an address for a message, without what may be secret.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::super::server::{Page, serve};
    use super::*;

    const LIST: &str = r#"{"meta": {"api-version": "1.1"}, "name": "six", "files": [
        {"filename": "six-1.17.0-py2.py3-none-any.whl", "url": "../../files/six.whl",
         "hashes": {"sha256": "0000000000000000000000000000000000000000000000000000000000000000"},
         "requires-python": ">=2.7", "yanked": false, "size": 3},
        {"filename": "six-1.17.0.tar.gz", "url": "https://elsewhere.example/six.tar.gz", "hashes": {}}
    ]}"#;

    #[test]
    fn files_of_a_package_are_listed_and_downloaded() {
        let server = serve(vec![
            Page::new("/simple/six/", LIST),
            Page::new("/files/six.whl", "six"),
        ]);
        // The address may lack the slash at its end.
        let index = Index::at(&format!("{}/simple", server.url)).unwrap();
        let files = index.files("six").unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].digest(), Some(&*"0".repeat(64)));
        assert_eq!(files[1].digest(), None);
        assert_eq!(files[1].url, "https://elsewhere.example/six.tar.gz");
        assert_eq!(index.download(&files[0], 3).unwrap(), b"six");
        let message = index.download(&files[0], 2).unwrap_err();
        assert!(message.contains("six.whl has more than 0 MiB"), "{message}");
        assert!(server.asked().iter().all(|head| !head.contains("Basic")));
    }

    #[test]
    fn password_is_sent_and_never_shown() {
        let server = serve(vec![Page::new("/simple/six/", "<html>")]);
        let address = server.url.replace("http://", "http://me:ge%2Fheim@");
        let index = Index::at(&format!("{address}/simple/")).unwrap();
        let message = index.files("six").unwrap_err();
        assert!(message.contains("is not JSON"), "{message}");
        assert!(!message.contains("heim"), "{message}");
        assert!(!index.url().contains("heim"));
        // `me:ge/heim`
        assert!(server.asked()[0].contains("Basic bWU6Z2UvaGVpbQ=="));
    }

    #[test]
    fn what_an_index_does_not_have_is_told() {
        let server = serve(vec![
            Page::new("/simple/large/", " ".repeat(1 << 10)),
            Page::new("/simple/closed/", "").with_status(403),
        ]);
        let index = Index::at(&format!("{}/simple/", server.url)).unwrap();
        let check = |package: &str, wanted: &str| {
            let message = index.files(package).unwrap_err();
            assert!(
                message.starts_with("the index http://127.0.0.1:"),
                "{message}"
            );
            assert!(message.contains(wanted), "{message}");
        };
        check("six", "it has no package `six`");
        check("large", "its list of `large` is not JSON");
        check(
            "closed",
            "answered 403: it wants a user name and a password",
        );
        for (address, wanted) in [
            ("pypi.org", "is not the URL of an index: "),
            (
                "file:///packages",
                "is not the URL of an index, which begins with https://",
            ),
        ] {
            let message = Index::at(address).err().unwrap();
            assert!(message.starts_with(wanted), "{message}");
        }
        let nobody = Index::at("http://127.0.0.1:1/").unwrap();
        let message = nobody.files("six").unwrap_err();
        assert!(message.contains("/six/ cannot be reached: "), "{message}");
    }
}
