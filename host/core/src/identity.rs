//! Identities of events: those that consist of two parts, and those that are a field of the event.

use std::borrow::Cow;

/// The greatest length of an identity in bytes. Each row that an event writes has a copy of it,
/// also in the archive and in quarantine tables, so that the memory of a push depends on it.
pub const MAX_IDENTITY_BYTES: usize = 1 << 10;

/// Checks the length of an identity in bytes.
///
/// # Errors
/// Returns that it is too long, as the rest of a sentence about the field or text.
fn check_length(bytes: usize) -> Result<(), String> {
    match bytes > MAX_IDENTITY_BYTES {
        true => Err(format!(
            "is {bytes} bytes long, and an identity takes at most {MAX_IDENTITY_BYTES}; send a \
             shorter one, such as a digest of it"
        )),
        false => Ok(()),
    }
}

/// Returns the identity of an event that a sender knows as `id`, and that no other sender has under
/// this identity: `sender id`, as in CloudEvents, where the source and the id identify an event
/// together.
///
/// Different pairs have different identities. A sender that contains a space, which neither a URI
/// nor an ARN does, is preceded by its length, since `a b` and `c` would read like `a` and `b c`:
///
/// ```
/// assert_eq!(wafer_core::joined_identity("/ewr", "7 a").unwrap(), "/ewr 7 a");
/// assert_eq!(wafer_core::joined_identity("a b", "c").unwrap(), " 3 a b c");
/// ```
///
/// Stores remember identities, and recognise a repeated event by them. So identities whose sender
/// contains no space are what they were before length was added, and must stay so.
///
/// # Errors
/// Returns the reason when the two together are longer than [`MAX_IDENTITY_BYTES`].
pub fn joined_identity(sender: &str, id: &str) -> Result<String, String> {
    // They are not copied if they are too long.
    let checked = check_length(sender.len() + 1 + id.len());
    checked.map_err(|reason| format!("its sender and its id together, its identity, {reason}"))?;
    // A sender is not empty, so no identity without a length begins with a space. An empty one
    // would make it begin with a space as well, and is therefore written with its length.
    Ok(match sender.is_empty() || sender.contains(' ') {
        true => format!(" {} {sender} {id}", sender.len()),
        false => format!("{sender} {id}"),
    })
}

/// Returns the identity of an event that is known by a text in it: the text itself.
///
/// A text that would read like the [identity of a number](number_identity), a number after spaces,
/// is preceded by one more space.
///
/// ```
/// assert_eq!(wafer_core::text_identity("7").unwrap(), "7");
/// assert_eq!(wafer_core::text_identity(" 7").unwrap(), "  7");
/// ```
///
/// Like [`joined_identity`]s, texts of all other forms must stay what they are.
///
/// # Errors
/// Returns that the text is longer than [`MAX_IDENTITY_BYTES`], as the rest of a sentence about it.
pub fn text_identity(text: &str) -> Result<Cow<'_, str>, String> {
    check_length(text.len())?;
    let rest = text.trim_start_matches(' ');
    let begins_a_number = rest.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    Ok(match begins_a_number && rest.len() < text.len() {
        true => Cow::Owned(format!(" {text}")),
        false => Cow::Borrowed(text),
    })
}

/// Returns the identity of an event that is known by a number in it, written as in JSON. The event
/// is another one than that with the same digits as a text, so the number is preceded by a space.
///
/// ```
/// assert_eq!(wafer_core::number_identity("7"), " 7");
/// ```
pub fn number_identity(number: &str) -> String {
    format!(" {number}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn identities_of_texts_never_change() {
        for (text, wanted) in [
            ("7", "7"),
            ("-7.5", "-7.5"),
            ("", ""),
            (" ", " "),
            (" a", " a"),
            ("a 7", "a 7"),
            (" 7", "  7"),
            ("  -7 a", "   -7 a"),
        ] {
            assert_eq!(text_identity(text).unwrap(), wanted);
        }
    }

    #[test]
    fn identities_of_senders_without_a_space_never_change() {
        for (sender, id, wanted) in [
            ("/ewr", "7", "/ewr 7"),
            ("/ewr", "7 a", "/ewr 7 a"),
            ("/ewr", " 7", "/ewr  7"),
            (
                "arn:aws:sqs:eu-west-1:1:q",
                "m",
                "arn:aws:sqs:eu-west-1:1:q m",
            ),
            ("a b", "c", " 3 a b c"),
            ("", "c", " 0  c"),
            ("", "1 x c", " 0  1 x c"),
        ] {
            assert_eq!(joined_identity(sender, id).unwrap(), wanted);
        }
    }

    #[test]
    fn identities_of_more_bytes_than_the_limit_are_refused_with_their_length() {
        // A character of two bytes.
        let text = |bytes: usize| format!("{}{}", "é".repeat(bytes / 2), "e".repeat(bytes % 2));
        for (bytes, is_taken) in [
            (1_023, true),
            (1_024, true),
            (1_025, false),
            (1 << 20, false),
        ] {
            let (alone, id) = (text(bytes), text(bytes - 5));
            let joined = joined_identity("/ewr", &id);
            for found in [text_identity(&alone).map(Cow::into_owned), joined] {
                let said = found.as_ref().err().cloned().unwrap_or_default();
                assert_eq!(found.is_ok(), is_taken, "{bytes}: {said}");
                let wanted = format!("is {bytes} bytes long, and an identity takes at most 1024");
                assert!(is_taken || said.contains(&wanted), "{said}");
            }
        }
    }

    proptest! {
        #[test]
        fn different_pairs_have_different_identities(
            one in ("[ 0-9a]{0,4}", "[ 0-9a]{0,6}"),
            other in ("[ 0-9a]{0,4}", "[ 0-9a]{0,6}"),
        ) {
            let joined = |(sender, id): &(String, String)| joined_identity(sender, id).unwrap();
            prop_assert_eq!(joined(&one) == joined(&other), one == other);
        }

        #[test]
        fn different_texts_and_numbers_have_different_identities(
            one in "[ 07-]{0,4}",
            other in "[ 07-]{0,4}",
            number in -9i64..9,
        ) {
            prop_assert_eq!(text_identity(&one) == text_identity(&other), one == other);
            let number = number_identity(&number.to_string());
            prop_assert_ne!(text_identity(&one).unwrap(), number);
        }
    }
}
