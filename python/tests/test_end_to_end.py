"""A project in a folder, by the real program: from rows to a training set to an endpoint."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import wafer
from wafer.client import conditions

BIG = 2**60 + 1
START = datetime(2024, 1, 1, tzinfo=UTC)
RIDES = 12_000

PROJECT = """
[project]
name = "rides"

[entities.driver]
keys = { driver_id = "int64" }

[sources.rides]
doc = "Rides that have <ended>."
type = "stream"
path = "rides.ndjson"
columns = { driver_id = "int64", ended_at = "timestamp", km = "float64?", minutes = "int64?", city = "utf8?" }

[groups.last_ride]
entity = "driver"
event_time = "ended_at"

[pipelines.last_ride]
source = "rides"
group = "last_ride"

[views.driver]
lookups = [{ group = "last_ride" }]
"""

MODELS = """
[functions.line]
{function}

[models.late]
view = "driver"
label = "late"
task = "binary"
function = "line"
"""


def ride(number: int) -> dict[str, Any]:
    return {
        "driver_id": BIG + number % 50,
        "ended_at": START + timedelta(minutes=number),
        "km": math.nan if number % 7 == 0 else number / 8,
        "minutes": None if number % 5 == 0 else BIG + number,
        "city": ["Berlin", "Paris", "", None][number % 4],
    }


def make(folder: Path, more: str = "") -> None:
    from wafer.client.values import encoded_row

    folder.mkdir(exist_ok=True)
    (folder / "wafer.toml").write_text(PROJECT + more)
    lines = [encoded_row(ride(number), number) for number in range(RIDES)]
    (folder / "rides.ndjson").write_bytes(b"\n".join(lines) + b"\n")


def wafer_command(binary: str, folder: Path, *arguments: str) -> None:
    subprocess.run([binary, "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[wafer.Project]:
    folder = tmp_path_factory.mktemp("rides")
    make(folder)
    wafer_command(binary, folder, "apply")
    with wafer.open(folder, binary=binary) as opened:
        ran = opened.run("last_ride")
        assert (ran.rows_read, ran.rows_written) == (RIDES, RIDES)
        yield opened


def test_definitions_are_listed(project: wafer.Project) -> None:
    assert project.views().names == ["driver"]
    assert [each["name"] for each in project.view("driver").inputs] == ["driver_id"]
    assert project.groups()["last_ride"].source == "rides"
    assert "Rides that have &lt;ended&gt;." in project.sources()._repr_html_()
    assert project.functions().names == []
    with pytest.raises(wafer.NotFound, match="did you mean `driver`"):
        project.view("drivers")


def test_features_have_the_values_that_went_in(project: wafer.Project) -> None:
    found = project.features("driver", [{"driver_id": BIG + number} for number in range(51)])
    last = [ride(RIDES - 50 + (number + 50 - RIDES % 50) % 50) for number in range(50)]
    for number in range(50):
        assert last[number]["driver_id"] == BIG + number
        for name in ["km", "minutes", "city"]:
            wanted, read = last[number][name], found[number][f"last_ride_{name}"]
            assert read == wanted or (math.isnan(read) and math.isnan(wanted)), (number, name)
            status = "null" if wanted is None else "present"
            assert found[number].status[f"last_ride_{name}"] == status
        assert found[number].event_timestamp["last_ride"] == last[number]["ended_at"]
    assert set(found[50].status.values()) == {"not_found"}
    pytest.importorskip("pyarrow")
    column = found.to_arrow()["last_ride_minutes"].to_pylist()
    assert column[:50] == [each["minutes"] for each in last]


def test_errors_are_those_of_the_server(project: wafer.Project) -> None:
    with pytest.raises(wafer.Invalid) as raised:
        project.features("driver", [{"driver_id": 1}] * 1_200 + [{"driver_id": "x"}])
    assert (raised.value.code, raised.value.status, raised.value.row) == ("invalid", 400, 1_200)
    assert raised.value.message.startswith("row 1200: field `driver_id`")
    with pytest.raises(wafer.CommandFailed, match="there is no pipeline `nope`"):
        project.run("nope")


def test_table_pushes_conditions_and_columns_down(project: wafer.Project) -> None:
    pytest.importorskip("pyarrow")
    table = project.table("last_ride")
    whole = table.to_arrow(columns=["driver_id", "event_timestamp", "km", "minutes", "city"])
    assert whole.num_rows == RIDES
    assert table.to_arrow(limit=7).num_rows == 7
    assert table.to_arrow(where="km > 0", limit=11_000, columns=["km"]).num_rows == 11_000
    few = table.to_arrow(where=["city = Paris", "minutes is not null"], columns=["minutes"])
    assert few.column_names == ["minutes"]
    cities = [number for number in range(RIDES) if number % 4 == 1 and number % 5]
    assert few["minutes"].to_pylist() == [BIG + number for number in cities]
    later = datetime.now(UTC) + timedelta(days=1)
    # The same rows, filtered here and by the server.
    for condition in [
        "km > 1400", "km = NaN", "km <= 3", "km != 2.5", "city = ''", "city is null", "city < Berlin",
        "driver_id = 1152921504606846980", "minutes >= 1152921504606858000",
        "event_timestamp < 2024-01-02", "event_timestamp = 2024-01-01T00:07:00Z",
    ]:  # fmt: skip
        there = table.to_arrow(where=condition, columns=["km", "minutes"])
        here = table.to_arrow(where=condition, columns=["km", "minutes"], as_of=later)
        assert same(here, there), condition
        assert conditions.filtered(whole, [conditions.parsed(condition)]).num_rows == there.num_rows
        assert 0 < there.num_rows < RIDES, condition
    assert table.to_arrow(as_of=later, limit=3).num_rows == 3
    with pytest.raises(wafer.Invalid, match="no column `kn`"):
        table.to_arrow(where="kn > 3", as_of=later)
    with pytest.raises(wafer.CommandFailed):
        table.to_arrow(as_of="2020-01-01")
    assert "<table>" in table._repr_html_()
    with pytest.raises(wafer.NotFound):
        project.table("nope")


def test_connected_project_does_the_same_or_says_what_it_cannot(project: wafer.Project) -> None:
    other = wafer.connect(project.url)
    row = {"driver_id": BIG}
    assert other.features("driver", row)[0].features == project.features("driver", row)[0].features
    pytest.importorskip("pyarrow")
    table = other.table("last_ride")
    assert table.to_arrow(where="driver_id = 1152921504606846980").num_rows == RIDES // 50
    for options in [{}, {"as_of": "2024-01-01"}]:
        with pytest.raises(wafer.NotSupported):
            table.to_arrow(**options)


def test_source_shows_its_first_rows(project: wafer.Project) -> None:
    source = project.source("rides")
    assert source.type == "stream" and source.groups == ["last_ride"]
    shown = source._repr_html_()
    assert "Rides that have &lt;ended&gt;." in shown and "rows, the first rows" in shown
    with pytest.raises(wafer.NotFound, match="no source `ride`"):
        project.source("ride")
    pytest.importorskip("pyarrow")
    first = source.to_arrow()
    assert first.num_rows == 20 and first["driver_id"].to_pylist()[:2] == [BIG, BIG + 1]
    some = wafer.connect(project.url).source("rides")
    found = some.to_arrow(where=["km > 8", "km < 9.5", "city = Paris"], columns=["km", "city"], limit=3)
    assert found.to_pylist() == [{"km": number / 8, "city": "Paris"} for number in (65, 69, 73)]
    with pytest.raises(wafer.Invalid, match="10,?000"):
        source.to_arrow(limit=10_001)


def test_events_are_pushed_once_and_rejected_by_row(project: wafer.Project) -> None:
    at = START + timedelta(days=300)
    rows = [{"driver_id": 7, "ended_at": at + timedelta(seconds=n), "km": float(n)} for n in range(1_500)]
    report = project.push("rides", rows)
    assert (report.accepted, report.duplicate, report.rejected) == (1_500, 0, 0)
    assert project.push("rides", rows).duplicate == 1_500
    assert project.features("driver", {"driver_id": 7})[0]["last_ride_km"] == 1_499.0
    bad = [{"driver_id": 8, "ended_at": at}, {"driver_id": 8, "ended_at": at.replace(tzinfo=None)}]
    with pytest.raises(wafer.Rejected, match="event 1: .*no.* time zone|event 1: .*without a time zone") as raised:
        project.push("rides", bad)
    assert (raised.value.row, raised.value.report.accepted) == (1, 1)


def test_frames_are_pushed(project: wafer.Project) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    at = pd.Timestamp("2024-11-01T00:00:00Z")
    frame = pd.DataFrame({"driver_id": [9, 10], "ended_at": [at, at], "km": [1.5, math.nan]})
    assert project.push("rides", frame).accepted == 2
    found = project.features("driver", pd.DataFrame({"driver_id": [9, 10]}))
    assert found.to_pandas()["last_ride_km"].isna().tolist() == [False, True]


def same(one: Any, other: Any) -> bool:
    """Returns whether two tables are equal, in which NaN is equal to itself."""
    return bool(one.schema.equals(other.schema)) and repr(one.to_pylist()) == repr(other.to_pylist())


def labels() -> list[dict[str, Any]]:
    return [
        {
            "driver_id": BIG + number % 50,
            "event_timestamp": START + timedelta(minutes=RIDES + number),
            "late": number % 3 == 0,
            "number": BIG + number,
        }
        for number in range(900)
    ]


def test_training_set_is_made_recorded_and_made_again(project: wafer.Project) -> None:
    pa = pytest.importorskip("pyarrow")
    made = project.training_set("driver", labels(), split={"train": 0.5, "test": 0.5}, seed=3)
    table = made.to_arrow()
    assert len(made) == 900 and made.columns[:4] == ["driver_id", "event_timestamp", "late", "number"]
    assert table["number"].to_pylist() == [BIG + number for number in range(900)]
    assert table.schema.field("event_timestamp").type == pa.timestamp("us", "UTC")
    assert set(table["split"].to_pylist()) == {"train", "test"}
    again = project.recreate(made.id)
    assert again.id == made.id and same(again.to_arrow(), table)
    bytes_of = [(each._folder / "set.arrows").read_bytes() for each in (made, again)]
    assert bytes_of[0] == bytes_of[1]
    statistics = made.statistics()
    assert statistics["last_ride_minutes"]["nulls"] == table["last_ride_minutes"].null_count
    assert "900" in made._repr_html_()
    with pytest.raises(wafer.NotSupported):
        wafer.connect(project.url).training_set("driver", labels()).statistics()


def test_training_sets_of_frames_and_files_are_the_same(project: wafer.Project, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = pa.Table.from_pylist(labels())
    wanted = project.training_set("driver", table).to_arrow()
    file = tmp_path / "labels.parquet"
    pyarrow.parquet.write_table(table, file)
    assert same(project.training_set("driver", file).to_arrow(), wanted)
    pl = pytest.importorskip("polars")
    assert same(project.training_set("driver", pl.from_arrow(table)).to_arrow(), wanted)
    pytest.importorskip("pandas")
    from wafer.client import frames

    of_pandas = project.training_set("driver", frames.to_pandas(table)).to_arrow()
    assert same(of_pandas, wanted)
    naive = table.set_column(1, "event_timestamp", table["event_timestamp"].cast(pa.timestamp("us")))
    with pytest.raises(wafer.Invalid, match="no time zone|name no time zone"):
        project.training_set("driver", naive)
    assert project.training_set("driver", naive, zone="UTC").to_arrow().num_rows == 900


def test_labels_at_the_time_of_an_event_are_a_warning(project: wafer.Project) -> None:
    pytest.importorskip("pyarrow")
    label = {"driver_id": BIG, "event_timestamp": START}
    with pytest.warns(wafer.CoincidentLabels, match="1 of `last_ride`") as warned:
        made = project.training_set("driver", [label])
        assert made.coincident == {"last_ride": 1}
        assert project.recreate(made.id).coincident == {"last_ride": 1}
    assert [each.filename for each in warned] == [__file__] * 2


def test_many_labels_go_to_the_program(
    project: wafer.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    from wafer.client import training

    by_route = project.training_set("driver", labels(), split="train=0.5,test=0.5")
    monkeypatch.setattr(training, "MAX_LABEL_BYTES", 100)
    by_command = project.training_set("driver", labels(), split="train=0.5,test=0.5")
    assert same(by_command.to_arrow(), by_route.to_arrow())
    with pytest.raises(wafer.Invalid, match="takes at most"):
        wafer.connect(project.url).training_set("driver", labels())


def test_plot_is_drawn(project: wafer.Project) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("matplotlib")
    made = project.training_set("driver", labels())
    assert made.plot()._repr_png_()[:4] == b"\x89PNG"
    with pytest.raises(wafer.Invalid, match="no numbers"):
        made.plot("late")


def test_server_ends_with_its_process(binary: str, tree: Path, project: wafer.Project) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(tree)!r})
import wafer
project = wafer.open({str(project.folder)!r}, binary={binary!r})
print(project.url)
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    url = ran.stdout.strip()
    assert url.startswith("http://127.0.0.1:")
    for _ in range(600):
        try:
            wafer.connect(url).views()
        except wafer.Unreachable:
            return
        time.sleep(0.05)
    pytest.fail("the server outlived its process")


def test_backfill_and_apply_change_what_is_served(binary: str, tmp_path: Path) -> None:
    make(tmp_path / "p")
    wafer_command(binary, tmp_path / "p", "apply")
    with wafer.open(tmp_path / "p", binary=binary, clock="2025-01-01T00:00:00Z,0") as project:
        lines: list[str] = []
        filled = project.backfill(
            "last_ride", START, START + timedelta(days=9), interval="1d", progress=lines.append
        )
        assert filled.rows_written == RIDES and lines
        more = '[views.again]\nlookups = [{ group = "last_ride", as = "again" }]\n'
        (tmp_path / "p/wafer.toml").write_text(PROJECT + more)
        plan = project.apply()
        assert [change["object"] for change in plan.changes] == ["view again"]
        assert project.views().names == ["again", "driver"]
        found = project.features("again", {"driver_id": BIG})
        assert found[0].status["again_km"] in ("present", "null")


def test_cell_of_a_notebook_is_applied(binary: str, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    make(folder)
    wafer_command(binary, folder, "apply")

    class Shell:
        user_ns: dict[str, Any] = {}

    with wafer.open(folder, binary=binary):
        from wafer.client import magic

        plan = magic.run_cell(Shell(), "notes.py", "x = 1\n")
        assert plan.changes == []
        assert (folder / "notes.py").read_text().endswith("x = 1\n")


FUNCTION = """
from dataclasses import dataclass
from datetime import datetime
import wafer

