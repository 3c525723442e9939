//! Files of pinned packages, as `uv pip compile` and `pip freeze` write them:
//! <https://pip.pypa.io/en/stable/reference/requirements-file-format/>.

use std::collections::BTreeSet;

/// The most packages of a function.
const MOST_PACKAGES: usize = 200;

/// How a file is made that can be read.
const MADE_BY: &str = "`uv pip compile` and `pip freeze` write files of pinned packages";

/// A package in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Requirement {
    /// Its name in the normal form: lowercase, with dashes.
    pub(super) name: String,
    /// Its version, as it is written.
    pub(super) version: String,
    /// The SHA-256 digests of the files that it may be, in hexadecimal; none if all are trusted
    /// that the index names.
    pub(super) hashes: Vec<String>,
}

/// Reads a file of pinned packages.
///
/// # Errors
/// Returns a message with the line that is not understood, and what to do.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut requirements = Vec::new();
    let mut names = BTreeSet::new();
    for (number, line) in logical_lines(text) {
        let wrong = |message: String| format!("line {number}: {message}");
        let requirement = requirement(&line).map_err(wrong)?;
        // The interpreter has the library that authors import by this name.
        if requirement.name == "wafer" {
            continue;
        }
        if !names.insert(requirement.name.clone()) {
            return Err(wrong(format!("`{}` is there twice", requirement.name)));
        }
        requirements.push(requirement);
    }
    match requirements.len() > MOST_PACKAGES {
        true => Err(format!("it has more than {MOST_PACKAGES} packages")),
        false => Ok(requirements),
    }
}

/// Returns the lines that say something, without comments, each with its number from 1. A line that
/// ends in a backslash goes on in the next one.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Vec::new();
    let mut begun: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let line = without_comment(line).trim_end();
        let (line, goes_on) = match line.strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        let (number, mut whole) = begun.take().unwrap_or((index + 1, String::new()));
        whole.push(' ');
        whole.push_str(line.trim());
        match goes_on {
            true => begun = Some((number, whole)),
            false => lines.push((number, whole)),
        }
    }
    lines.extend(begun);
    let lines = lines.into_iter();
    lines
        .map(|(number, line)| (number, line.trim().to_owned()))
        .filter(|(_, line)| !line.is_empty())
        .collect()
}

/// Removes a comment, which begins a line or follows a blank.
fn without_comment(line: &str) -> &str {
    let starts = line.match_indices('#').map(|(at, _)| at);
    let mut starts = starts.filter(|at| line[..*at].ends_with(char::is_whitespace) || *at == 0);
    starts.next().map_or(line, |at| &line[..at])
}

/// Reads a package with its digests.
fn requirement(line: &str) -> Result<Requirement, String> {
    if line.starts_with('-') {
        return Err(format!(
            "`{line}` is an option, and only packages are read; {MADE_BY}"
        ));
    }
    let (package, options) = match line.split_once(" --") {
        Some((package, options)) => (package, format!("--{options}")),
        None => (line, String::new()),
    };
    let package = package.trim();
    if let Some((_, condition)) = package.split_once(';') {
        return Err(format!(
            "`{package}` has a condition, and conditions are not read: leave out `;{condition}`, or \
             the line, or make the file for one version with `uv pip compile --python-version 3.14`"
        ));
    }
    if package.contains(['@', '/']) {
        return Err(format!(
            "`{package}` is not a package of an index: put it into a folder by `pip install \
             --target FOLDER`, and name the folder by `requirements`"
        ));
    }
    let unpinned =
        || format!("`{package}` is not pinned to one version, as in `six==1.16.0`; {MADE_BY}");
    let (name, version) = package.split_once("==").ok_or_else(unpinned)?;
    // Extras ask for further packages, which have lines of their own.
    let name = name.split('[').next().unwrap_or_default().trim();
    let version = version.trim();
    let is_version = |c: char| c.is_ascii_alphanumeric() || ".!+_-".contains(c);
    if !is_name(name) || version.is_empty() || !version.chars().all(is_version) {
        return Err(unpinned());
    }
    let hashes = options.split_whitespace().map(hash);
    Ok(Requirement {
        name: normal(name),
        version: version.to_owned(),
        hashes: hashes.collect::<Result<_, _>>()?,
    })
}

