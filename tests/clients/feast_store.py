"""Uses a server with the SDK of Feast. Usage: feast_store.py URL FOLDER"""

import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import requests
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.data_source import PushSource
from feast.types import Float64, Int64, String, UnixTimestamp

URL, FOLDER = sys.argv[1], Path(sys.argv[2])
CONFIG = f"""
project: ledger
provider: local
registry: {FOLDER}/registry.db
online_store:
  type: remote
  path: {URL}
entity_key_serialization_version: 3
"""


def store():
    """Returns a Feast repository whose feature view is the group `profile`."""
    (FOLDER / "feature_store.yaml").write_text(CONFIG)
    pd.DataFrame({"customer": ["x"], "event_timestamp": [datetime.now(timezone.utc)]}).to_parquet(
        FOLDER / "none.parquet"
    )
    files = FileSource(path=str(FOLDER / "none.parquet"), timestamp_field="event_timestamp")
    customer = Entity(name="customer", join_keys=["customer"], value_type=ValueType.STRING)
    profile = FeatureView(
        name="profile",
        entities=[customer],
        schema=[
            Field(name="customer", dtype=String),
            Field(name="age", dtype=Int64),
            Field(name="score", dtype=Float64),
            Field(name="city", dtype=String),
            Field(name="since", dtype=UnixTimestamp),
        ],
        source=PushSource(name="visits", batch_source=files),
        ttl=timedelta(days=10),
    )
    feast = FeatureStore(repo_path=str(FOLDER))
    feast.apply([customer, profile, FeatureService(name="customer_view", features=[profile])])
    return feast


def post(path, body):
    return requests.post(f"{URL}/{path}", json=body, timeout=30)


