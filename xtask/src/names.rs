//! Checks the names of code and of files in the texts for those who change the code: each is there.
//! A type that was renamed, or a file that was moved, would otherwise stay in a how-to page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::Result;
use crate::sources::{files, is_rust, read};

/// The texts, and folders whose texts are meant.
const TEXTS: [&str; 11] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "benches",
    "docs/decisions",
    "docs/how-to",
    "fuzz",
    "guest-sdk",
    "host",
    "tests",
    "wit",
    "xtask",
];

/// The endings of files in which names of code are.
const CODE: [&str; 8] = ["rs", "wit", "toml", "tf", "hcl", "py", "sh", "in"];

/// The endings of files that texts name.
const NAMED_FILES: [&str; 8] = ["rs", "md", "wit", "toml", "tf", "py", "sh", "csv"];

/// What the sketches of how-to pages add to types that are there.
const SKETCHED: [(&str, &str); 3] = [
    ("Command", "Entities"),
    ("Format", "Lines"),
    ("ValueStatistic", "Mode"),
];

/// The words after which the name of a type comes where it is declared or implemented.
const DECLARING: [&str; 6] = ["enum", "struct", "trait", "type", "impl", "for"];

/// Refuses names in backticks that are not in the code, and members that no file with their type
/// has, also in sketches.
///
/// # Errors
/// Returns the file, the line and the name of each.
pub(crate) fn check(root: &Path) -> Result {
    let code = Code::read(root)?;
    let mut found = Vec::new();
    for path in texts(root)? {
        let shown = path.strip_prefix(root).unwrap_or(&path).display();
        for (number, name) in unknown_names(&read(&path)?, &path, &code) {
            found.push(format!("{shown}:{number}: there is no `{name}`"));
        }
    }
    match found.is_empty() {
        true => Ok(()),
        false => Err(found.join("\n")),
    }
}

/// Returns the texts that are checked.
fn texts(root: &Path) -> Result<Vec<PathBuf>> {
    let mut texts = Vec::new();
    for text in TEXTS.map(|text| root.join(text)) {
        match text.is_dir() {
            true => texts.extend(files(&text, &|path| has_ending(path, &["md"]))?),
            false if text.exists() => texts.push(text),
            false => {}
        }
    }
    Ok(texts)
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| endings.contains(&ending))
}

/// What the code has.
#[derive(Default)]
struct Code {
    root: PathBuf,
    /// The files of the repository.
    paths: Vec<PathBuf>,
    /// All words of the code.
    words: BTreeSet<String>,
    /// The words of the files in which a type is declared or implemented.
    by_type: BTreeMap<String, BTreeSet<String>>,
}

impl Code {
    fn read(root: &Path) -> Result<Self> {
        let mut code = Self {
            root: root.to_owned(),
            paths: files(root, &|_| true)?,
            ..Self::default()
        };
        let sources: Vec<PathBuf> = code.paths.clone();
        for path in sources.iter().filter(|path| has_ending(path, &CODE)) {
            let text = read(path)?;
            code.words.extend(words(&text).map(str::to_owned));
            if is_rust(path) {
                code.add_types(&text);
            }
        }
        Ok(code)
    }

    fn add_types(&mut self, text: &str) {
        let all: Vec<&str> = words(text).collect();
        let pairs = all.windows(2);
        let declared = pairs.filter(|pair| DECLARING.contains(&pair[0]) && is_type(pair[1]));
        for name in declared.map(|pair| pair[1]).collect::<BTreeSet<_>>() {
            let members = self.by_type.entry(name.to_owned()).or_default();
            members.extend(all.iter().map(|word| (*word).to_owned()));
        }
    }

    fn has_file(&self, name: &str, text: &Path) -> bool {
        let beside = text
            .parent()
            .is_some_and(|folder| folder.join(name).exists());
        let named = Path::new(name);
        beside || self.root.join(name).exists() || self.paths.iter().any(|p| p.ends_with(named))
    }

    /// Returns whether a type has a member of this name, as far as that can be told. Types of
    /// libraries are not known.
    fn has_member(&self, name: &str, member: &str) -> bool {
        let members = self.by_type.get(name);
        members.is_none_or(|members| members.contains(member)) || SKETCHED.contains(&(name, member))
    }
}

/// Returns the words of a text: letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| !word.is_empty())
}

fn is_type(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
}

