"""Feast's side of the comparison: an on-demand feature view in each of its modes.

The views are named so that requests for `python_rows` are, to the byte, what Wafer is sent by Feast's protocol.
"""

from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

account = Entity(name="account", join_keys=["account_id"], value_type=ValueType.INT64)
accounts = FileSource(
    name="accounts",
    path=str(Path(__file__).resolve().parents[1] / "accounts.parquet"),
    timestamp_field="event_timestamp",
)
account_view = FeatureView(
    name="account",
    entities=[account],
    ttl=timedelta(days=36_500),
    schema=[
        *(Field(name=name, dtype=Float64) for name in ("balance", "fee_rate", "mean_amount")),
        *(Field(name=name, dtype=Float64) for name in ("risk", "fixed_loss", "credit")),
        *(Field(name=name, dtype=Int64) for name in ("payments", "disputes", "refunds")),
        Field(name="country", dtype=String),
    ],
    source=accounts,
)
request = RequestSource(name="request", schema=[Field(name="amount", dtype=Float64)])
FEATURES = [
    Field(name=name, dtype=Float64)
    for name in ("relative_amount", "balance_after", "expected_loss", "unsettled_share")
]


@on_demand_feature_view(sources=[account_view, request], schema=FEATURES, mode="python", singleton=True)
def python_rows(p: dict) -> dict:
    return {
        "relative_amount": p["amount"] / (1.0 + p["mean_amount"]),
        "balance_after": p["balance"] - p["amount"] * (1.0 + p["fee_rate"]),
        "expected_loss": p["risk"] * p["amount"] + p["fixed_loss"],
        "unsettled_share": (p["disputes"] + p["refunds"]) / (1.0 + p["payments"]),
    }


@on_demand_feature_view(sources=[account_view, request], schema=FEATURES, mode="python")
def python_lists(p: dict) -> dict:
    return {
        "relative_amount": [a / (1.0 + mean) for a, mean in zip(p["amount"], p["mean_amount"])],
        "balance_after": [
            balance - a * (1.0 + rate)
            for a, balance, rate in zip(p["amount"], p["balance"], p["fee_rate"])
        ],
        "expected_loss": [
            risk * a + fixed for a, risk, fixed in zip(p["amount"], p["risk"], p["fixed_loss"])
        ],
        "unsettled_share": [
            (disputes + refunds) / (1.0 + payments)
            for disputes, refunds, payments in zip(p["disputes"], p["refunds"], p["payments"])
        ],
    }


@on_demand_feature_view(sources=[account_view, request], schema=FEATURES, mode="pandas")
def pandas(p: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "relative_amount": p["amount"] / (1.0 + p["mean_amount"]),
            "balance_after": p["balance"] - p["amount"] * (1.0 + p["fee_rate"]),
            "expected_loss": p["risk"] * p["amount"] + p["fixed_loss"],
            "unsettled_share": (p["disputes"] + p["refunds"]) / (1.0 + p["payments"]),
        }
    )