/// Reads an option of a package: the digest of one of its files.
fn hash(option: &str) -> Result<String, String> {
    let digest = option.strip_prefix("--hash=sha256:");
    let digest = digest.map(str::to_lowercase);
    let digest = digest.filter(|digest| is_digest(digest));
    digest.ok_or_else(|| format!("`{option}` is not `--hash=sha256:…` with 64 digits"))
}

/// Returns whether a text is a SHA-256 digest in hexadecimal.
pub(super) fn is_digest(text: &str) -> bool {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == 64 && text.bytes().all(is_digit)
}

/// Returns whether a text is the name of a package.
fn is_name(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(is_end)
        && text.ends_with(is_end)
        && text.chars().all(|c| is_end(c) || "-_.".contains(c))
}

/// Returns the name of a package in the normal form:
/// <https://packaging.python.org/en/latest/specifications/name-normalization/>.
pub(super) fn normal(name: &str) -> String {
    let parts = name.split(['-', '_', '.']);
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("-").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn package(name: &str, version: &str, hashes: &[&str]) -> Requirement {
        Requirement {
            name: name.to_owned(),
            version: version.to_owned(),
            hashes: hashes.iter().map(|hash| (*hash).to_owned()).collect(),
        }
    }

    #[test]
    fn files_that_tools_write_are_read() {
        let of_uv = format!(
            "# This file was autogenerated by uv via the following command:\n\
             #    uv pip compile --generate-hashes requirements.in\n\
             python-dateutil==2.9.0.post0 \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{}\n    # via -r requirements.in\n\
             six==1.17.0  # via python-dateutil\n",
            A.to_uppercase().replace('A', "B")
        );
        let b = "b".repeat(64);
        let wanted = [
            package("python-dateutil", "2.9.0.post0", &[A, &b]),
            package("six", "1.17.0", &[]),
        ];
        assert_eq!(parse(&of_uv).unwrap(), wanted);
        let of_pip = "\u{feff}Jinja2 == 3.1.6\r\nzope.interface[test]==7.2\r\nwafer==0.1.0\r\n";
        let wanted = [
            package("jinja2", "3.1.6", &[]),
            package("zope-interface", "7.2", &[]),
        ];
        assert_eq!(parse(of_pip).unwrap(), wanted);
        assert!(parse("# nothing\n\n").unwrap().is_empty());
        // A file may end in the middle of a line.
        assert_eq!(parse("six==1 \\").unwrap(), [package("six", "1", &[])]);
    }

    #[test]
    fn what_is_not_pinned_is_refused_with_its_line() {
        for (line, wanted) in [
            ("six", "line 2: `six` is not pinned to one version"),
            ("six>=1.16", "line 2: `six>=1.16` is not pinned"),
            ("six==1.*", "line 2: `six==1.*` is not pinned"),
            ("six==1,<2", "line 2: `six==1,<2` is not pinned"),
            ("six===1", "line 2: `six===1` is not pinned"),
            ("-six==1", "line 2: `-six==1` is an option"),
            ("s x==1", "line 2: `s x==1` is not pinned"),
            (
                "-r base.txt",
                "line 2: `-r base.txt` is an option, and only packages are read; `uv pip compile`",
            ),
            (
                "tzdata==2025.2 ; sys_platform == 'win32'",
                "line 2: `tzdata==2025.2 ; sys_platform == 'win32'` has a condition, and conditions \
                 are not read: leave out `; sys_platform == 'win32'`",
            ),
            (
                "six @ https://example.com/six.whl",
                "line 2: `six @ https://example.com/six.whl` is not a package of an index",
            ),
            ("./six", "line 2: `./six` is not a package of an index"),
            (
                "six==1 --hash=md5:00",
                "line 2: `--hash=md5:00` is not `--hash=sha256:…` with 64 digits",
            ),
            (
                "six==1 --hash=sha256:00",
                "line 2: `--hash=sha256:00` is not",
            ),
            ("idna==3.10\nIDNA==3.9", "line 3: `idna` is there twice"),
        ] {
            let message = parse(&format!("# pinned\n{line}\n")).unwrap_err();
            assert!(message.starts_with(wanted), "{message}");
        }
        let many: String = (0..=MOST_PACKAGES).map(|n| format!("p{n}==1\n")).collect();
        assert_eq!(parse(&many).unwrap_err(), "it has more than 200 packages");
    }
}