/// Returns the names in a text that are not there, with the numbers of their lines.
fn unknown_names(text: &str, path: &Path, code: &Code) -> Vec<(usize, String)> {
    let mut unknown = Vec::new();
    let mut is_sketch = false;
    for (line, number) in text.lines().zip(1..) {
        if line.trim_start().starts_with("```") {
            is_sketch = !is_sketch;
            continue;
        }
        if !is_sketch {
            let spans = spans(line).filter(|span| !is_known(span, path, code));
            unknown.extend(spans.map(|span| (number, span.to_owned())));
        }
        let members = members(line).filter(|(name, member)| !code.has_member(name, member));
        unknown.extend(members.map(|(name, member)| (number, format!("{name}::{member}"))));
    }
    unknown
}

/// Returns what is between backticks. Lines with double ones quote texts.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    let line = if line.contains("``") { "" } else { line };
    line.split('`').skip(1).step_by(2)
}

/// Returns whether a span is there, or is something else than a file or a name of code. `NAME`
/// stands for any name.
fn is_known(span: &str, text: &Path, code: &Code) -> bool {
    if span.contains("NAME") {
        return true;
    }
    let is_part_of_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    if span.chars().all(is_part_of_path) && has_ending(Path::new(span), &NAMED_FILES) {
        return code.has_file(span, text);
    }
    match name_of(span) {
        Some(name) => name.split("::").all(|part| code.words.contains(part)),
        None => true,
    }
}

/// Returns the name that a span is, without parentheses and exclamation mark, if it can only be one
/// of code: it has an underscore, parentheses, `::`, or capitals within.
fn name_of(span: &str) -> Option<&str> {
    let called = span.strip_suffix("()");
    let name = called.unwrap_or(span);
    let name = name.strip_suffix('!').unwrap_or(name);
    let is_name = |part: &str| {
        let mut chars = part.chars();
        let first = chars.next();
        first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let has_capital = |pair: &[u8]| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase();
    let is_code = called.is_some()
        || name.contains("::")
        || name.trim_matches('_').contains('_')
        || name.as_bytes().windows(2).any(has_capital);
    (is_code && name.split("::").all(is_name)).then_some(name)
}

/// Returns each `Type::member` of a line.
fn members(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_other = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let pairs = line.match_indices("::").filter_map(move |(place, _)| {
        let mut before = line[..place].rsplit(is_other);
        let mut after = line[place + 2..].split(is_other);
        Some((before.next()?, after.next()?))
    });
    pairs.filter(|(name, member)| is_type(name) && !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_code_are_told_from_other_spans() {
        for (span, wanted) in [
            ("item_identity", Some("item_identity")),
            ("ItemIdentity", Some("ItemIdentity")),
            ("Events::ingest", Some("Events::ingest")),
            ("open()", Some("open")),
            ("states!", None),
            ("wafer", None),
            ("wafer apply", None),
            ("group:rides", None),
            ("X-Amz-Target", None),
            ("7_", None),
        ] {
            assert_eq!(name_of(span), wanted, "{span}");
        }
    }

    #[test]
    fn members_are_found_in_prose_and_in_sketches() {
        let line =
            "Ok(Format::Csv) => BuildError::Component { path }, wafer_core::Digest, Self::new";
        let found: Vec<_> = members(line).collect();
        let wanted = [
            ("Format", "Csv"),
            ("BuildError", "Component"),
            ("Self", "new"),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn names_and_files_that_are_not_there_are_refused() {
        let root = std::env::temp_dir().join(format!("wafer-names-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "host/a/src/lib.rs",
            "pub enum BuildError { Component }\nfn item_identity() {}\n",
        );
        write(
            "docs/how-to/page.md",
            "`item_identity` and `item_identities` in `a/src/lib.rs` and `b.rs`, `BuildError`\n\
             and `NAME_of_it` of `NAME.rs`, ``quoted_text``\n\
             ```rust\nBuildError::Component; BuildError::Wrap; fn invented_name() {}\n```\n",
        );
        let checked = check(&root);
        std::fs::remove_dir_all(&root).unwrap();
        let wanted = "docs/how-to/page.md:1: there is no `item_identities`\n\
                      docs/how-to/page.md:1: there is no `b.rs`\n\
                      docs/how-to/page.md:4: there is no `BuildError::Wrap`";
        assert_eq!(checked.unwrap_err(), wanted);
    }
}
