//! Checks the number of tests of behaviour where texts state it: each new test would make it wrong.

use std::path::Path;

use crate::Result;
use crate::sources::{files, is_rust, read};

/// The texts that state the number, each with the words that come after it.
const STATED: [(&str, &str); 3] = [
    ("README.md", " tests of behaviour"),
    ("README.md", " passed;"),
    ("docs/flights.md", " passed;"),
];

/// Compares the number that texts state with the number of tests below `tests/`.
///
/// # Errors
/// Returns each text that states another number or none, with the right number.
pub(crate) fn check(root: &Path) -> Result {
    let count = count(&root.join("tests"))?;
    let mut wrong = Vec::new();
    for (path, words) in STATED {
        let found = stated(&read(&root.join(path))?, words);
        if found != Some(count) {
            let found = found.map_or("no number".to_owned(), |found| found.to_string());
            wrong.push(format!(
                "{path}: write `{count}{words}` (it has {found}): so many tests are below tests/"
            ));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n")),
    }
}

/// Counts the tests in the files of a folder. Guests are crates of their own, whose tests are no
/// tests of behaviour.
fn count(folder: &Path) -> Result<usize> {
    let guests = folder.join("guests");
    let is_wanted = |path: &Path| is_rust(path) && !path.starts_with(&guests);
    let mut count = 0;
    for path in files(folder, &is_wanted)? {
        count += tests_of(&read(&path)?);
    }
    Ok(count)
}

fn tests_of(text: &str) -> usize {
    text.lines().filter(|line| line.trim() == "#[test]").count()
}

/// Returns the number that stands before the first occurrence of some words.
fn stated(text: &str, words: &str) -> Option<usize> {
    let (before, _) = text.split_once(words)?;
    let rest = before.trim_end_matches(|c: char| c.is_ascii_digit());
    before[rest.len()..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_by_their_attribute() {
        let text = "#[test]\nfn a() {}\n    #[test]\n    fn b() {}\n// #[test]\n#[tests]\n";
        assert_eq!(tests_of(text), 2);
    }

    #[test]
    fn numbers_are_read_before_their_words() {
        for (text, wanted) in [
            ("ok. 362 passed; 0 failed", Some(362)),
            ("7 passed; 8 passed;", Some(7)),
            ("ok. passed; 0 failed", None),
            ("… passed;", None),
            ("", None),
        ] {
            assert_eq!(stated(text, " passed;"), wanted, "{text}");
        }
    }

    #[test]
    fn texts_with_another_number_are_refused_with_the_right_one() {
        let folder = std::env::temp_dir().join(format!("wafer-test-count-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("tests/a.rs", "#[test]\nfn a() {}\n#[test]\nfn b() {}\n");
        write("tests/guests/g/src/lib.rs", "#[test]\nfn c() {}\n");
        write(
            "README.md",
            "It runs 2 tests of behaviour.\nok. 3 passed; 0 failed\n",
        );
        write("docs/flights.md", "nothing\n");
        let checked = check(&folder);
        write(
            "README.md",
            "It runs 2 tests of behaviour.\nok. 2 passed; 0 failed\n",
        );
        write("docs/flights.md", "ok. 2 passed; 0 failed\n");
        let mended = check(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        let said = checked.unwrap_err();
        let wanted = "README.md: write `2 passed;` (it has 3): so many tests are below tests/\n\
                      docs/flights.md: write `2 passed;` (it has no number): so many tests are below tests/";
        assert_eq!(said, wanted);
        assert_eq!(mended, Ok(()));
    }
}