def main():
    feast = store()
    assert requests.get(f"{URL}/health", timeout=30).status_code == 200
    since = datetime(2020, 1, 1, 12, tzinfo=timezone.utc)
    rows = pd.DataFrame(
        {
            "customer": ["a", "b", "c", "old"],
            "age": [41, None, 1 << 40, 1],
            "score": [0.5, 1e300, None, 2.0],
            "city": ["Zürich", None, "", "x"],
            "since": [since, since, since, since],
            "event_timestamp": [datetime(2020, 2, 1)] * 3 + [datetime(2020, 1, 1)],
        }
    ).astype({"age": "Int64"})
    feast.write_to_online_store("profile", rows)
    # An older row does not replace a newer one.
    older = rows[:1].assign(age=7, event_timestamp=[datetime(2020, 1, 31)])
    feast.write_to_online_store("profile", older)
    # The SDK looks at the status alone. The answer says that the row was a duplicate.
    feast.write_to_online_store("profile", older)
    features = [f"profile:{name}" for name in ["age", "score", "city", "since"]]
    entities = [{"customer": name} for name in ["a", "b", "c", "nobody", "old"]]
    answer = feast.get_online_features(features, entities)
    found = answer.to_dict()
    assert found["customer"] == ["a", "b", "c", "nobody", "old"], found
    assert found["age"] == [41, None, 1 << 40, None, None], found
    assert found["score"] == [0.5, 1e300, None, None, None], found
    assert found["city"] == ["Zürich", None, "", None, None], found
    full = feast.get_online_features(features, entities, full_feature_names=True).to_dict()
    assert full["profile__city"] == found["city"], full

    # The other path of the online store reads one feature view, with types.
    raw = post(
        "get-online-features",
        {"features": ["profile:since", "profile:age"], "entities": {"customer": ["a", "nobody", "old", "b"]}},
    ).json()
    assert raw["metadata"]["feature_names"] == ["customer", "since", "age"], raw
    keys, times, ages = raw["results"]
    assert keys["statuses"] == ["PRESENT"] * 4
    assert times["values"] == [int(since.timestamp()), None, None, int(since.timestamp())], raw
    assert ages["statuses"] == ["PRESENT", "NOT_FOUND", "OUTSIDE_MAX_AGE", "NULL_VALUE"], raw
    assert ages["event_timestamps"][:2] == ["2020-02-01T00:00:00Z", "1970-01-01T00:00:00Z"], raw
    plugin = feast._get_provider().online_store
    view = feast.get_feature_view("profile")
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=["customer"], entity_values=[Value(string_val="a")])
    [(event, values)] = plugin.online_read(feast.config, view, [key], ["age", "since"])
    assert event == datetime(2020, 2, 1, tzinfo=timezone.utc), event
    assert values["age"].int64_val == 41 and values["since"].unix_timestamp_val == since.timestamp()

    # A data frame with a missing value has floats in place of integers, but the answer has integers.
    large = {"customer": ["large"], "age": [(1 << 53) + 1], "event_timestamp": ["2020-02-01T00:00:00"]}
    written = post("write-to-online-store", {"feature_view_name": "profile", "df": large})
    assert written.status_code == 200, written.text
    found = feast.get_online_features(["profile:age"], [{"customer": "large"}]).to_dict()
    assert found["age"] == [(1 << 53) + 1], found

    # A feature service is a view, with request fields and functions of its own.
    service = post(
        "get-online-features",
        {"feature_service": "customer_view", "entities": {"customer": ["a"]}, "full_feature_names": True},
    ).json()
    assert service["metadata"]["feature_names"][1] == "profile__age", service
    short = post("get-online-features", {"feature_service": "customer_view", "entities": {"customer": ["a"]}}).json()
    assert short["metadata"]["feature_names"][:2] == ["customer", "age"], short
    # The SDK sends this request for the same service.
    by_service = feast.get_online_features(feast.get_feature_service("customer_view"), [{"customer": "a"}]).to_dict()
    assert by_service["age"] == short["results"][1]["values"] == [41], by_service
    versions = post(
        "get-online-features",
        {"features": ["profile:age"], "entities": {"customer": []}, "include_feature_view_version_metadata": True},
    ).json()
    assert versions["metadata"]["feature_view_metadata"] == [{"name": "profile", "version": 1}], versions
    assert versions["results"][0]["values"] == [], versions

    # Pushed rows pass through the functions of a stream source.
    visit = {"customer": ["a", "d"], "age": [50, 51], "at": ["2020-02-02T00:00:00", "2020-02-02 00:00:00.5"]}
    assert post("push", {"push_source_name": "visits", "df": visit, "to": "online"}).status_code == 200
    pushed = feast.get_online_features(["profile:age"], [{"customer": "a"}, {"customer": "d"}]).to_dict()
    assert pushed["age"] == [50, 51], pushed

    for path, body, status, message in [
        ("get-online-features", {"features": ["profil:age"], "entities": {"customer": ["a"]}}, 404, "did you mean"),
        ("get-online-features", {"features": ["profile:agee"], "entities": {"customer": ["a"]}}, 404, "no feature `agee`"),
        ("get-online-features", {"features": ["profile"], "entities": {"customer": ["a"]}}, 400, "not GROUP:FEATURE"),
        ("get-online-features", {"entities": {"customer": ["a"]}}, 400, "neither `features`"),
        ("get-online-features", {"features": ["profile:age"], "entities": {"client": ["a"]}}, 400, "is missing"),
        ("get-online-features", {"features": ["profile:age"], "entities": {"customer": [1]}}, 400, "customer"),
        ("get-online-features", {"features": ["profile:age"], "entities": {"customer": "a"}}, 400, "is not a list"),
        ("get-online-features", {"features": ["profile:age", "profile:age"], "entities": {"customer": ["a"]}}, 400, "`profile:age` is named twice"),
        (
            "get-online-features",
            {"features": ["profile:age", "profile:age"], "entities": {"customer": ["a"]}, "full_feature_names": True},
            400,
            "`profile:age` is named twice",
        ),
        ("get-online-features", [], 400, "not a valid request"),
        ("write-to-online-store", {"feature_view_name": "visit_counts", "df": {"customer": ["a"]}}, 400, "computed over windows of events"),
        ("write-to-online-store", {"feature_view_name": "nothing", "df": {"customer": ["a"]}}, 404, "there is no feature group"),
        ("write-to-online-store", {"feature_view_name": "profile", "df": {"customer": ["a"], "age": [1, 2]}}, 400, "has 1 values, and `df.age` has 2"),
        ("write-to-online-store", {"feature_view_name": "profile", "df": {"customer": ["a"], "agee": [1]}}, 400, "no column `agee`; it has customer, age"),
        (
            "write-to-online-store",
            {"feature_view_name": "profile", "df": {"customer": ["e", "f"], "age": [1, "x"], "event_timestamp": ["2020-02-01T00:00:00"] * 2}},
            400,
            "1 of 2 rows were refused, the others are stored; row 1",
        ),
        ("push", {"push_source_name": "visit", "df": visit}, 404, "did you mean `visits`?"),
        ("push", {"push_source_name": "visits", "df": visit, "to": "nowhere"}, 400, "it is one of online"),
    ]:
        answer = post(path, body)
        said = answer.json()["error"]["message"]
        assert answer.status_code == status and message in said, (path, body, answer.status_code, said)
    assert feast.get_online_features(["profile:age"], [{"customer": "e"}]).to_dict()["age"] == [1]
    print("ok")


main()
