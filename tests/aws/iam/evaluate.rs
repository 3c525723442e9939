//! Evaluates policies as IAM does, as far as the policies in `infra/` go:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>.
//!
//! A policy that has anything else in it fails the test, as nothing can be said about it: other
//! operators, variables, exceptions (`NotAction`), keys with several values.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// The elements of a statement that are known here.
const ELEMENTS: [&str; 6] = [
    "Action",
    "Condition",
    "Effect",
    "Principal",
    "Resource",
    "Sid",
];

/// A call of AWS, as IAM sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Request {
    /// The action, such as `s3:GetObject`.
    pub(crate) action: String,
    /// The ARN of what is acted on.
    pub(crate) resource: String,
    /// What is known about the call: values by condition key.
    context: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn new(action: &str, resource: &str) -> Self {
        Self {
            action: action.to_owned(),
            resource: resource.to_owned(),
            context: BTreeMap::new(),
        }
    }

    /// Returns the same call with the value of a condition key.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.context.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Returns the value of a condition key, whose name is in either case.
    fn value(&self, key: &str) -> Option<&str> {
        let mut context = self.context.iter();
        let found = context.find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.as_str())
    }
}

/// Returns whether the policies of a role, or of a person, allow a call: a statement of them does,
/// and none denies it.
pub(crate) fn allows<'a>(policies: impl IntoIterator<Item = &'a Json>, request: &Request) -> bool {
    let statements = policies.into_iter().flat_map(statements);
    decide(statements.filter(|statement| applies(statement, request)))
}

/// Returns whether the policy of a resource allows a call of a principal, such as
/// `("Service", "s3.amazonaws.com")`.
pub(crate) fn lets(policy: &Json, principal: (&str, &str), request: &Request) -> bool {
    let of_principal = |statement: &&Json| is_for(&statement["Principal"], principal);
    let statements = statements(policy).into_iter().filter(of_principal);
    decide(statements.filter(|statement| applies(statement, request)))
}

/// Returns whether a statement is about a call, whatever its effect on it is.
pub(crate) fn applies(statement: &Json, request: &Request) -> bool {
    for (element, value) in statement.as_object().unwrap() {
        assert!(ELEMENTS.contains(&element.as_str()), "{element} is unknown");
        assert!(!value.to_string().contains("${"), "variable in {value}");
    }
    let is_action = |pattern: &&str| {
        let (pattern, action) = (pattern.to_lowercase(), request.action.to_lowercase());
        is_like(&pattern, &action)
    };
    // The policy of a role's trust is about the role itself.
    let resources = match &statement["Resource"] {
        Json::Null => vec!["*"],
        resources => list(resources),
    };
    let is_resource = |pattern: &&str| is_like(pattern, &request.resource);
    list(&statement["Action"]).iter().any(is_action)
        && resources.iter().any(is_resource)
        && conditions(statement)
            .all(|(operator, key, wanted)| holds(operator, key, &wanted, request.value(key)))
}

/// Returns the statements of a policy.
pub(crate) fn statements(policy: &Json) -> Vec<&Json> {
    match &policy["Statement"] {
        Json::Array(statements) => statements.iter().collect(),
        statement => vec![statement],
    }
}

/// Returns a text, or a list of texts, as a list.
pub(crate) fn list(value: &Json) -> Vec<&str> {
    match value {
        Json::Array(values) => values.iter().map(|v| v.as_str().unwrap()).collect(),
        value => vec![value.as_str().unwrap()],
    }
}

/// Decides by the statements that apply: what is not allowed is denied, and a denial counts more.
fn decide<'a>(statements: impl Iterator<Item = &'a Json>) -> bool {
    let mut is_allowed = false;
    for statement in statements {
        match statement["Effect"].as_str() {
            Some("Allow") => is_allowed = true,
            Some("Deny") => return false,
            _ => panic!("no effect in {statement}"),
        }
    }
    is_allowed
}

/// Returns whether a statement's principals include one. The account stands for all in it that its
/// own policies allow to, so it is not included in a role.
fn is_for(principals: &Json, (kind, name): (&str, &str)) -> bool {
    if principals == "*" {
        return true;
    }
    let names = match &principals[kind] {
        Json::Null => &principals["*"],
        names => names,
    };
    !names.is_null() && list(names).iter().any(|one| *one == name || *one == "*")
}

/// Returns the conditions of a statement: operator, key, and the values one of which is wanted.
fn conditions(statement: &Json) -> impl Iterator<Item = (&str, &str, Vec<&str>)> {
    let operators = statement["Condition"].as_object().into_iter().flatten();
    operators.flat_map(|(operator, keys)| {
        let keys = keys.as_object().unwrap().iter();
        keys.map(move |(key, wanted)| (operator.as_str(), key.as_str(), list(wanted)))
    })
}

/// Returns whether a condition holds: the key has one of the wanted values.
///
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>
fn holds(operator: &str, key: &str, wanted: &[&str], value: Option<&str>) -> bool {
    let (operator, without_key) = match operator.strip_suffix("IfExists") {
        Some(operator) => (operator, true),
        None => (operator, false),
    };
    let compare: fn(&str, &str) -> bool = match operator {
        "StringEquals" => |wanted, value| wanted == value,
        "StringLike" => is_like,
        "ArnEquals" | "ArnLike" => is_arn_like,
        "Bool" => |wanted, value| wanted.eq_ignore_ascii_case(value),
        _ => panic!("the operator {operator} of {key} is unknown"),
    };
    match value {
        Some(value) => wanted.iter().any(|wanted| compare(wanted, value)),
        None => without_key,
    }
}

