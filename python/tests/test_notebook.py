"""The notebook in `examples/`, run as its readers run it: by the real program on the real data."""

from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def notebook() -> Any:
    nbformat = pytest.importorskip("nbformat")
    read = nbformat.read(EXAMPLES / "flights.ipynb", as_version=4)
    nbformat.validate(read)
    return read


def test_notebook_is_kept_without_outputs(notebook: Any) -> None:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 15
    assert [cell.id for cell in cells if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.filterwarnings("ignore")
def test_notebook_runs_from_raw_files_to_an_endpoint(
    notebook: Any, stock: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ["ipykernel", "matplotlib", "pandas", "skl2onnx", "onnxruntime"]:
        pytest.importorskip(module)
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(tree))
    # The checkout and the user's folders stay as they are.
    for variable in ["WAFER_STORE_PATH", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"]:
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    where = {"metadata": {"path": str(EXAMPLES)}}
    # A cell that raises an error raises it here. There is no time limit.
    nbclient.NotebookClient(notebook, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = [output.text for output in outputs if output.get("name") == "stderr"]
    assert len(said) == 1 and "CoincidentLabels: labels have the time of an event" in said[0]
    drawn = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(drawn) == 4
