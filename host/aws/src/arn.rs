//! The names of things on AWS.

/// An ARN, `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`, taken apart:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    pub(crate) service: &'a str,
    /// Empty for what belongs to no region, such as a bucket.
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    /// What is named within the service. It may have colons of its own.
    pub(crate) resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Takes an ARN of any partition apart, or returns `None` if the text is not an ARN.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        match parts[..] {
            ["arn", _, service, region, account, resource] => Some(Self {
                service,
                region,
                account,
                resource,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_taken_apart() {
        let parts = |text| {
            let arn = Arn::of(text)?;
            Some([arn.service, arn.region, arn.account, arn.resource])
        };
        for (text, wanted) in [
            ("arn:aws:s3:::b", Some(["s3", "", "", "b"])),
            (
                "arn:aws-cn:states:cn-north-1:1:stateMachine:m",
                Some(["states", "cn-north-1", "1", "stateMachine:m"]),
            ),
            ("arn:aws:sqs:r:1", None),
            ("urn:aws:sqs:r:1:q", None),
            ("", None),
        ] {
            assert_eq!(parts(text), wanted, "{text}");
        }
    }
}
