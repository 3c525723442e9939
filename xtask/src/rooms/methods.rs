//! Which files of a crate call methods of their own types that other files define.
//!
//! A type may have its methods in several files. A call of such a method names no path, so the
//! imports do not show it, and yet the file that calls depends on the one that defines.

use std::collections::{BTreeMap, BTreeSet};

use super::{Module, paths, resolve};

/// An `impl` block.
struct Block<'a> {
    /// The file that it is in.
    module: &'a Module,
    /// The file that declares the type, and the name of the type.
    of: (&'a Module, &'a str),
    /// Whether it implements a trait for the type.
    is_of_trait: bool,
    /// The text between its braces.
    text: &'a str,
}

/// A method: whether a trait has it, the type as in [`Block::of`], and its name.
type Method<'a> = (bool, (&'a Module, &'a str), &'a str);

/// Returns for each file the others that define a method which it calls of a type of its own
/// `impl` blocks, by `self.NAME(` or `Self::NAME`.
pub(super) fn own_calls(texts: &BTreeMap<Module, String>) -> BTreeMap<&Module, BTreeSet<&Module>> {
    let blocks: Vec<Block<'_>> = texts
        .keys()
        .flat_map(|module| blocks(module, texts))
        .collect();
    let mut methods: BTreeMap<Method<'_>, BTreeSet<&Module>> = BTreeMap::new();
    for block in &blocks {
        for name in methods_in(block.text) {
            let method = (block.is_of_trait, block.of, name);
            methods.entry(method).or_default().insert(block.module);
        }
    }
    let mut called: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for block in &blocks {
        for name in calls_in(block.text) {
            // A method of the type itself hides one of a trait.
            let own = methods.get(&(false, block.of, name));
            let Some(files) = own.or_else(|| methods.get(&(true, block.of, name))) else {
                continue;
            };
            if !files.contains(block.module) {
                called.entry(block.module).or_default().extend(files);
            }
        }
    }
    called
}

/// Returns the `impl` blocks of a file for types of the crate. The file is formatted, so a block
/// begins and ends at the start of a line.
fn blocks<'a>(module: &'a Module, texts: &'a BTreeMap<Module, String>) -> Vec<Block<'a>> {
    let text = texts[module].as_str();
    let block = |at: usize| {
        let head = text[at..].strip_prefix("impl")?;
        if !head.starts_with([' ', '<']) {
            return None;
        }
        let (head, rest) = head.split_once('{')?;
        let end = match rest.starts_with('}') {
            true => 0,
            false => rest.find("\n}").unwrap_or(rest.len()),
        };
        let head = without_generics(head);
        let (is_of_trait, of) = match head.split_once(" for ") {
            Some((_, of)) => (true, of),
            None => (false, head),
        };
        let name = type_name(of);
        Some(Block {
            module,
            of: (home(module, name, texts)?, name),
            is_of_trait,
            text: &rest[..end],
        })
    };
    let after_lines = text.match_indices('\n').map(|(at, _)| at + 1);
    std::iter::once(0)
        .chain(after_lines)
        .filter_map(block)
        .collect()
}

/// Returns a text without the generic parameters that it begins with.
fn without_generics(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            // The arrow of a function's type closes nothing.
            '>' if !text[..at].ends_with('-') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text[at..].strip_prefix('>').unwrap_or(&text[at..]);
        }
    }
    text
}

/// Returns the name of a type, without its path and parameters.
fn type_name(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| c == '<' || c.is_whitespace());
    let path = &text[..end.unwrap_or(text.len())];
    path.rsplit("::").next().unwrap_or(path)
}

/// Returns the file that declares the type of this name in a file, or `None` if the crate does not.
fn home<'a>(
    module: &'a Module,
    name: &str,
    texts: &'a BTreeMap<Module, String>,
) -> Option<&'a Module> {
    let text = &texts[module];
    if declares(text, name) {
        return Some(module);
    }
    let imported = paths(text);
    let imported = imported
        .iter()
        .find(|path| path.last().is_some_and(|last| last == name));
    resolve(module, imported?, texts, 0)
}

/// Returns whether a text declares a type.
fn declares(text: &str, name: &str) -> bool {
    ["struct ", "enum ", "type "].iter().any(|keyword| {
        text.match_indices(keyword).any(|(at, _)| {
            let declared = text[at + keyword.len()..].strip_prefix(name);
            declared.is_some_and(|after| !after.starts_with(is_of_name))
        })
    })
}

/// Returns the names of the methods that a block defines.
fn methods_in(block: &str) -> impl Iterator<Item = &str> {
    const BEGINNINGS: [&str; 6] = ["pub", "fn ", "async ", "const ", "unsafe ", "extern "];
    block.lines().filter_map(|line| {
        // What is indented more is within a method.
        let line = line.strip_prefix("    ")?;
        if !BEGINNINGS.iter().any(|word| line.starts_with(word)) {
            return None;
        }
        let (_, name) = line.split_once("fn ")?;
        Some(first_name(name))
    })
}

