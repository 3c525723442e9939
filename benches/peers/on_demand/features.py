"""The function of `benches/functions/on_demand` in Python, row by row and by whole columns."""

from dataclasses import dataclass

import wafer


@dataclass
class Payment:
    """A payment that is asked for, and the account that would pay."""

    amount: float
    account_balance: float
    account_fee_rate: float
    account_mean_amount: float
    account_risk: float
    account_fixed_loss: float
    account_payments: int
    account_disputes: int
    account_refunds: int


@dataclass
class PaymentFeatures:
    """Features of a payment."""

    relative_amount: float
    balance_after: float
    expected_loss: float
    unsettled_share: float


@wafer.function
def python_rows(p: Payment) -> PaymentFeatures:
    """Computes four features of a payment, by two or three operations each."""
    return PaymentFeatures(
        relative_amount=p.amount / (1.0 + p.account_mean_amount),
        balance_after=p.account_balance - p.amount * (1.0 + p.account_fee_rate),
        expected_loss=p.account_risk * p.amount + p.account_fixed_loss,
        unsettled_share=(p.account_disputes + p.account_refunds) / (1.0 + p.account_payments),
    )


@wafer.function(columns=True)
def python_columns(p: wafer.Columns[Payment]) -> wafer.Columns[PaymentFeatures]:
    """Computes four features of payments, by two or three operations each."""
    return wafer.Columns(
        relative_amount=[a / (1.0 + mean) for a, mean in zip(p.amount, p.account_mean_amount)],
        balance_after=[
            balance - a * (1.0 + rate)
            for a, balance, rate in zip(p.amount, p.account_balance, p.account_fee_rate)
        ],
        expected_loss=[
            risk * a + fixed for a, risk, fixed in zip(p.amount, p.account_risk, p.account_fixed_loss)
        ],
        unsettled_share=[
            (disputes + refunds) / (1.0 + payments)
            for disputes, refunds, payments in zip(
                p.account_disputes, p.account_refunds, p.account_payments
            )
        ],
    )
