// The function of `benches/functions/on_demand` in JavaScript, row by row.
import { fn, types as t } from "wafer";

export default fn(
  {
    doc: "Computes four features of a payment, by two or three operations each.",
    inputs: {
      amount: t.float64,
      account_balance: t.float64,
      account_fee_rate: t.float64,
      account_mean_amount: t.float64,
      account_risk: t.float64,
      account_fixed_loss: t.float64,
      account_payments: t.safeInt,
      account_disputes: t.safeInt,
      account_refunds: t.safeInt,
    },
    outputs: {
      relative_amount: t.float64,
      balance_after: t.float64,
      expected_loss: t.float64,
      unsettled_share: t.float64,
    },
  },
  (p) => ({
    relative_amount: p.amount / (1 + p.account_mean_amount),
    balance_after: p.account_balance - p.amount * (1 + p.account_fee_rate),
    expected_loss: p.account_risk * p.amount + p.account_fixed_loss,
    unsettled_share: (p.account_disputes + p.account_refunds) / (1 + p.account_payments),
  }),
);
