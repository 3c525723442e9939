//! Universal Binary JSON, as XGBoost writes it: draft 12 with typed and counted containers.
//! <https://ubjson.org/type-reference/>

use serde::de::{self, DeserializeOwned, DeserializeSeed, Visitor};

/// The error for bytes that are not UBJSON of the wanted shape.
#[derive(Debug)]
pub(crate) struct Error(String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Maximum depth of nesting.
const MAX_DEPTH: usize = 64;

/// Reads a document.
pub(crate) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut reader = Reader {
        bytes,
        at: 0,
        depth: 0,
    };
    let marker = reader.marker()?;
    T::deserialize(Value {
        reader: &mut reader,
        marker,
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn wrong<T>(&self, message: &str) -> Result<T, Error> {
        Err(Error(format!("{message} at byte {}", self.at)))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..count) else {
            return self.wrong("it ends too early");
        };
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The next marker that is not a no-op.
    fn marker(&mut self) -> Result<u8, Error> {
        loop {
            match self.array::<1>()?[0] {
                b'N' => {}
                marker => return Ok(marker),
            }
        }
    }

    fn integer(&mut self, marker: u8) -> Result<i64, Error> {
        Ok(match marker {
            b'i' => i64::from(i8::from_be_bytes(self.array()?)),
            b'U' => i64::from(u8::from_be_bytes(self.array()?)),
            b'I' => i64::from(i16::from_be_bytes(self.array()?)),
            b'l' => i64::from(i32::from_be_bytes(self.array()?)),
            b'L' => i64::from_be_bytes(self.array()?),
            _ => return self.wrong("an integer was expected"),
        })
    }

    fn length(&mut self) -> Result<usize, Error> {
        let marker = self.marker()?;
        match usize::try_from(self.integer(marker)?) {
            Ok(length) => Ok(length),
            Err(_) => self.wrong("a length below 0"),
        }
    }

    fn text(&mut self) -> Result<&'a str, Error> {
        let length = self.length()?;
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(text),
            Err(_) => self.wrong("a text that is not UTF-8"),
        }
    }

    /// Reads the type and the count that may follow the marker of a container.
    fn container(&mut self, end: u8) -> Result<Items, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.wrong("nested too deeply");
        }
        let mut items = Items {
            marker: None,
            left: None,
            end,
        };
        if self.peek() == Some(b'$') {
            self.at += 1;
            items.marker = Some(self.array::<1>()?[0]);
        }
        if self.peek() == Some(b'#') {
            self.at += 1;
            items.left = Some(self.length()?);
        } else if items.marker.is_some() {
            return self.wrong("a typed container without a count");
        }
        // Items without bytes are refused, because a short file could announce any number of them.
        if items.marker.is_some_and(|marker| b"ZTF".contains(&marker)) {
            return self.wrong("a container of constants");
        }
        Ok(items)
    }
}

struct Items {
    /// Type of all items, if the container is typed.
    marker: Option<u8>,
    /// Number of items that are left, or `None` if the container ends with a marker.
    left: Option<usize>,
    end: u8,
}

impl Items {
    /// Advances to the next item, and returns whether there is one.
    fn more(&mut self, reader: &mut Reader<'_>) -> Result<bool, Error> {
        let more = match &mut self.left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => {
                while reader.peek() == Some(b'N') {
                    reader.at += 1;
                }
                let is_end = reader.peek() == Some(self.end);
                reader.at += usize::from(is_end);
                !is_end
            }
        };
        if !more {
            reader.depth -= 1;
        }
        Ok(more)
    }

    fn value<'de, S: DeserializeSeed<'de>>(
        &self,
        reader: &mut Reader<'_>,
        seed: S,
    ) -> Result<S::Value, Error> {
        let marker = match self.marker {
            Some(marker) => marker,
            None => reader.marker()?,
        };
        seed.deserialize(Value { reader, marker })
    }
}

struct Value<'r, 'a> {
    reader: &'r mut Reader<'a>,
    marker: u8,
}

impl<'de> de::Deserializer<'de> for Value<'_, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let reader = self.reader;
        match self.marker {
            b'Z' => visitor.visit_unit(),
            b'T' => visitor.visit_bool(true),
            b'F' => visitor.visit_bool(false),
            b'i' | b'U' | b'I' | b'l' | b'L' => visitor.visit_i64(reader.integer(self.marker)?),
            b'd' => visitor.visit_f32(f32::from_be_bytes(reader.array()?)),
            b'D' => visitor.visit_f64(f64::from_be_bytes(reader.array()?)),
            b'C' => visitor.visit_char(char::from(reader.array::<1>()?[0])),
            b'S' | b'H' => visitor.visit_str(reader.text()?),
            b'[' => {
                let items = reader.container(b']')?;
                visitor.visit_seq(Entries { reader, items })
            }
            b'{' => {
                let items = reader.container(b'}')?;
                visitor.visit_map(Entries { reader, items })
            }
            _ => reader.wrong("an unknown marker"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.marker {
            b'Z' => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Entries<'r, 'a> {
    reader: &'r mut Reader<'a>,
    items: Items,
}

impl<'de> de::SeqAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        match self.items.more(self.reader)? {
            true => self.items.value(self.reader, seed).map(Some),
            false => Ok(None),
        }
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if !self.items.more(self.reader)? {
            return Ok(None);
        }
        let key = self.reader.text()?;
        seed.deserialize(de::value::StrDeserializer::<Error>::new(key))
            .map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.items.value(self.reader, seed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    #[test]
    fn ubjson_documents_of_every_type_are_read() {
        let mut bytes = b"{i\x01a[$d#i\x02".to_vec();
        bytes.extend(1.5f32.to_be_bytes());
        bytes.extend((-2f32).to_be_bytes());
        bytes.extend(b"i\x01b[U\xffI\x01\x00l\x00\x01\x00\x00NTFZ]i\x01c{#i\x01i\x01xSi\x02hi");
        bytes.extend(b"i\x01d[$L#i\x01");
        bytes.extend((1i64 << 40).to_be_bytes());
        bytes.extend(b"}");
        let read: Json = from_slice(&bytes).unwrap();
        let wanted = json!({"a": [1.5, -2.0], "b": [255, 256, 65536, true, false, null], "c": {"x": "hi"}, "d": [1i64 << 40]});
        assert_eq!(read, wanted);
        for end in 1..bytes.len() {
            assert!(from_slice::<Json>(&bytes[..end]).is_err(), "cut at {end}");
        }
        for (bytes, wanted) in [
            (&b"?"[..], "unknown marker"),
            (b"[$Z#l\x7f\xff\xff\xff", "a container of constants"),
            (b"[$U]", "without a count"),
            (b"{i\xff", "below 0"),
            (&[b'['; 100], "nested too deeply"),
        ] {
            let message = from_slice::<Json>(bytes).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
