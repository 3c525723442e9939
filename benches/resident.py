"""resident.py WAFER...: what does it cost to reset the memory of a sandbox, here and on Lambda's kernels?

Serves the flights project with each program, as it is and as if on Linux before 6.7 (`without_scan.py`), and asks
endpoints with models of 1, 5 and 50 MB for a prediction, one after the other; then reads the source of a pipeline and
calls its function, without writing anything. Prints the processor time of a request and of the run, the page faults of
each, and the memory of the server: medians of several rounds in which all take turns. Several programs are compared that
were built with different values of KEEP_RESIDENT_UNREPORTED in `host/runtime/src/engine.rs`.

Needs `cargo xtask quickstart` to have run. What is made for it is in a copy of the flights project's store.
"""

import http.client
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

ROUNDS = 7
# Bytes of a model, and the number of requests.
MODELS = {1_000_000: 1_000, 5_000_000: 500, 50_000_000: 100}
HERE = pathlib.Path(__file__).parent
FLIGHTS = HERE.parent / "functions/flights"
# Starts a program as `without_scan.py` does, whose own time is a part of that of a run.
START = "import ctypes, errno, os, platform, struct, sys; os.execvp(sys.argv[1], sys.argv[1:])"
AT = ("--clock", "2013-12-31T12:00:00Z,0")
FLIGHT = {
    "tailnum": "N14228",
    "carrier": "UA",
    "origin": "JFK",
    "dest": "IAH",
    "scheduled_departure": "2013-12-31T13:00:00Z",
    "scheduled_arrival": "2013-12-31T18:30:00Z",
}


def model(path, size):
    """Writes trees of 256 leaves over features of the view, as LightGBM writes them."""
    chance, splits = random.Random(2013), 255
    line = lambda values: " ".join(map(str, values))
    child = lambda node: node if node < splits else splits - node - 1
    fixed = (
        f"num_leaves={splits + 1}\nnum_cat=0\nsplit_feature={line(n % 4 for n in range(splits))}",
        f"decision_type={line([2] * splits)}\nleft_child={line(child(2 * n + 1) for n in range(splits))}\n"
        f"right_child={line(child(2 * n + 2) for n in range(splits))}",
    )
    with open(path, "w") as file:
        file.write(
            "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=3\n"
            "objective=binary sigmoid:1\n"
            "feature_names=distance_km local_hour scheduled_speed_kmh route_arr_delay_minutes_mean_30d\n"
            "feature_infos=[0:1] [0:1] [0:1] [0:1]\n\n"
        )
        tree = 0
        while file.tell() < size:
            threshold = line(f"{chance.random() * 1000:.4f}" for _ in range(splits))
            leaf = line(f"{chance.random() - 0.5:.16f}" for _ in range(splits + 1))
            file.write(
                f"Tree={tree}\n{fixed[0]}\nthreshold={threshold}\n{fixed[1]}\nleaf_value={leaf}\n"
                "is_linear=0\nshrinkage=1\n\n\n"
            )
            tree += 1
        file.write("end of trees\n")


def used(pid):
    """Processor time of all threads in microseconds, and page faults."""
    process = pathlib.Path(f"/proc/{pid}")
    time = sum(int(thread.read_text().split()[0]) for thread in (process / "task").glob("*/schedstat"))
    return time / 1e3, int((process / "stat").read_text().rsplit(")", 1)[1].split()[7])


def serve(command, size, requests):
    """Returns processor time and page faults of a request, and the server's resident memory in MiB."""
    line = [*command, "-C", FLIGHTS, "serve", "--listen", "127.0.0.1:0", *AT]
    server = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    try:
        address = next(filter(None, (re.match("serving .* on http://([^/\n]*)", said) for said in server.stderr)))[1]
        inputs = [{"name": n, "datatype": "BYTES", "shape": [1], "data": [v]} for n, v in FLIGHT.items()]
        connection, body = http.client.HTTPConnection(address), json.dumps({"inputs": inputs})

        def ask():
            connection.request("POST", f"/v2/models/of_{size}/infer", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == 200, said

        for _ in range(10):
            ask()
        before = used(server.pid)
        for _ in range(requests):
            ask()
        after = used(server.pid)
        status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
        resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
        return *((b - a) / requests for a, b in zip(before, after)), resident
    finally:
        server.kill()
        server.wait()


def batch(command):
    """Returns processor time in microseconds, page faults, and the most resident memory in MiB of a run."""
    line = [*command, "-C", FLIGHTS, "run", "scheduled_flight", "--dry-run"]
    run = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(run.pid, 0)
    assert status == 0, line
    return (usage.ru_utime + usage.ru_stime) * 1e6, usage.ru_minflt, usage.ru_maxrss / 1024


def compare(title, commands, measure):
    print(f"== {title}")
    rounds = [[measure(command) for command in commands.values()] for _ in range(ROUNDS)]
    for name, values in zip(commands, zip(*rounds)):
        time, faults, resident = (statistics.median(value) for value in zip(*values))
        print(f"{name}: {time:,.0f} µs, {faults:,.0f} page faults, {resident:.0f} MiB")


def main(programs):
    programs = [pathlib.Path(program).absolute() for program in programs]
    with tempfile.TemporaryDirectory() as work:
        shutil.copytree(FLIGHTS / ".wafer", f"{work}/store")
        os.environ |= {"WAFER_STORE_PATH": f"{work}/store", "WAFER_LOG": "warn"}
        for size in MODELS:
            name = f"of_{size}"
            model(f"{work}/model.txt", size)
            for arguments in (
                ("models", "push", "late_arrival", "--artifact", f"{work}/model.txt"),
                ("release", "create", name, "--model", "late_arrival"),
                ("endpoints", "set", name, name, "--log", "0"),
            ):
                subprocess.run([programs[0], "-C", FLIGHTS, *arguments], check=True, stdout=subprocess.DEVNULL)
        commands = {}
        for program in programs:
            commands[program.name] = [sys.executable, "-c", START, program]
            commands[f"{program.name} without"] = [sys.executable, HERE / "without_scan.py", program]
        for size, requests in MODELS.items():
            measure = lambda command, size=size, requests=requests: serve(command, size, requests)
            compare(f"a prediction with a model of {size:,} bytes", commands, measure)
        compare("a run over 336,776 rows", commands, batch)


if __name__ == "__main__":
    main(sys.argv[1:])
