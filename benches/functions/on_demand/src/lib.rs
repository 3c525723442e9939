//! Features of a payment, computed from the request and from what is known of the account. The same
//! function is in `benches/peers/on_demand`, in Python and in JavaScript.

use wafer::Row;

/// A payment that is asked for, and the account that would pay.
#[derive(Debug, Row)]
pub struct Payment {
    /// Amount of the payment.
    amount: f64,
    /// Balance of the account.
    account_balance: f64,
    /// Fee, as a fraction of the amount.
    account_fee_rate: f64,
    /// Mean amount of the account's payments.
    account_mean_amount: f64,
    /// Expected loss, as a fraction of the amount.
    account_risk: f64,
    /// Loss that does not depend on the amount.
    account_fixed_loss: f64,
    /// Number of payments.
    account_payments: i64,
    /// Number of payments that were disputed.
    account_disputes: i64,
    /// Number of payments that were given back.
    account_refunds: i64,
}

/// Features of a payment.
#[derive(Debug, Row)]
pub struct PaymentFeatures {
    /// The amount in mean amounts.
    relative_amount: f64,
    /// What is left after the payment.
    balance_after: f64,
    /// Loss that is to be expected.
    expected_loss: f64,
    /// How many payments did not stay.
    unsettled_share: f64,
}

/// Computes four features of a payment, by two or three operations each.
#[wafer::function]
pub fn payment_features(p: Payment) -> PaymentFeatures {
    let unsettled = p.account_disputes + p.account_refunds;
    PaymentFeatures {
        relative_amount: p.amount / (1.0 + p.account_mean_amount),
        balance_after: p.account_balance - p.amount * (1.0 + p.account_fee_rate),
        expected_loss: p.account_risk * p.amount + p.account_fixed_loss,
        unsettled_share: unsettled as f64 / (1.0 + p.account_payments as f64),
    }
}
