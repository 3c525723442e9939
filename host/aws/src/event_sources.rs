//! Which source takes the events of each queue and stream.

use std::collections::{BTreeMap, BTreeSet};

use wafer_catalog::is_name;
use wafer_core::shell_word;
use wafer_store::{Error, Result};

use crate::arn::Arn;
use crate::queue::QueueArn;

/// The sources of a project by the ARN of the queue or stream that their events come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventSources(BTreeMap<String, String>);

impl EventSources {
    /// Parses `ARN=SOURCE;ARN=SOURCE`, the value of the environment variable
    /// `WAFER_EVENT_SOURCES`. A text without entries, such as an empty one, says that all events
    /// come by HTTP. There may be spaces beside `;`.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid), with the entry, when an entry has
    /// another form, and when there are two of one ARN.
    pub fn parse(text: &str) -> Result<Self> {
        let entries = text.split(';').map(str::trim);
        let mut sources = BTreeMap::new();
        for entry in entries.filter(|entry| !entry.is_empty()) {
            let refused = |reason: String| {
                Error::invalid(format!(
                    "WAFER_EVENT_SOURCES has the entry `{entry}`, {reason}; write ARN=SOURCE once for \
                     each queue and stream, separated by `;`"
                ))
            };
            let (arn, source) = pair(entry).map_err(refused)?;
            if let Some(other) = sources.insert(arn.to_owned(), source.to_owned()) {
                let reason = format!("and another one that gives the same ARN to source `{other}`");
                return Err(refused(reason));
            }
        }
        Ok(Self(sources))
    }

    /// Returns the names of the sources.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.values().map(String::as_str).collect()
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
    /// The command for any other queue has a placeholder, since only SQS knows its dead-letter
    /// queue.
    pub fn redrive_commands(&self, project: &str, source: Option<&str>) -> Vec<String> {
        let sources = self.0.iter();
        let sources = sources.filter(|(_, name)| source.is_none_or(|wanted| wanted == *name));
        let commands: BTreeSet<String> = sources
            .filter_map(|(arn, name)| Some(redrive_command(QueueArn::of(arn)?, arn, project, name)))
            .collect();
        commands.into_iter().collect()
    }
}

/// Takes an entry apart, into the ARN of a queue or a stream and the name of a source. The error
/// says what is wrong with the entry, as a clause that follows it.
fn pair(entry: &str) -> Result<(&str, &str), String> {
    let (arn, source) = entry.split_once('=').ok_or("which has no `=`")?;
    if arn.ends_with(char::is_whitespace) || source.starts_with(char::is_whitespace) {
        return Err("which has spaces beside `=`".to_owned());
    }
    let is_odd = |c: char| c.is_whitespace() || c.is_control();
    if Arn::of(arn).is_none_or(|arn| arn.resource.is_empty()) || arn.contains(is_odd) {
        return Err("which does not begin with the ARN of a queue or a stream".to_owned());
    }
    if source.is_empty() {
        return Err("which names no source".to_owned());
    }
    is_name(source).map_err(|reason| format!("whose source {reason}"))?;
    Ok((arn, source))
}

/// Returns the command for a queue whose messages a source takes, for a POSIX shell.
fn redrive_command(queue: QueueArn<'_>, arn: &str, project: &str, source: &str) -> String {
    let (dead, remark) = match queue.name == format!("wafer-{project}-{source}") {
        true => (
            queue.beside(&format!("wafer-{project}-dead-events")),
            String::new(),
        ),
        false => (
            "DEAD_LETTER_QUEUE".to_owned(),
            format!(" # which the redrive policy of {} names", shell_word(arn)),
        ),
    };
    format!(
        "aws sqs start-message-move-task --region {} --source-arn {}{remark}",
        shell_word(queue.region),
        shell_word(&dead)
    )
}

#[cfg(test)]
mod tests {
    use wafer_store::Kind;

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
        for none in ["", " ", ";", " ; ;"] {
            assert_eq!(EventSources::parse(none).unwrap(), EventSources::default());
        }
        assert_eq!(found.names(), BTreeSet::from(["a", "b"]));
    }

    #[test]
    fn entries_of_another_form_are_refused_by_name() {
        for (entry, wanted) in [
            (
                "queue=a",
                "does not begin with the ARN of a queue or a stream",
            ),
            ("arn:aws:sqs:r:1=a", "does not begin with the ARN"),
            ("arn:aws:sqs:r:1:=a", "does not begin with the ARN"),
            ("arn:aws:sqs:r:1:q q=a", "does not begin with the ARN"),
            ("arn:aws:sqs:r:1:q\u{1b}=a", "does not begin with the ARN"),
            ("arn:aws:sqs:r:1:q", "which has no `=`"),
            ("arn:aws:sqs:r:1:q=", "which names no source"),
            ("arn:aws:sqs:r:1:q=a=b", "whose source `a=b` is not a name"),
            ("arn:aws:sqs:r:1:q=A", "whose source `A` is not a name"),
            ("arn:aws:sqs:r:1:q =a", "which has spaces beside `=`"),
            ("arn:aws:sqs:r:1:q= a", "which has spaces beside `=`"),
            ("arn:aws:sqs:r:1:p=x", "gives the same ARN to source `b`"),
            ("arn:aws:sqs:r:1:p=b", "gives the same ARN to source `b`"),
        ] {
            let text = format!("arn:aws:sqs:r:1:p=b; {entry};arn:aws:sqs:r:1:o=c");
            let refused = EventSources::parse(&text).unwrap_err();
            assert_eq!(refused.kind(), Kind::Invalid);
            let said = refused.to_string();
            let begins = format!("WAFER_EVENT_SOURCES has the entry `{entry}`, ");
            assert!(said.starts_with(&begins), "{said}");
            assert!(said.contains(wanted), "{said}");
            assert!(said.contains("write ARN=SOURCE"), "{said}");
        }
    }

    #[test]
    fn commands_are_quoted_for_a_shell() {
        let sources = "arn:aws:sqs:r$(id):1:wafer-p-a=a;arn:aws:sqs:r:1`id`:it's=b";
        let sources = EventSources::parse(sources).unwrap();
        let command = "aws sqs start-message-move-task --region";
        let wanted = [
            format!("{command} 'r$(id)' --source-arn 'arn:aws:sqs:r$(id):1:wafer-p-dead-events'"),
            format!(
                "{command} r --source-arn DEAD_LETTER_QUEUE # which the redrive policy of \
                 'arn:aws:sqs:r:1`id`:it'\\''s' names"
            ),
        ];
        assert_eq!(sources.redrive_commands("p", None), wanted);
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
