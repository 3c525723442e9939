//! Names of definitions: which names are valid, and which known name an unknown one resembles.

use wafer_store::{Error, Kind, Result};

/// Checks that a text can be a name in a project: at most 48 lowercase ASCII letters, digits and
/// underscores, the first of them a letter.
///
/// # Errors
/// Returns a message for the user when it cannot.
pub fn is_name(name: &str) -> Result<(), String> {
    let ok = name.len() <= 48
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if ok {
        Ok(())
    } else {
        Err(format!(
            "`{name}` is not a name; use lowercase letters, digits and underscores, starting with a letter, at most 48"
        ))
    }
}

/// Returns a suggestion to append to the message about an unknown name: `; is … meant?`. It is
/// empty when no known name is similar.
pub fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |nearest| format!("; is `{nearest}` meant?"))
}

/// Returns the known name that is most similar to an unknown one, or `None` if none is similar.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Returns a definition by name. `what` is the kind of definition, for the message.
///
/// # Errors
/// Returns [`Kind::NotFound`] when there is none of that name. The message suggests a similar name
/// or lists the known ones.
pub fn get<'a, T>(
    things: &'a std::collections::BTreeMap<String, T>,
    name: &str,
    what: &str,
) -> Result<&'a T> {
    things.get(name).ok_or_else(|| {
        let hint = match nearest(name, things.keys().map(String::as_str)) {
            Some(nearest) => format!("; did you mean `{nearest}`?"),
            None if things.is_empty() => "; nothing was applied yet, run `wafer apply`".to_owned(),
            None => format!(
                "; the known ones are {}",
                things.keys().cloned().collect::<Vec<_>>().join(", ")
            ),
        };
        Error::new(Kind::NotFound, format!("there is no {what} `{name}`{hint}"))
    })
}
