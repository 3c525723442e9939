//! A function whose feature is its parameter. By the feature, a prediction shows which version of
//! the view it was made with.

use wafer::{Init, Row};

/// A request.
#[derive(Debug, Row)]
pub struct Account {
    /// First join key.
    key_a: String,
}

/// The answer to a request.
#[derive(Debug, Row)]
pub struct Offset {
    /// The parameter `offset`.
    offset: f64,
}

/// Returns the parameter as the offset of every account. The account `trap` makes the call trap.
#[wafer::function(init = load)]
pub fn offset(account: Account, offset: &f64) -> Offset {
    assert_ne!(account.key_a, "trap", "there is no such account");
    Offset { offset: *offset }
}

/// Reads the parameter.
///
/// # Errors
/// Returns an error when the parameter is not a number.
pub fn load(init: &Init) -> Result<f64, String> {
    init.only_parameters(&["offset"])?;
    let text = init.parameter("offset").unwrap_or_default();
    text.parse()
        .map_err(|_| format!("parameter `offset`: `{text}` is not a number"))
}
