//! The memory that JSON takes once it is parsed, found before it is parsed.

/// The memory of a value in a list, in bytes. Lists grow by doubling, so that half may be unused.
const LIST_ITEM: u64 = 64;
/// The memory of an entry of an object beyond the first: the name, the value, and its share of a
/// node of the tree, which may be half empty.
const OBJECT_ENTRY: u64 = 144;
/// The memory of a list that is not empty.
const LIST: u64 = 160;
/// The memory of an object that is not empty: one node of the tree.
const OBJECT: u64 = 672;
/// The memory of a text beside its bytes.
const TEXT: u64 = 32;
/// The most memory that parsed JSON takes for each byte of its text.
const MOST_PER_BYTE: u64 = 160;

/// Returns an upper bound of the memory that a text takes when it is parsed to a
/// [`serde_json::Value`], in bytes. The text need not be JSON: an invalid one takes no more.
///
/// A small text in a large allowance is not looked at: if the text cannot take more than `enough`
/// bytes, what is returned is a bound by its length alone.
pub(crate) fn parsed_size(text: &[u8], enough: u64) -> u64 {
    let by_length = text.len() as u64 * MOST_PER_BYTE;
    if by_length <= enough {
        return by_length;
    }
    // Bit 0 says whether the innermost container is an object. The parser refuses JSON that is
    // nested deeper than there are bits.
    let mut containers = 0u128;
    let mut size = text.len() as u64;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                size += TEXT;
                skip_text(&mut bytes);
            }
            b'{' => {
                containers = containers << 1 | 1;
                size += OBJECT;
            }
            b'[' => {
                containers <<= 1;
                size += LIST;
            }
            b'}' | b']' => containers >>= 1,
            b',' if containers & 1 == 1 => size += OBJECT_ENTRY,
            b',' => size += LIST_ITEM,
            _ => {}
        }
    }
    size
}

/// Skips the rest of a text, with its closing quote.
fn skip_text(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_grows_with_values_and_not_with_texts() {
        let long = format!("\"{}\"", ",[{\\\"".repeat(1_000));
        for (text, wanted) in [
            ("1", 1),
            ("[1,2,3]", 7 + LIST + 2 * LIST_ITEM),
            (r#"{"a":1,"b":2}"#, 13 + OBJECT + OBJECT_ENTRY + 2 * TEXT),
            (
                r#"{"a":[1,2],"b":2}"#,
                17 + OBJECT + OBJECT_ENTRY + LIST + LIST_ITEM + 2 * TEXT,
            ),
            (r#"[{"a":1},2]"#, 11 + LIST + OBJECT + LIST_ITEM + TEXT),
            (&long, long.len() as u64 + TEXT),
            ("\"a\\", 3 + TEXT),
        ] {
            assert_eq!(parsed_size(text.as_bytes(), 0), wanted, "{text}");
        }
        assert_eq!(parsed_size(b"[1]", 1_000), 3 * MOST_PER_BYTE);
    }

    #[test]
    fn no_text_takes_more_than_the_bound_by_length() {
        let nested = format!("{}1{}", "{\"\":".repeat(127), "}".repeat(127));
        for text in [&nested, "{\"\":1},", "[[1],[1]],", "[\"\",\"\"],"] {
            let many = text.repeat(100);
            assert!(parsed_size(many.as_bytes(), 0) <= many.len() as u64 * MOST_PER_BYTE);
        }
    }
}
