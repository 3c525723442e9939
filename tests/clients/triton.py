"""Uses a server with NVIDIA's client of the Open Inference Protocol. Usage: triton.py HOST:PORT"""

import sys

import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException


def tensors(keys, binary):
    """Returns the inputs of the endpoint `line`: two join keys for each row."""
    names = http.InferInput("key_a", [len(keys)], "BYTES")
    names.set_data_from_numpy(np.array(keys, dtype=object), binary_data=binary)
    numbers = http.InferInput("key_b", [len(keys), 1], "INT64")
    numbers.set_data_from_numpy(np.ones((len(keys), 1), dtype=np.int64), binary_data=binary)
    return [names, numbers]


def main():
    client = http.InferenceServerClient(sys.argv[1])
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("line") and client.is_model_ready("line", "r1")
    assert not client.is_model_ready("nothing")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("line")
    assert [i["name"] for i in metadata["inputs"]] == ["key_a", "key_b"], metadata
    for binary in [False, True]:
        outputs = [http.InferRequestedOutput("prediction", binary_data=binary)]
        for version, wanted in [("", 1.0), ("r1", 1.0)]:
            answer = client.infer(
                "line", tensors(["k001", "nobody"], binary), version, outputs, request_id="7"
            )
            assert answer.get_response()["id"] == "7"
            found = answer.as_numpy("prediction")
            assert found.dtype == np.float64 and found.tolist() == [wanted] * 2, found
    # If no output is named, the client requests all outputs as binary.
    assert client.infer("line", tensors(["k001"], True)).as_numpy("prediction").tolist() == [1.0]
    for bad, message in [
        (lambda: client.infer("nothing", tensors(["k001"], True)), "there is no endpoint"),
        (lambda: client.infer("line", tensors(["k001"], True)[:1]), "is missing"),
        (lambda: client.infer("line", tensors([], False)), "no rows"),
    ]:
        try:
            bad()
        except InferenceServerException as error:
            assert message in error.message(), error.message()
        else:
            raise AssertionError(f"no error: {message}")
    print("ok")


main()
