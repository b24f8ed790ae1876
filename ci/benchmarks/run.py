"""Runs the benchmarks of docs/benchmarks.md: see ci/benchmarks.sh.

They use the model that ships, random SSD300 weights of full size (as large and as slow as the published weights), and
one JPEG of 1334x750. What is compared takes turns in one run, because machines differ and are noisy.
"""

import base64
import http.client
import json
import math
import os
import pathlib
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import cv2
import matplotlib
import torch

import engines
import ssd_reference

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "ssd"
import matplotlib.pyplot as plt  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SSD = ROOT / "target/release/ssd"
BASELINE = ROOT / "ci/benchmarks/baseline.py"
LOGIN = ("ugain", "ugain")
CONCURRENCY = [1, 4, 16, 64]
QUEUE = 16
WARM_UP = 2
TURNS = int(os.environ.get("TURNS", "20"))
SECONDS = int(os.environ.get("SECONDS_EACH", "10"))
CORES = len(os.sched_getaffinity(0))


def processor():
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = re.search(r"model name\s*: (.*)", text)
    flags = set(re.search(r"flags\s*: (.*)", text)[1].split()) if "flags" in text else set()
    wanted = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile"]
    return name[1] if name else platform.machine(), [flag for flag in wanted if flag in flags]


# Without bfloat16 instructions, bf16 is emulated and takes an hour to measure.
PRECISIONS = ["f32", *(["bf16"] if {"avx512_bf16", "amx_tile"} & set(processor()[1]) else []), "int8"]
# The model that ships has no int8 form.
SHIPPED_PRECISIONS = [precision for precision in PRECISIONS if precision != "int8"]