/// Returns the names of the methods that a block calls of its own type.
fn calls_in(block: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for (word, sign) in [("self", "."), ("Self", "::")] {
        for (at, _) in block.match_indices(word) {
            let rest = block[at + word.len()..].trim_start();
            let (false, Some(rest)) = (block[..at].ends_with(is_of_name), rest.strip_prefix(sign))
            else {
                continue;
            };
            let name = first_name(rest);
            let after = &rest[name.len()..];
            // A field may have the name of a method.
            if word == "Self" || after.starts_with('(') || after.starts_with("::<") {
                found.insert(name);
            }
        }
    }
    found
}

/// Returns the name that a text begins with.
fn first_name(text: &str) -> &str {
    let end = text.find(|c: char| !is_of_name(c));
    &text[..end.unwrap_or(text.len())]
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns which files call which, each as `FILE -> FILE`.
    fn calls(files: &[(&str, &str)]) -> Vec<String> {
        let module = |name: &str| -> Module { name.split('/').map(str::to_owned).collect() };
        let texts: BTreeMap<Module, String> = files
            .iter()
            .map(|(name, text)| (module(name), (*text).to_owned()))
            .collect();
        let called = own_calls(&texts);
        let pairs = called
            .iter()
            .flat_map(|(from, files)| files.iter().map(move |to| (from, to)));
        pairs
            .map(|(from, to)| format!("{} -> {}", from.join("/"), to.join("/")))
            .collect()
    }

    #[test]
    fn calls_of_methods_that_another_file_defines_are_found() {
        const TYPE: &str = "pub struct Service<T>(T);\n";
        const DEFINES: &str = "use crate::a::Service;\nimpl<F: Fn(u8) -> u8> Service<F> {\n    \
                               pub(crate) async fn two<T>(&self) {\n    }\n}\n";
        for (what, body, wanted) in [
            ("a call", "self.two();", true),
            ("a call on two lines", "self\n            .two();", true),
            ("a call with a type", "self.two::<u8>();", true),
            ("a call by the name of the type", "Self::two(self);", true),
            ("a method as a value", "all.map(Self::two)", true),
            ("a field", "self.two.len();", false),
            ("a method of a field", "self.other.two();", false),
            ("another variable", "myself.two();", false),
            ("another method", "self.three();", false),
            ("a path", "self::two();", false),
        ] {
            let calls_it = format!(
                "use super::a::Service;\nimpl<T> Service<T> {{\n    fn one(&self) {{\n        {body}\n    }}\n}}\n"
            );
            let files: [(&str, &str); 3] = [("a", TYPE), ("b", DEFINES), ("c", &calls_it)];
            let wanted: &[&str] = if wanted { &["c -> b"] } else { &[] };
            assert_eq!(calls(&files), wanted, "{what}");
        }
    }

    #[test]
    fn only_methods_of_the_same_type_count() {
        let one = "impl Service {\n    fn one(&self) {\n        self.two();\n    }\n}\n";
        let two = "impl Service {\n    fn two(&self) {\n    }\n}\n";
        let declared = |text: &str| format!("struct Service;\n{text}");
        let imported = |text: &str| format!("use crate::a::Service;\n{text}");
        for (what, b, c, wanted) in [
            ("one type", imported(one), imported(two), &["b -> c"][..]),
            ("two of one name", declared(one), declared(two), &[]),
            (
                "one of them is that of another file",
                declared(one),
                imported(two),
                &[],
            ),
            (
                "a type of another crate",
                one.to_owned(),
                two.to_owned(),
                &[],
            ),
            (
                "a method of its own",
                imported(&format!("{one}{two}")),
                imported(two),
                &[],
            ),
        ] {
            let declares = "pub struct Service;\n";
            let files: [(&str, &str); 3] = [("a", declares), ("b", &b), ("c", &c)];
            assert_eq!(calls(&files), wanted, "{what}");
        }
    }

    #[test]
    fn methods_of_traits_call_and_are_called() {
        let service = "pub enum Service {\n    One,\n}\n";
        let show = "use crate::a::Service;\nimpl Marker for Service {}\n\nimpl fmt::Display for Service {\n    \
                    fn fmt(&self) {\n        self.text()\n    }\n}\n";
        let text = "use crate::a::Service;\nimpl Service {\n    fn text(&self) {\n        self.fmt()\n    }\n}\n";
        let files = [("a", service), ("b", show), ("c", text)];
        assert_eq!(calls(&files), ["b -> c", "c -> b"]);
        // The type has a method of this name itself, beside that of the trait.
        let own = format!("{service}impl Service {{\n    fn fmt(&self) {{\n    }}\n}}\n");
        let files = [("a", own.as_str()), ("b", show), ("c", text)];
        assert_eq!(calls(&files), ["b -> c", "c -> a"]);
    }
}
