//! Checks the lines of comments: none is longer than rustfmt lets code be. It does not wrap
//! comments itself.

use std::path::Path;

use crate::Result;
use crate::sources::{files, is_rust, read};

/// The most characters of a line, its indentation included.
const WIDTH: usize = 100;

/// The folder with code that is generated from `wit/`, with the comments of that folder.
const GENERATED: &str = "guest-sdk/src/bindings";

/// How examples begin that have to be on one line: a command, or a value in JSON.
const EXAMPLES: [&str; 2] = ["wafer ", "{"];

/// Refuses lines of comments that are too long.
///
/// # Errors
/// Returns the file and the number of each such line.
pub(crate) fn check(root: &Path) -> Result {
    let mut found = Vec::new();
    for path in files(root, &is_rust)? {
        let shown = path.strip_prefix(root).unwrap_or(&path);
        if shown.starts_with(GENERATED) {
            continue;
        }
        let text = read(&path)?;
        found.extend(long_comments(&text).map(|line| {
            let place = shown.display();
            format!("{place}:{line}: a comment is longer than {WIDTH} columns")
        }));
    }
    match found.is_empty() {
        true => Ok(()),
        false => Err(found.join("\n")),
    }
}

/// Returns the numbers of the lines of comments that are too long and could be wrapped: rows of
/// tables, URLs and examples cannot.
fn long_comments(text: &str) -> impl Iterator<Item = usize> {
    let is_long = |line: &str| {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            return false;
        };
        let comment = comment.trim_start_matches(['/', '!']).trim_start();
        let stays = comment.starts_with('|')
            || comment.contains("://")
            || EXAMPLES.iter().any(|start| comment.starts_with(start));
        !stays && line.chars().count() > WIDTH
    };
    let numbered = text.lines().enumerate();
    numbered
        .filter(move |&(_, line)| is_long(line))
        .map(|(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_of_comments_are_found_and_what_cannot_be_wrapped_is_left() {
        let words = "x ".repeat(60);
        for (line, wanted) in [
            (format!("// {words}"), true),
            (format!("    /// {words}"), true),
            (format!("//! {words}"), true),
            (format!("// {}", "x".repeat(97)), false),
            (format!("// {}", "x".repeat(98)), true),
            // Characters count, not bytes.
            (format!("// {}", "–".repeat(97)), false),
            (format!("//! | {words} |"), false),
            (format!("/// <https://example.com/{words}>"), false),
            (format!("///   wafer models {words}"), false),
            (format!("//!   {{\"column\": \"{words}\"}}"), false),
            (
                format!("let code = \"{words}\"; // It is rustfmt's."),
                false,
            ),
        ] {
            let text = format!("fn f() {{}}\n{line}\n");
            let found: Vec<usize> = long_comments(&text).collect();
            let wanted = if wanted { vec![2] } else { Vec::new() };
            assert_eq!(found, wanted, "{line}");
        }
    }
}
