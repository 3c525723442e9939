//! The names of queues of SQS.

use crate::arn::Arn;

/// A queue, by its ARN: `arn:PARTITION:sqs:REGION:ACCOUNT:NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueArn<'a> {
    /// The ARN up to the name.
    beginning: &'a str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> QueueArn<'a> {
    /// Returns the queue of an ARN, or `None` if it is that of something else.
    pub(crate) fn of(arn: &'a str) -> Option<Self> {
        let parts = Arn::of(arn)?;
        let name = parts.resource;
        (parts.service == "sqs" && !name.contains(':')).then(|| Self {
            beginning: &arn[..arn.len() - name.len()],
            region: parts.region,
            account: parts.account,
            name,
        })
    }

    /// Returns whether the queue is a FIFO queue, whose name ends like no other:
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-queue-message-identifiers.html>
    pub(crate) fn is_fifo(self) -> bool {
        self.name.ends_with(".fifo")
    }

    /// Returns the ARN of another queue of the same account and region.
    pub(crate) fn beside(self, name: &str) -> String {
        format!("{}{name}", self.beginning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_is_named_by_its_arn() {
        let queue = QueueArn::of("arn:aws-cn:sqs:cn-north-1:1:q.fifo").unwrap();
        let found = (queue.region, queue.account, queue.name);
        assert_eq!(found, ("cn-north-1", "1", "q.fifo"));
        assert_eq!(queue.beside("p"), "arn:aws-cn:sqs:cn-north-1:1:p");
        assert!(queue.is_fifo() && !QueueArn::of("arn:aws:sqs:r:1:fifo").unwrap().is_fifo());
        for arn in [
            "arn:aws:kinesis:r:1:stream/s",
            "q",
            "arn:aws:sqs:r:1:q:x",
            "",
        ] {
            assert_eq!(QueueArn::of(arn), None, "{arn}");
        }
    }
}
