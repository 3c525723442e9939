//! The messages that the reference quotes, compared with the texts in the code. In a message `…` or
//! a value in backticks stands for what depends on the project.

use std::path::Path;

use crate::{Row, read};

/// Signs around words, which do not count where a quoted message begins and ends.
const SIGNS: [char; 9] = ['(', ')', '[', ']', ',', ';', ':', '.', '?'];
/// How many words may take the place of what a text of the code leaves open.
const MOST_WORDS: usize = 5;
/// How many words of a message have to be those of a text in the code, if it is not half of them.
const FEWEST_WORDS: usize = 3;

/// Returns the messages in some rows of the reference that no text in the code gives.
pub(crate) fn unknown(rows: &[Row<'_>], literals: &[Vec<String>]) -> Vec<String> {
    let mut faults = Vec::new();
    for row in rows {
        for message in messages(row.wrong) {
            if !is_given(&message, literals) {
                faults.push(format!(
                    "section `## {}` of docs/wafer-toml.md has for `{}` a message with \"{}\", \
                     which no text of the code in host/ gives",
                    row.heading,
                    row.key,
                    message.join(" ")
                ));
            }
        }
    }
    faults
}

/// Returns the words of the messages in a cell: of each the parts that `…` divides, without the
/// path of a key before them.
fn messages(cell: &str) -> Vec<Vec<String>> {
    let spans = code_spans(cell).into_iter();
    let parts = spans.flat_map(|span| {
        let text = without_values(span);
        text.split('…').map(words).collect::<Vec<_>>()
    });
    let is_message = |words: &Vec<String>| words.len() > 1 && words[0] != "wafer";
    parts.map(without_key).filter(is_message).collect()
}

/// Returns the texts in backticks of a cell. A text with backticks in it is between two of them.
fn code_spans(cell: &str) -> Vec<&str> {
    let mut spans = Vec::new();
    let mut rest = cell;
    while let Some(start) = rest.find('`') {
        let marks = length_of_run(&rest[start..]);
        let inside = &rest[start + marks..];
        let Some(end) = run_of(inside, marks) else {
            break;
        };
        spans.push(&inside[..end]);
        rest = &inside[end + marks..];
    }
    spans
}

/// Returns where a run of exactly so many backticks begins.
fn run_of(text: &str, marks: usize) -> Option<usize> {
    let mut start = 0;
    while let Some(place) = text[start..].find('`') {
        start += place;
        let length = length_of_run(&text[start..]);
        if length == marks {
            return Some(start);
        }
        start += length;
    }
    None
}

fn length_of_run(text: &str) -> usize {
    text.bytes().take_while(|byte| *byte == b'`').count()
}

/// Returns a text with one backtick in the place of each value that is between two.
fn without_values(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Removes paths of keys from the beginning of a message, such as `server.requests:`, and signs
/// alone from both ends.
fn without_key(mut words: Vec<String>) -> Vec<String> {
    let is_key = |word: &String| {
        let of_key = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        word.strip_suffix(':')
            .is_some_and(|key| key.chars().all(of_key))
    };
    let is_sign = |word: &String| word.trim_matches(SIGNS).is_empty();
    while words.first().is_some_and(is_key) || words.first().is_some_and(is_sign) {
        words.remove(0);
    }
    while words.last().is_some_and(is_sign) {
        words.pop();
    }
    words
}

/// Returns whether a message is part of a text in the code, or of two with a colon or a semicolon
/// between them. What comes before a colon may also be a place of up to three words, such as
/// ``column `c`:``.
fn is_given(message: &[String], literals: &[Vec<String>]) -> bool {
    let is_part = |message: &[String]| {
        let has = |literal: &Vec<String>| {
            (0..literal.len()).any(|start| goes_on(message, 0, &literal[start..], 0))
        };
        literals.iter().any(has)
    };
    let is_of_two = |end: usize| {
        message[end - 1].ends_with([':', ';'])
            && (end <= 3 || is_part(&message[..end]))
            && is_given(&message[end..], literals)
    };
    message.len() < 2 || is_part(message) || (1..message.len()).any(is_of_two)
}

/// Returns whether a message goes on from its word `at` as a text of the code does. `exact` of the
/// words before were those of the text.
fn goes_on(message: &[String], at: usize, literal: &[String], exact: usize) -> bool {
    if at == message.len() {
        return exact >= FEWEST_WORDS || exact * 2 >= message.len();
    }
    let Some((word, rest)) = literal.split_first() else {
        return false;
    };
    let fits = |count: usize| {
        let (is_first, is_last) = (at == 0, at + count == message.len());
        match message.get(at..at + count) {
            Some([one]) => is_same(one, word, is_first, is_last),
            Some(several) => is_same(&several.join(" "), word, is_first, is_last),
            None => false,
        }
    };
    if word.contains("{}") {
        let is_open = |count| fits(count) && goes_on(message, at + count, rest, exact);
        return (1..=MOST_WORDS).any(is_open);
    }
    fits(1) && goes_on(message, at + 1, rest, exact + 1)
}

/// Compares words of a message with a word of a text, in which `{}` stands for any. Signs do not
/// count at the beginning and at the end of the message.
fn is_same(words: &str, word: &str, is_first: bool, is_last: bool) -> bool {
    let (mut words, mut word) = (words, word);
    if is_first {
        words = words.trim_start_matches(SIGNS);
        word = word.trim_start_matches(SIGNS);
    }
    if is_last {
        words = words.trim_end_matches(SIGNS);
        word = word.trim_end_matches(SIGNS);
    }
    match (word.split_once("{}"), word.rsplit_once("{}")) {
        (Some((start, _)), Some((_, end))) => {
            let is_long = words.len() >= start.len() + end.len();
            is_long && words.starts_with(start) && words.ends_with(end)
        }
        _ => words == word,
    }
}

/// Returns the texts of several words in the code below a folder, without its tests.
pub(crate) fn literals_of(folder: &Path) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "tests" {
            found.extend(literals_of(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs"
        {
            found.extend(literals(&read(&path)));
        }
    }
    found
}

/// Returns the texts of several words in a source file, with `{}` for what they leave open.
fn literals(source: &str) -> Vec<Vec<String>> {
    let code = without_tests(source);
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code: Vec<&str> = code.lines().filter(is_code).collect();
    let mut characters = code
        .join("\n")
        .replace("'\"'", "''")
        .into_bytes()
        .into_iter();
    let mut found = Vec::new();
    while characters.any(|byte| byte == b'"') {
        let text = literal(&mut characters);
        let words = words(&without_values(&without_names(&text)));
        if words.len() > 1 {
            found.push(words);
        }
    }
    found
}

/// Returns a source file up to the module of tests in it. A line `mod tests;`, whose tests are in
/// another file, ends nothing.
fn without_tests(source: &str) -> &str {
    let starts = source.match_indices("#[cfg(test)]\nmod ");
    let is_module = |start: &usize| {
        let declaration = source[*start..].lines().nth(1);
        declaration.is_some_and(|line| line.ends_with('{'))
    };
    let mut ends = starts.map(|(start, _)| start).filter(is_module);
    &source[..ends.next().unwrap_or(source.len())]
}

/// Reads a text up to its closing quote. Lines that it goes over by a backslash become one.
fn literal(bytes: &mut impl Iterator<Item = u8>) -> String {
    let mut text = Vec::new();
    let mut begins_line = false;
    while let Some(byte) = bytes.next() {
        if begins_line && byte.is_ascii_whitespace() {
            continue;
        }
        begins_line = false;
        match byte {
            b'"' => break,
            b'\\' => match bytes.next() {
                Some(b'\n') => begins_line = true,
                Some(b'n') => text.push(b' '),
                Some(escaped) => text.push(escaped),
                None => break,
            },
            _ => text.push(byte),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Returns a text with `{}` in the place of everything in braces that has no space.
fn without_names(text: &str) -> String {
    let mut found = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        found += before;
        let end = after.find(['{', '}', ' ']);
        rest = match end.filter(|end| after[*end..].starts_with('}')) {
            Some(end) => {
                found += "{}";
                &after[end + 1..]
            }
            None => {
                found.push('{');
                after
            }
        };
    }
    found + rest
}

#[test]
fn messages_that_no_text_gives_are_found() {
    let source = r#"
        #[cfg(test)]
        mod tests;
        // "a comment is no text"
        fn text() {
            let most = format!("is {most:?}: the server would answer \
                                nothing");
            let of = "needs more than {} (setting `memory`)";
        }
        #[cfg(test)]
        mod tests {
            const ALSO: &str = "a text of a test";
        }
    "#;
    let source = source.replace("        ", "");
    let literals = literals(&source);
    let row = |wrong| Row {
        heading: "[server]",
        key: "requests",
        kind: "integer",
        default: "none",
        wrong,
    };
    for (wrong, is_known) in [
        (
            "``server.requests: is 0: the server would answer nothing``",
            true,
        ),
        (
            "at a run: `is 0: the server would …`; or `column 3: is 0: the server`",
            true,
        ),
        ("``needs more than 256 MiB (setting `memory`)``", true),
        ("the folder cannot be made; at `wafer deploy`", true),
        ("`is 0: the server would answer something`", false),
        ("`needs less than 256 MiB`", false),
        ("`a text of a test`", false),
        ("`a comment is no text`", false),
    ] {
        let faults = unknown(&[row(wrong)], &literals);
        assert_eq!(faults.is_empty(), is_known, "{wrong}: {faults:?}");
    }
}
