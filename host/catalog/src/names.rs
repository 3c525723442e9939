//! Names of definitions: which texts can be one, and which one an unknown name was meant to be.

use wafer_store::{Error, Kind, Result};

/// Whether a text can be a name in a project; or why not.
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

/// What messages say after an unknown name that is like a known one: `; is … meant?`.
pub fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |nearest| format!("; is `{nearest}` meant?"))
}

/// The known name that an unknown one is most like, if it is like one at all.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A definition by name, or which name could be meant.
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
                "; known are {}",
                things.keys().cloned().collect::<Vec<_>>().join(", ")
            ),
        };
        Error::new(Kind::NotFound, format!("there is no {what} `{name}`{hint}"))
    })
}
