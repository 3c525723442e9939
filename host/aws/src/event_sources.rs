//! Which source takes the events of each queue and stream.

use std::collections::{BTreeMap, BTreeSet};

use wafer_store::{Error, Result};

use crate::queue::Queue;

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

    /// Returns the ARNs of the queues and streams that events of a source come from.
    pub fn arns(&self, source: &str) -> impl Iterator<Item = &str> {
        let pairs = self.0.iter();
        let of_source = pairs.filter(move |(_, name)| *name == source);
        of_source.map(|(arn, _)| arn.as_str())
    }

    /// Returns the commands of the AWS command line that bring back what the queues of a source, or
    /// of all sources, could not deliver.
    ///
    /// SQS itself moves the messages of a dead-letter queue back, whole and to the queues that they
    /// came from. It knows these only of messages that it moved there, so that nothing else is sent
    /// to the dead-letter queue that Terraform makes for the queues of a project:
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html>.
    /// Of another queue only SQS knows the dead-letter queue.
    pub fn redrive_commands(&self, project: &str, source: Option<&str>) -> Vec<String> {
        let sources = self.0.iter();
        let sources = sources.filter(|(_, name)| source.is_none_or(|wanted| wanted == *name));
        let commands: BTreeSet<String> = sources
            .filter_map(|(arn, name)| Some(redrive_command(Queue::of(arn)?, arn, project, name)))
            .collect();
        commands.into_iter().collect()
    }
}

/// Returns the command for a queue whose messages a source takes.
fn redrive_command(queue: Queue<'_>, arn: &str, project: &str, source: &str) -> String {
    let (dead, remark) = match queue.name == format!("wafer-{project}-{source}") {
        true => (
            queue.beside(&format!("wafer-{project}-dead-events")),
            String::new(),
        ),
        false => (
            "DEAD_LETTER_QUEUE".to_owned(),
            format!(" # which the redrive policy of {arn} names"),
        ),
    };
    format!(
        "aws sqs start-message-move-task --region {} --source-arn {dead}{remark}",
        queue.region
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_sources_are_parsed_as_pairs() {
        let text = "arn:aws-cn:sqs:r:1:q=a; arn:aws:kinesis:r:1:stream/s=b;";
        let found = EventSources::parse(text).unwrap();
        for (arn, wanted) in [
            ("arn:aws:kinesis:r:1:stream/s", Some("b")),
            ("arn:aws-cn:sqs:r:1:q", Some("a")),
            ("arn:aws:sqs:r:1:q", None),
        ] {
            assert_eq!(found.source(arn), wanted, "{arn}");
        }
        let arns = |source| found.arns(source).collect::<Vec<_>>();
        assert_eq!(arns("a"), ["arn:aws-cn:sqs:r:1:q"]);
        assert!(arns("c").is_empty());
        assert_eq!(EventSources::parse("").unwrap(), EventSources::default());
        for text in ["queue=a", "arn:aws:sqs:r:1:q"] {
            let refused = EventSources::parse(text).unwrap_err();
            assert!(refused.to_string().contains("write ARN=SOURCE"), "{text}");
        }
    }

    #[test]
    fn dead_letters_of_a_project_come_back_by_one_command() {
        let sources = EventSources::parse(
            "arn:aws:sqs:r:1:wafer-p-a=a;arn:aws:sqs:r:1:wafer-p-b=b;arn:aws:sqs:s:2:mine=b;\
             arn:aws:kinesis:r:1:stream/s=c",
        )
        .unwrap();
        let command = "aws sqs start-message-move-task --region";
        let own = format!("{command} r --source-arn arn:aws:sqs:r:1:wafer-p-dead-events");
        let other = format!(
            "{command} s --source-arn DEAD_LETTER_QUEUE # which the redrive policy of \
             arn:aws:sqs:s:2:mine names"
        );
        let commands = |source| sources.redrive_commands("p", source);
        assert_eq!(commands(None), [own.clone(), other.clone()]);
        assert_eq!(commands(Some("a")), std::slice::from_ref(&own));
        assert_eq!(commands(Some("b")), [own, other]);
        assert!(commands(Some("c")).is_empty());
    }
}