class Server:
    """A server that is ready, on a free port."""

    def __init__(self, command, work, **settings):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [str(self.port) if part is PORT else str(part) for part in command]
        environment = dict(os.environ, PORT=str(self.port), LOG_FILTER="warn", **settings)
        start = time.perf_counter()
        with open(work / "server.log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        while not self.is_ready():
            if self.process.poll() is not None:
                sys.exit((work / "server.log").read_text(encoding="utf-8"))
            time.sleep(0.01)
        self.ready_after = time.perf_counter() - start
        self.url = f"http://127.0.0.1:{self.port}/predict"
        # A client that takes little time of its own: what is measured is the server.
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    def predict(self, picture):
        """Seconds of a request, and milliseconds of the stages in its Server-Timing."""
        login = base64.b64encode(":".join(LOGIN).encode()).decode()
        headers = {"Content-Type": "image/jpeg", "Authorization": f"Basic {login}"}
        start = time.perf_counter()
        self.connection.request("POST", "/predict", picture, headers)
        response = self.connection.getresponse()
        body = response.read()
        took = time.perf_counter() - start
        if response.status != 200:
            sys.exit(f"{response.status}: {body.decode()}")
        timing = response.getheader("server-timing", "")
        return took, {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", timing)}

    def resident(self):
        """MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


PORT = object()


def ssd(precision, files, work, **settings):
    return Server(
        [SSD], work, WEIGHTS_PATH=str(files[precision]), PRECISION=precision, QUEUE_LENGTH=str(QUEUE), **settings
    )


def baseline(files, work):
    return Server([sys.executable, BASELINE, files["f32"], PORT], work)


def make_weights(work):
    """The same weights in the format that each precision loads, and the errors of int8 by layer."""
    legacy = work / "full-size.pth"
    torch.save(ssd_reference.seeded_state(1), legacy, _use_new_zipfile_serialization=False)
    calibrated = work / "calibrated.safetensors"
    samples = [ROOT / "data/samples" / name for name in ("cat.png", "astronaut.jpg", "coffee.jpg")]
    table = subprocess.run(
        [SSD, "calibrate", legacy, *samples, "-o", calibrated], check=True, capture_output=True, text=True
    ).stdout
    errors = re.findall(r"^\s*(\S+)\s+([\d.]+) %\s*$", table, re.MULTILINE)
    converted = work / "full-size.safetensors"
    subprocess.run([SSD, "convert", legacy, converted], check=True, capture_output=True)
    return {"f32": legacy, "bf16": converted, "int8": calibrated}, errors


def photograph():
    small = cv2.imread(str(ROOT / "data/samples/cat.png"))
    large = cv2.resize(small, (1334, 750), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def one_client(files, picture, work):
    """Medians of whole requests and of their stages; the servers take turns."""
    servers = {precision: ssd(precision, files, work) for precision in PRECISIONS}
    servers["flask"] = baseline(files, work)
    ready = {name: server.ready_after for name, server in servers.items()}
    times = {name: [] for name in servers}
    stages = {name: [] for name in servers}
    for turn in range(TURNS + WARM_UP):
        for name, server in servers.items():
            took, parts = server.predict(picture)
            # libgomp's threads spin for a moment after their work.
            time.sleep(0.02)
            if turn >= WARM_UP:
                times[name].append(took * 1e3)
                stages[name].append(parts)
    resident = {name: server.resident() for name, server in servers.items()}
    for server in servers.values():
        server.stop()
    base = statistics.median(times["flask"])
    rows = []
    for name in servers:
        median = statistics.median(times[name])
        forward = [parts["forward"] for parts in stages[name]]
        row = {
            "name": name,
            "milliseconds": median,
            "ratio": base / median,
            "forward": statistics.median(forward),
            "ready": ready[name],
            "resident": resident[name],
        }
        rest = [took - part for took, part in zip(times[name], forward)]
        row["rest"] = statistics.median(rest) / row["forward"]
        if name in PRECISIONS:
            work_done = [sum(parts.values()) - parts["forward"] - parts["wait"] for parts in stages[name]]
            row["work"] = statistics.median(work_done) / row["forward"]
        rows.append(row)
    return rows


def against_engines(network, weights, servers, picture, work):
    """Passes of the servers and of every engine that installs, taking turns; the servers' whole requests, starts and
    memory; and the engines that did not run, with the reason. Stops the servers."""
    folder = work / network
    folder.mkdir()
    engines.prepare(folder, network, weights)
    if network == "mobilenet-v2":
        subprocess.run([ROOT / "weights/mobilenet/convert.sh", "--extract", folder], check=True)
    workers, missing = [], []
    for engine, (_, _, precisions) in engines.ENGINES.items():
        for precision in precisions:
            if precision == "bf16" and "bf16" not in PRECISIONS:
                missing.append((engine, precision, "this processor has no bfloat16 instructions"))
            elif engine == "LiteRT" and network == "ssd300":
                missing.append((engine, precision, "nobody has published SSD300 in its format"))
            else:
                worker = engines.Worker(engine, precision, folder, network, weights, CORES)
                if worker.error is None:
                    workers.append(worker)
                else:
                    missing.append((worker.name, precision, worker.error))
    passes = {}
    whole = {precision: [] for precision in servers}

    def keep(name, precision, difference, milliseconds):
        row = passes.setdefault((name, precision), {"difference": difference, "times": []})
        row["times"].append(milliseconds)

    turns = TURNS * (5 if network == "mobilenet-v2" else 1)
    for turn in range(turns + WARM_UP):
        for precision, server in servers.items():
            took, parts = server.predict(picture)
            if turn >= WARM_UP:
                whole[precision].append(took * 1e3)
                keep("**this server**", precision, None, parts["forward"])
            # An engine's threads spin for a moment after their work.
            time.sleep(0.02)
        for worker in workers:
            milliseconds = worker.run()
            if turn >= WARM_UP:
                keep(worker.name, worker.precision, worker.difference, milliseconds)
            time.sleep(0.02)
    for worker in workers:
        worker.stop()
    ready = {precision: server.ready_after for precision, server in servers.items()}
    resident = {precision: server.resident() for precision, server in servers.items()}
    for server in servers.values():
        server.stop()
    return {"passes": passes, "missing": missing, "whole": whole, "ready": ready, "resident": resident}


def shipped(picture, work):
    """The model that ships."""
    weights = ROOT / "weights/ssd_mobilenet_v2_oidv4.safetensors"
    servers = {
        precision: Server([SSD], work, WEIGHTS_PATH=str(weights), PRECISION=precision)
        for precision in SHIPPED_PRECISIONS
    }
    return against_engines("mobilenet-v2", weights, servers, picture, work)


def full_size(files, picture, work):
    """SSD300."""
    servers = {precision: ssd(precision, files, work) for precision in PRECISIONS}
    return against_engines("ssd300", files["f32"], servers, picture, work)


def engine_table(results):
    """The median pass of each engine, and how it compares with this server's in the same precision."""
    passes = results["passes"]
    medians = {key: statistics.median(row["times"]) for key, row in passes.items()}
    rows = []
    for (name, precision), median in sorted(medians.items(), key=lambda item: (item[0][1], item[1])):
        row, own = passes[name, precision], medians.get(("**this server**", precision))
        difference = row["difference"]
        rows.append(
            [
                precision,
                name,
                f"{median:.1f}",
                f"{min(row['times']):.1f}",
                f"{median / own:.2f}" if own else "",
                f"{difference:.0e}" if difference is not None else "",
            ]
        )
    header = ["", "", "median, ms", "minimum, ms", "over this server", "largest difference of a score"]
    text = table(header, rows)
    for name, precision, reason in results["missing"]:
        text += f"\n\n{name} in {precision} did not run: {reason}."
    return text


class Memory(threading.Thread):
    """A server's resident memory, ten times a second."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.samples, self.over = server, [], threading.Event()
        self.start()

    def run(self):
        start = time.perf_counter()
        while not self.over.wait(0.1):
            self.samples.append((time.perf_counter() - start, self.server.resident()))

    def stop(self):
        self.over.set()
        self.join()
        return self.samples


def load(server, jpeg, concurrency, *more):
    """Runs oha against the server; returns its report."""
    command = [OHA, "--no-tui", "--output-format", "json", "-z", f"{SECONDS}s", "-c", str(concurrency)]
    command += ["-w", "--stats-success-breakdown", "-m", "POST", "-a", ":".join(LOGIN), "-T", "image/jpeg", "-D", str(jpeg), *more]
    run = subprocess.run([*command, server.url], check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def percentiles(report):
    """Responses by outcome, and latency percentiles in milliseconds."""
    codes = {int(code): count for code, count in report["statusCodeDistribution"].items()}
    successful = report.get("latencyPercentilesSuccessful") or report["latencyPercentiles"]
    refused = report.get("latencyPercentilesNotSuccessful") or {}

    def milliseconds(values, name):
        return (values.get(name) or 0) * 1e3

    return {
        "successful": codes.get(200, 0),
        "refused": codes.get(429, 0),
        "other": sum(count for code, count in codes.items() if code not in (200, 429)),
        "lost": sum(
            count for error, count in report["errorDistribution"].items() if "deadline" not in error
        ),
        "p50": milliseconds(successful, "p50"),
        "p90": milliseconds(successful, "p90"),
        "p99": milliseconds(successful, "p99"),
        "refused_p99": milliseconds(refused, "p99"),
        "seconds": report["summary"]["total"],
    }


def loads(files, jpeg, work):
    """Latencies of each server under each load, and its memory over time."""
    rows, memories = [], {}
    for name in [*PRECISIONS, "flask"]:
        server = baseline(files, work) if name == "flask" else ssd(name, files, work)
        memory = Memory(server)
        for concurrency in CONCURRENCY:
            row = percentiles(load(server, jpeg, concurrency))
            rows.append({"name": name, "concurrency": concurrency, **row})
            print(rows[-1], flush=True)
        memories[name] = memory.stop()
        server.stop()
    return rows, memories


def overload(files, jpeg, work, service):
    """Sends requests at ten times the server's capacity."""
    server = ssd("int8", files, work)
    load(server, jpeg, 1)
    before = server.resident()
    rate = 10 / service
    results = percentiles(load(server, jpeg, 4 * QUEUE, "-q", f"{rate:.0f}"))
    after = server.resident()
    server.stop()
    return {"rate": rate, "before": before, "after": after, "bound": (QUEUE + 2) * service * 1e3, **results}


def scale_out(files, jpeg, work):
    """Pictures per second of one replica on all cores, and of one replica per core."""
    rows = []
    for replicas, threads in [(1, CORES), (1, 1), (2, 1)]:
        if threads * replicas > CORES:
            continue
        servers = [ssd("int8", files, work, THREADS=str(threads)) for _ in range(replicas)]
        reports = [None] * replicas

        def run(index, servers=servers, reports=reports):
            reports[index] = percentiles(load(servers[index], jpeg, 2))

        clients = [threading.Thread(target=run, args=(index,)) for index in range(replicas)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        for server in servers:
            server.stop()
        rate = sum(report["successful"] / report["seconds"] for report in reports)
        rows.append((replicas, threads, rate))
    return rows


def plot_latency(rows, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for name in [*PRECISIONS, "flask"]:
        mine = [row for row in rows if row["name"] == name]
        offered = [row["concurrency"] for row in mine]
        left.plot(offered, [row["successful"] / row["seconds"] for row in mine], marker="o", label=name)
        line = right.plot(offered, [row["p50"] for row in mine], marker="o", label=f"{name}, median")
        right.plot(
            offered, [row["p99"] for row in mine], marker=".", linestyle="--", color=line[0].get_color(),
            label=f"{name}, p99",
        )
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(CONCURRENCY, [str(count) for count in CONCURRENCY])
        axes.set_xlabel("clients")
        axes.grid(alpha=0.3)
    left.set_ylabel("pictures per second")
    left.set_ylim(bottom=0)
    right.set_ylabel("response time, ms")
    right.set_yscale("log")
    left.legend()
    right.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def plot_memory(memories, path):
    figure, axes = plt.subplots(figsize=(8, 3.5))
    for name, samples in memories.items():
        axes.plot([at for at, _ in samples], [mib for _, mib in samples], label=name)
    axes.set_xlabel("seconds, with 1, 4, 16 and 64 clients")
    axes.set_ylabel("MiB resident")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def write(results):
    name, flags = processor()
    version = subprocess.run([SSD, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    oha = subprocess.run([OHA, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    single, load_rows, over = results["single"], results["loads"], results["overload"]
    names = {"flask": "Flask and PyTorch"}
    parts = [
        f"""# Benchmarks

Written by `make bench` (`ci/benchmarks.sh`) on {time.strftime("%Y-%m-%d")}; do not edit. Times depend on the machine
and vary from day to day: compare the ratios.

{CORES} cores of {name} ({", ".join(flags)}), Linux {platform.release()}; {version}, Flask's PyTorch
{torch.__version__.split("+")[0]}, {oha}. Random SSD300 weights of full size, generated from a fixed seed; one JPEG of 1334x750. Flask is
`ci/benchmarks/baseline.py`: the same network in plain PyTorch. For int8, this server and OpenVINO (by NNCF) are calibrated
on the pictures that were in `data/samples` on that date.
""",
        f"""## One client

Medians of {TURNS} requests; the servers take turns. *Own work* is decoding, preprocessing and postprocessing. *Other
time* is all of a request except its forward pass, including HTTP and the client. Both are shares of the forward pass.
""",
        table(
            ["", "request, ms", "against Flask", "forward, ms", "own work", "other time", "MiB", "ready after, s"],
            [
                [
                    names.get(row["name"], row["name"]),
                    f"{row['milliseconds']:.0f}",
                    f"{row['ratio']:.2f}x",
                    f"{row['forward']:.0f}",
                    f"{row['work'] * 100:.1f} %" if "work" in row else "",
                    f"{row['rest'] * 100:.1f} %",
                    f"{row['resident']:.0f}",
                    f"{row['ready']:.2f}",
                ]
                for row in single
            ],
        ),
        "\nf32 loads the published format (`.pth`), the others safetensors.\n",
        f"""
## Under load

{SECONDS} seconds for each number of clients. A client sends its next request as soon as it has a response. The queue
holds {QUEUE} pictures, so with 64 clients most requests get 429. The load generator ignores `Retry-After` and sends
them again at once, thousands of times a second. These requests and their responses use half of the processor's time.
Latencies are those of responses with 200.

![Throughput and latency against load](benchmarks-load.svg)
""",
        table(
            ["", "clients", "pictures per second", "median, ms", "p90", "p99", "429", "lost"],
            [
                [
                    names.get(row["name"], row["name"]),
                    row["concurrency"],
                    f"{row['successful'] / row['seconds']:.1f}",
                    f"{row['p50']:.0f}",
                    f"{row['p90']:.0f}",
                    f"{row['p99']:.0f}",
                    row["refused"],
                    row["lost"] + row["other"],
                ]
                for row in load_rows
            ],
        ),
        f"""
![Memory over these loads](benchmarks-memory.svg)

## Overload

int8, {over["rate"]:.0f} requests per second for {SECONDS} seconds, ten times the capacity. The queue limits the latency:
the longest possible wait is for the queue plus two pictures, which take {over["bound"]:.0f} ms one after the other.
""",
        table(
            ["200", "p99, ms", "429", "p99 of 429, ms", "lost", "MiB before", "MiB after"],
            [
                [
                    over["successful"],
                    f"{over['p99']:.0f}",
                    over["refused"],
                    f"{over['refused_p99']:.0f}",
                    over["lost"] + over["other"],
                    f"{over['before']:.0f}",
                    f"{over['after']:.0f}",
                ]
            ],
        ),
        """
## How many replicas

Measured with int8, two clients per replica:
""",
        table(
            ["replicas", "threads of each", "pictures per second", "per second and core"],
            [
                [replicas, threads, f"{rate:.1f}", f"{rate / replicas / threads:.1f}"]
                for replicas, threads, rate in results["scale"]
            ],
        ),
    ]
    per_core = min(rate / replicas / threads for replicas, threads, rate in results["scale"])
    small = results["shipped"]
    requests = []
    for precision in SHIPPED_PRECISIONS:
        forward = statistics.median(small["passes"]["**this server**", precision]["times"])
        whole = statistics.median(small["whole"][precision])
        requests.append(
            [
                precision,
                f"{whole:.1f}",
                f"{whole / forward:.2f}",
                f"{small['resident'][precision]:.0f}",
                f"{small['ready'][precision]:.2f}",
            ]
        )
    parts[1:1] = [
        f"""## Engines

Passes of the same networks, {CORES} threads each, taking turns in one run; of this server, the `forward` of a request's
`Server-Timing`. The ratios are of medians in the same precision: above 1.00, this server is faster. The last column compares
an engine's scores with those of PyTorch in single precision.

### The model that ships (SSD MobileNetV2)
""",
        engine_table(small),
        "\nWhole requests to this server:\n",
        table(["", "request, ms", "passes", "MiB", "ready after, s"], requests),
        "\n### SSD300\n",
        engine_table(results["full_size"]),
        "\nThe figures below are those of the SSD300 weights.\n",
    ]
    parts += [
        f"""
Computed from the lowest of these, {per_core:.1f} pictures per second and core, at 70 % of the capacity, which leaves
room for bursts:
""",
        table(
            ["pictures per second", "cores", "replicas of 2 cores"],
            [
                [rate, cores := math.ceil(rate / per_core / 0.7), math.ceil(cores / 2)]
                for rate in (10, 50, 100, 500)
            ],
        ),
        """
## Error of int8, layer by layer

The mean difference of each feature map from f32, divided by that map's mean, on the photograph of a cat. The weights
are those above, calibrated on the pictures that were in `data/samples` on that date:
""",
        table(["layer", "error"], [[f"`{layer}`", f"{error} %"] for layer, error in results["errors"]]),
    ]
    (ROOT / "docs/benchmarks.md").write_text("\n".join(parts) + "\n", encoding="utf-8")
    plot_latency(load_rows, ROOT / "docs/benchmarks-load.svg")
    plot_memory(results["memories"], ROOT / "docs/benchmarks-memory.svg")


def rivals(results):
    """A row for each engine, a column for each precision of SSD300 and of the model that ships."""
    columns = [
        *(("full_size", precision) for precision in PRECISIONS),
        *(("shipped", precision) for precision in SHIPPED_PRECISIONS),
    ]
    ratios = {}
    for column, (network, precision) in enumerate(columns):
        passes = results[network]["passes"]
        own = statistics.median(passes["**this server**", precision]["times"])
        for (name, other), row in passes.items():
            if other == precision and name != "**this server**":
                cells = ratios.setdefault(name, [""] * len(columns))
                cells[column] = f"{statistics.median(row['times']) / own:.2f}"
    title = {"full_size": "SSD300", "shipped": "the model that ships"}
    header = ["", *(f"{title[network]}, {precision}" for network, precision in columns)]
    return table(header, [[name, *cells] for name, cells in ratios.items()])


def write_readme(results):
    """The few figures that README.md shows."""
    single = {row["name"]: row for row in results["single"]}
    loaded = {row["name"]: row for row in results["loads"] if row["concurrency"] == QUEUE}
    names = {"flask": "Flask and PyTorch", **{name: f"this server, {name}" for name in PRECISIONS}}
    text = table(
        ["", "throughput, relative", f"p99 with {QUEUE} clients", "memory"],
        [
            [
                names[name],
                f"{single[name]['ratio']:.1f}x",
                f"{loaded[name]['p99'] / 1e3:.1f} s",
                f"{single[name]['resident']:.0f} MiB",
            ]
            for name in names
        ],
    )
    text += "\n\nThe time of other engines' passes divided by this server's, on the same threads; above 1.00, this server is faster:\n\n"
    text += rivals(results)
    text += f"\n\nThe first table is of SSD300 (VGG16). All figures are from one run on {CORES} cores ({processor()[0]})."
    path = ROOT / "README.md"
    begin, end = "<!-- benchmarks: written by make bench -->\n", "<!-- /benchmarks -->"
    head, rest = path.read_text(encoding="utf-8").split(begin)
    path.write_text(f"{head}{begin}{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def main():
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        files, errors = make_weights(work)
        picture = photograph()
        jpeg = work / "picture.jpg"
        jpeg.write_bytes(picture)
        results = {"errors": errors, "shipped": shipped(picture, work)}
        results["full_size"] = full_size(files, picture, work)
        results["single"] = one_client(files, picture, work)
        print(json.dumps(results["single"], indent=1), flush=True)
        results["loads"], results["memories"] = loads(files, jpeg, work)
        service = next(row for row in results["single"] if row["name"] == "int8")["milliseconds"] / 1e3
        results["overload"] = overload(files, jpeg, work, service)
        print(results["overload"], flush=True)
        results["scale"] = scale_out(files, jpeg, work)
        write(results)
        write_readme(results)


OHA = sys.argv[1]
if __name__ == "__main__":
    main()
