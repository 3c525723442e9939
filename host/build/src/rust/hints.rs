//! Hints about code that does not work in the sandbox.
//!
//! The standard library compiles for the sandbox, and does nothing or panics there: nothing is
//! printed, and there is no clock. Crates that need randomness do not compile, with an error that
//! speaks of browsers. Whoever builds a function is told before it is called.

use std::path::{Path, PathBuf};

/// What there is to look for in sources: names, and what to do where one of them is used.
const NOT_THERE: &[(&[&str], &str)] = &[
    (
        &[
            "SystemTime::now",
            "Instant::now",
            "Utc::now",
            "Local::now",
            "OffsetDateTime::now_utc",
        ],
        "a function has no clock, and stops here: take the time as a field of its row, or of the \
         view's request",
    ),
    (
        &["println!", "print!", "eprintln!", "eprint!", "dbg!"],
        "nothing is printed from inside a function: write `wafer::log(wafer::Level::Info, …)`, and \
         run wafer with -v to see it",
    ),
    (
        &[
            "rand::",
            "fastrand::",
            "thread_rng",
            "getrandom",
            "OsRng",
            "Uuid::new_v4",
        ],
        "a function has no randomness, so that its rows can be made again: make what has to look \
         random from a hash of the row's own values",
    ),
    (
        &[
            "File::open",
            "File::create",
            "fs::read",
            "fs::write",
            "TcpStream::connect",
            "UdpSocket::bind",
            "reqwest::",
        ],
        "a function has no files and no network: give it the file as an asset, or the value as a \
         column",
    ),
    (
        &["env::var", "env::vars", "env::args"],
        "a function has no environment: give it a parameter in wafer.toml",
    ),
    (
        &["thread::spawn", "thread::scope", "thread::sleep"],
        "a function has one thread, and stops here: Wafer calls it on many chunks of rows at once",
    ),
];

/// The greatest number of hints about one crate, of files that are looked at, and the greatest size
/// of one in bytes.
const MOST_HINTS: usize = 20;
const MOST_FILES: usize = 1_000;
const MOST_BYTES: u64 = 1 << 20;

/// Returns a hint for each line of a crate's sources that uses what is not there.
pub(super) fn of_sources(folder: &Path) -> Vec<String> {
    let mut hints = Vec::new();
    for path in sources(&folder.join("src")) {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let shown = path.strip_prefix(folder).unwrap_or(&path).display();
        let found = of_text(&text);
        hints.extend(found.map(|(line, name, hint)| format!("{shown}:{line}: `{name}`: {hint}")));
        if hints.len() >= MOST_HINTS {
            break;
        }
    }
    hints.truncate(MOST_HINTS);
    hints
}

/// Returns the sources below a folder, in the order of their paths.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.metadata() {
                Ok(about) if about.is_dir() => folders.push(path),
                Ok(about) if about.len() <= MOST_BYTES && is_rust(&path) => files.push(path),
                _ => {}
            }
        }
        if files.len() >= MOST_FILES {
            break;
        }
    }
    files.sort();
    files
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Returns the lines of a source that use what is not there: number, name and what to do. Comments
/// do not count, and neither do the tests at the end, which run outside of the sandbox.
fn of_text(text: &str) -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    let lines = text
        .lines()
        .take_while(|line| !line.trim_start().starts_with("#[cfg(test)]"));
    lines.enumerate().filter_map(|(index, line)| {
        let code = line.split("//").next().unwrap_or_default();
        let (name, hint) = of_code(code)?;
        Some((index + 1, name, hint))
    })
}

fn of_code(code: &str) -> Option<(&'static str, &'static str)> {
    NOT_THERE.iter().find_map(|(names, hint)| {
        let used = names.iter().find(|name| uses(code, name))?;
        Some((*used, *hint))
    })
}

/// Returns whether code has a name that is not the end of another one.
fn uses(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    })
}

/// Returns what to do about the errors of a compiler, if it is about the sandbox.
pub(super) fn of_errors(errors: &[String]) -> Option<&'static str> {
    let has = |text: &str| errors.iter().any(|error| error.contains(text));
    if has("getrandom") {
        return Some(
            "a crate that it depends on needs randomness, which a function does not have, so that \
             its rows can be made again: leave out that crate (`cargo tree -i getrandom` names it) or \
             the feature of it that needs randomness",
        );
    }
    if has("use of unresolved module or unlinked crate `wafer`") || has("unresolved import `wafer`")
    {
        return Some(
            "it does not depend on the SDK: add `wafer-sdk.workspace = true` to the \
             `[dependencies]` of its Cargo.toml",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_use_what_is_not_there_are_named() {
        let text = "\
//! It does not `println!`.
use std::time::SystemTime;
fn f() {
    let now = SystemTime::now(); // Instant::now
    eprintln!(\"{now:?}\");
    let dice = rand::random::<u8>();
    let operand = operand::new();
    my_println!();
    let s = std::fs::read_to_string(\"x\");
}
#[cfg(test)]
mod tests {
    fn t() { println!(); }
}
";
        let found: Vec<_> = of_text(text).map(|(line, name, _)| (line, name)).collect();
        assert_eq!(
            found,
            [
                (4, "SystemTime::now"),
                (5, "eprintln!"),
                (6, "rand::"),
                (9, "fs::read")
            ]
        );
    }

    #[test]
    fn errors_of_crates_that_need_randomness_say_what_to_do() {
        let old = "the wasm*-unknown-unknown targets are not supported by default, you may need to \
                   enable the \"js\" feature. For more information see: \
                   https://docs.rs/getrandom/#webassembly-support";
        let hint = of_errors(&["other".to_owned(), old.to_owned()]);
        assert!(hint.is_some_and(|hint| hint.contains("cargo tree -i getrandom")));
        let hint = of_errors(&["unresolved import `wafer`".to_owned()]);
        assert!(hint.is_some_and(|hint| hint.contains("wafer-sdk")));
        assert_eq!(of_errors(&["mismatched types".to_owned()]), None);
    }
}
