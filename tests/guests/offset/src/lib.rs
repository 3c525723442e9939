//! A feature that is the function's parameter: by it a prediction tells which version of the
//! view it was made with.

use wafer::{Init, Row};

/// A request.
#[derive(Debug, Row)]
pub struct Account {
    /// First join key.
    key_a: String,
}

/// What it is answered.
#[derive(Debug, Row)]
pub struct Offset {
    /// The parameter `offset`.
    offset: f64,
}

/// The offset of every account. Account `trap` ends the call, whatever the parameter is.
#[wafer::function(init = load)]
pub fn offset(account: Account, offset: &f64) -> Offset {
    assert_ne!(account.key_a, "trap", "there is no such account");
    Offset { offset: *offset }
}

/// Reads the parameter.
///
/// # Errors
/// When it is no number.
pub fn load(init: &Init) -> Result<f64, String> {
    init.only_parameters(&["offset"])?;
    let text = init.parameter("offset").unwrap_or_default();
    text.parse()
        .map_err(|_| format!("parameter `offset`: `{text}` is no number"))
}