@dataclass
class Ride:
    driver_id: int
    ended_at: datetime
    km: float | None

@dataclass
class Speed:
    driver_id: int
    ended_at: datetime
    twice: float | None

@wafer.function
def speed(ride: Ride) -> Speed:
    return Speed(ride.driver_id, ride.ended_at, ride.km and ride.km * FACTOR)
"""


def test_function_in_python_is_written_applied_and_edited(binary: str, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    more = '[functions.speed]\npython = "speed.py"\n\n[groups.speed]\nentity = "driver"\n'
    more += 'event_time = "ended_at"\n\n[pipelines.speed]\nsource = "rides"\nfunction = "speed"\n'
    more += 'group = "speed"\n\n[views.speed]\nlookups = [{ group = "speed" }]\n'
    make(folder, more)
    checked = subprocess.run(
        [binary, "-C", str(folder), "views"], capture_output=True, text=True, check=False
    )
    if "unknown key `python`" in checked.stderr:
        pytest.skip("this program has no functions in Python")

    from wafer.client import magic

    class Shell:
        user_ns: dict[str, Any] = {}

    magic.write(folder / "speed.py", FUNCTION.replace("FACTOR", "1"), overwrites=False)
    with wafer.open(folder, binary=binary) as project:
        for factor in ["2", "3"]:
            magic.run_cell(Shell(), "speed.py --now", FUNCTION.replace("FACTOR", factor))
            ended_at = START + timedelta(days=int(factor))
            project.push("rides", {"driver_id": 1, "ended_at": ended_at, "km": 4.0})
            found = project.features("speed", {"driver_id": 1})
            assert found[0]["speed_twice"] == 4.0 * int(factor)


def of_model(stock: str, folder: Path, function: str) -> wafer.Project:
    make(folder, MODELS.format(function=function))
    wafer_command(stock, folder, "apply")
    project = wafer.open(folder, binary=stock)
    project.run("last_ride")
    return project


def test_model_is_pushed_released_and_asked(stock: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with of_model(stock, tmp_path / "p", 'stock = "linear"') as project:
        made = project.training_set("driver", labels(), split={"train": 0.5, "test": 0.5})
        model = tmp_path / "line.json"
        line = {"intercept": -1, "coefficients": {"last_ride_km": 0.001}, "missing": {"last_ride_km": 0}}
        model.write_text(json.dumps({**line, "link": "logistic"}))
        pushed = project.models.push("late", model, training_set=made, metrics={"own": 0.5}, doc="a line")
        assert pushed["version"] == 1 and pushed["metrics"]["own"] == 0.5
        assert pushed["metrics"]["test_rows"] > 0
        assert project.models.list("late").names == ["late@1"]
        release = project.release("late@1", "first")
        assert release.name == "first"
        project.endpoint("late", "first", log=100)
        found = project.predict("late", [{"driver_id": BIG + 1}, {"driver_id": BIG + 2}])
        assert found.release == "first" and len(found) == 2
        assert all(0 < value < 1 for value in found["prediction"])
        assert project.predict("late", {"driver_id": BIG}, release="first").errors == {}
        with pytest.raises(wafer.NotFound, match="no endpoint `nope`"):
            project.predict("nope", {"driver_id": 1})
        with pytest.raises(wafer.CommandFailed):
            project.models.push("late", tmp_path / "p/wafer.toml")


@pytest.mark.filterwarnings("ignore")
def test_pipeline_of_scikit_learn_predicts_the_same_when_it_is_served(
    stock: str, tmp_path: Path
) -> None:
    for module in ["pyarrow", "sklearn", "skl2onnx", "onnxruntime", "pandas"]:
        pytest.importorskip(module)
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with of_model(stock, tmp_path / "p", 'stock = "onnx"\nparameters = { class = 1 }') as project:
        made = project.training_set("driver", labels())
        from wafer.client import convert

        frame = convert._frame(made.to_arrow().select(["last_ride_km"]))
        pipeline = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
        pipeline.fit(frame, made.to_arrow()["late"].to_numpy().astype(int))
        pushed = project.models.push("late", pipeline, training_set=made)
        assert pushed["version"] == 1
        project.endpoint("late", project.release("late@1").name)
        found = project.predict("late", [{"driver_id": BIG + number} for number in range(50)])
        features = project.features("driver", [{"driver_id": BIG + number} for number in range(50)])
        own = pipeline.predict_proba(convert._frame(features.to_arrow().select(["last_ride_km"])))
        assert found["prediction"] == pytest.approx(own[:, 1].tolist(), abs=1e-6)


def test_installed_wheel_brings_the_program(binary: str, tmp_path: Path) -> None:
    import build_wheel

    wheel = build_wheel.build(tmp_path, Path(binary))
    assert wheel.stat().st_size <= build_wheel.MAX_WHEEL_BYTES
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin/pip"), "install", "--quiet", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    folder = tmp_path / "p"
    make(folder)
    named = {name: value for name, value in os.environ.items() if name != "WAFER_BINARY"}
    named["PATH"] = "/usr/bin:/bin"
    subprocess.run([str(environment / "bin/wafer"), "-C", str(folder), "apply"], check=True, env=named)
    code = f"import wafer; p = wafer.open({str(folder)!r}); print(p.views().names); p.close()"
    ran = subprocess.run(
        [str(environment / "bin/python"), "-I", "-c", code],
        capture_output=True, text=True, check=True, env=named, cwd=tmp_path,
    )  # fmt: skip
    assert ran.stdout.strip() == "['driver']"
    shutil.rmtree(environment)