/// Compares the six parts of ARNs one by one, so that `*` never means a colon before the last.
fn is_arn_like(pattern: &str, arn: &str) -> bool {
    let parts = |text: &str| -> Vec<String> { text.splitn(6, ':').map(str::to_owned).collect() };
    let (patterns, parts) = (parts(pattern), parts(arn));
    let mut pairs = patterns.iter().zip(&parts);
    patterns.len() == 6 && parts.len() == 6 && pairs.all(|(pattern, part)| is_like(pattern, part))
}

/// Returns whether a text fits a pattern, in which `*` is any text and `?` any character.
fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    // Where the last `*` is, and up to where its text goes so far.
    let (mut at, mut read, mut star) = (0, 0, None);
    while read < text.len() {
        match (pattern.get(at), star) {
            (Some(b'*'), _) => {
                star = Some((at, read));
                at += 1;
            }
            (Some(byte), _) if *byte == b'?' || *byte == text[read] => {
                at += 1;
                read += 1;
            }
            (_, Some((star_at, star_end))) => {
                star = Some((star_at, star_end + 1));
                at = star_at + 1;
                read = star_end + 1;
            }
            (_, None) => return false,
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OBJECT: &str = "arn:aws:s3:::b/a/1";

    /// Checks whether a statement allows `s3:GetObject` of an object with two condition keys.
    fn check(statement: Json, wanted: bool) {
        let request = Request::new("s3:GetObject", OBJECT)
            .with("aws:SourceArn", "arn:aws:sqs:r:1:q")
            .with("aws:SecureTransport", "true");
        let mut whole = json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": OBJECT});
        let elements = statement.as_object().unwrap().clone();
        whole.as_object_mut().unwrap().extend(elements);
        let found = allows([&json!({"Statement": whole})], &request);
        assert_eq!(found, wanted, "{statement}");
    }

    #[test]
    fn iam_actions_and_resources_are_patterns() {
        check(json!({}), true);
        check(json!({"Action": "S3:getobject"}), true);
        check(json!({"Action": ["s3:PutObject", "s3:Get*"]}), true);
        check(json!({"Action": "s3:GetObjectTagging"}), false);
        check(json!({"Action": "*"}), true);
        check(json!({"Resource": "arn:aws:s3:::b/*"}), true);
        check(json!({"Resource": "arn:aws:s3:::?/a/1"}), true);
        check(json!({"Resource": "arn:aws:s3:::b/*/*/1"}), false);
        check(json!({"Resource": "arn:aws:s3:::b/a"}), false);
        check(json!({"Resource": "arn:aws:s3:::*1*1"}), false);
    }

    #[test]
    fn iam_conditions_hold_or_not() {
        let condition = |operator: &str, key: &str, wanted: Json, holds: bool| {
            check(json!({"Condition": {operator: {key: wanted}}}), holds);
        };
        let arn = "arn:aws:sqs:r:1:q";
        condition("StringEquals", "aws:SourceArn", json!(arn), true);
        condition("StringEquals", "AWS:sourcearn", json!(["x", arn]), true);
        condition("StringEquals", "aws:SourceArn", json!("arn:*"), false);
        condition("StringLike", "aws:SourceArn", json!("arn:*:q"), true);
        condition("ArnLike", "aws:SourceArn", json!("arn:*:sqs:*:1:q"), true);
        condition("ArnEquals", "aws:SourceArn", json!("arn:*:1:q"), false);
        condition("Bool", "aws:SecureTransport", json!("True"), true);
        condition("Bool", "aws:SecureTransport", json!("false"), false);
        condition("StringEquals", "aws:Missing", json!("x"), false);
        condition("StringEqualsIfExists", "aws:Missing", json!("x"), true);
        condition("StringLikeIfExists", "aws:SourceArn", json!("x"), false);
        // All have to hold.
        check(
            json!({"Condition": {
                "Bool": {"aws:SecureTransport": "true"}, "StringLike": {"aws:SourceArn": "x"}}}),
            false,
        );
    }

    #[test]
    #[should_panic(expected = "the operator NumericLessThan of s3:TlsVersion is unknown")]
    fn iam_operators_that_are_unknown_fail_the_test() {
        check(
            json!({"Condition": {"NumericLessThan": {"s3:TlsVersion": "1.2"}}}),
            false,
        );
    }

    #[test]
    #[should_panic(expected = "NotAction is unknown")]
    fn iam_exceptions_fail_the_test() {
        check(json!({"NotAction": "s3:PutObject"}), true);
    }

    #[test]
    fn iam_denials_count_more_than_what_is_allowed() {
        let policy = json!({"Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"},
            {"Effect": "Deny", "Action": "s3:*", "Resource": "*", "Principal": {"AWS": "me"}},
        ]});
        let (get, send) = (
            Request::new("s3:GetObject", OBJECT),
            Request::new("sqs:SendMessage", "q"),
        );
        assert!(!allows([&policy], &get));
        assert!(allows([&policy], &send));
        assert!(!lets(&policy, ("AWS", "me"), &get));
        assert!(lets(&policy, ("AWS", "you"), &get));
    }
}
