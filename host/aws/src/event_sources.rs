//! Which source takes the events of each queue and stream.

use std::collections::BTreeMap;

use wafer_store::{Error, Result};

/// The sources of a project by the ARN of the queue or stream that their events come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventSources(BTreeMap<String, String>);

impl EventSources {
    /// Parses `ARN=SOURCE;ARN=SOURCE`, the value of the environment variable
    /// `WAFER_EVENT_SOURCES`. An empty text names no source.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the text has another form.
    pub fn parse(text: &str) -> Result<Self> {
        let pairs = text.split(';').map(str::trim);
        let pairs = pairs.filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let pair = pair.split_once('=');
            let pair = pair.filter(|(arn, _)| arn.starts_with("arn:"));
            let (arn, source) = pair.ok_or_else(|| {
                Error::invalid(format!(
                    "WAFER_EVENT_SOURCES is `{text}`; write ARN=SOURCE, separated by `;`"
                ))
            })?;
            Ok((arn.to_owned(), source.to_owned()))
        };
        Ok(Self(pairs.map(pair).collect::<Result<_>>()?))
    }

    /// Returns the source that takes the events of a queue or stream.
    pub fn source(&self, arn: &str) -> Option<&str> {
        self.0.get(arn).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_sources_are_parsed_as_pairs() {
        let text = "arn:aws:sqs:r:1:q=a; arn:aws:kinesis:r:1:stream/s=b;";
        let found = EventSources::parse(text).unwrap();
        for (arn, wanted) in [
            ("arn:aws:kinesis:r:1:stream/s", Some("b")),
            ("arn:aws:sqs:r:1:q", Some("a")),
            ("arn:aws:sqs:r:1:p", None),
        ] {
            assert_eq!(found.source(arn), wanted, "{arn}");
        }
        assert_eq!(EventSources::parse("").unwrap(), EventSources::default());
        for text in ["queue=a", "arn:aws:sqs:r:1:q"] {
            let refused = EventSources::parse(text).unwrap_err();
            assert!(refused.to_string().contains("write ARN=SOURCE"), "{text}");
        }
    }
}
