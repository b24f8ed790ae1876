"""Loads a server at four fifths of its capacity, and looks for leaks: see ci/soak.sh.

Sends pictures of many sizes and formats, requests that must be refused, and requests whose clients hang up, at random
times that do not depend on the responses. Each response must have a status that its request may get. Resident memory
and open files are read every second. About once a minute the load pauses until the server has released the memory that
it keeps for the next requests. A leak would raise the memory that remains.
"""

import asyncio
import dataclasses
import io
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import time

import aiohttp
import matplotlib
import numpy
from PIL import Image

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "ssd"
import matplotlib.pyplot as plt  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SSD = ROOT / "target/release/ssd"
LOGIN = aiohttp.encode_basic_auth("ugain", "ugain")
LOAD = 0.8
# Share of the run in which caches and the allocator meet every size for the first time.
WARM_UP = 0.25
# Maximum growth of the memory in the pauses, MiB an hour.
SLOPE = 1.0
# Seconds of load, and of each pause.
BUSY, PAUSE = 45, 7


@dataclasses.dataclass
class Case:
    """A kind of request: how often it comes, and which statuses it may get."""

    name: str
    weight: float
    bodies: list
    statuses: set
    headers: dict = dataclasses.field(default_factory=dict)
    login: str = LOGIN
    # Minimum and maximum milliseconds until the client hangs up.
    hang_up: tuple | None = None


def pictures():
    """The samples in many sizes, by format."""
    formats = {"JPEG": [], "PNG": [], "WEBP": []}
    for path in sorted((ROOT / "data/samples").glob("*.[jp][pn]g")):
        picture = Image.open(path).convert("RGB")
        for side in (64, 300, 640, 1334, 2400):
            size = (side, max(1, side * picture.height // picture.width))
            for name, files in formats.items():
                if name != "JPEG" and side > 1334:
                    continue
                file = io.BytesIO()
                picture.resize(size).save(file, name)
                files.append(file.getvalue())
    return formats


def cases():
    formats = pictures()
    everything = [body for files in formats.values() for body in files]
    damaged = [body[: len(body) * 2 // 3] for body in formats["JPEG"]]
    # The queue is bounded and requests come at random, so some get 429.
    fine = {200, 429}
    return [
        Case("jpeg", 8, formats["JPEG"], fine),
        Case("png", 3, formats["PNG"], fine),
        Case("webp", 2, formats["WEBP"], fine),
        Case("annotated", 1, formats["JPEG"], fine, {"Accept": "image/jpeg"}),
        Case("damaged", 1, damaged, {422, 429}),
        Case("no picture", 1, [b"no picture at all"], {415, 429}),
        Case("too large", 0.5, [b"\0" * (11 << 20)], {413}),
        Case("wrong password", 1, everything, {401}, login=aiohttp.encode_basic_auth("ugain", "wrong")),
        Case("hangs up", 2, everything, fine, hang_up=(1, 60)),
    ]


class Server:
    def __init__(self, log):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = dict(os.environ, PORT=str(self.port), LOG_FILTER="warn")
        self.process = subprocess.Popen([SSD], env=environment, cwd=ROOT, stdout=log, stderr=log)
        self.url = f"http://127.0.0.1:{self.port}"

    def state(self):
        """Resident MiB and open files."""
        proc = pathlib.Path(f"/proc/{self.process.pid}")
        status = (proc / "status").read_text(encoding="utf-8")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, len(os.listdir(proc / "fd"))


class Soak:
    def __init__(self, server, session):
        self.server, self.session = server, session
        self.cases, self.random = cases(), random.Random(1)
        self.counts, self.unexpected, self.latencies, self.states = {}, [], [], []
        self.pauses = []
        self.start = time.monotonic()

    async def request(self, case, body):
        start = time.monotonic()
        hang_up = case.hang_up and self.random.uniform(*case.hang_up) / 1e3
        timeout = aiohttp.ClientTimeout(total=hang_up or 60)
        headers = {"Content-Type": "image/png", "Authorization": case.login, **case.headers}
        try:
            async with self.session.post(
                f"{self.server.url}/predict", data=body, headers=headers, timeout=timeout
            ) as response:
                await response.read()
                status = response.status
        except TimeoutError:
            status = "hung up" if case.hang_up else "late"
        except aiohttp.ClientError as error:
            status = type(error).__name__
        key = f"{case.name}: {status}"
        self.counts[key] = self.counts.get(key, 0) + 1
        if status not in case.statuses | {"hung up"}:
            self.unexpected.append(key)
        if status == 200:
            self.latencies.append((start - self.start, time.monotonic() - start))

    def draw(self):
        case = self.random.choices(self.cases, [case.weight for case in self.cases])[0]
        return case, self.random.choice(case.bodies)

    async def capacity(self, seconds):
        """Requests per second of these cases, with two clients that each send one request after another."""
        until, done = time.monotonic() + seconds, 0

        async def client():
            nonlocal done
            while time.monotonic() < until:
                await self.request(*self.draw())
                done += 1

        await asyncio.gather(client(), client())
        return done / seconds

    async def watch(self):
        while True:
            self.states.append((time.monotonic() - self.start, *self.server.state()))
            await asyncio.sleep(1)

    async def run(self, seconds):
        rate = LOAD * await self.capacity(min(20, seconds / 4))
        print(f"{rate:.1f} requests per second", flush=True)
        self.counts, self.unexpected, self.latencies = {}, [], []
        self.start = time.monotonic()
        watching = asyncio.create_task(self.watch())
        in_flight, due, pause = set(), self.start, self.start + BUSY
        while due < self.start + seconds:
            if due > pause:
                await asyncio.gather(*in_flight)
                await asyncio.sleep(PAUSE)
                due = time.monotonic()
                self.pauses.append((due - self.start, self.server.state()[0]))
                pause = due + BUSY
            # A Poisson process: requests at random times with this mean rate.
            due += self.random.expovariate(rate)
            await asyncio.sleep(max(0, due - time.monotonic()))
            task = asyncio.create_task(self.request(*self.draw()))
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)
        await asyncio.gather(*in_flight)
        watching.cancel()
        return rate


def judge(soak, seconds):
    """The results, the faults among them, and the data of the plot."""
    after = seconds * WARM_UP
    at, memory, files = (numpy.array(column) for column in zip(*soak.states))
    late = at >= after
    pauses = numpy.array([pause for pause in soak.pauses if pause[0] >= after])
    line = numpy.polyfit(*pauses.T, 1)
    slope = line[0] * 3600
    start, took = (numpy.array(column) for column in zip(*soak.latencies))
    middle = (after + seconds) / 2
    p99 = [float(numpy.percentile(took[part], 99)) for part in ((start >= after) & (start < middle), start >= middle)]
    results = {
        "seconds": seconds,
        "responses": soak.counts,
        "unexpected": soak.unexpected[:20],
        "memory_mib": [float(memory[late].min()), float(memory[late].max())],
        "memory_in_pauses_mib": [float(pauses[:, 1].min()), float(pauses[:, 1].max())],
        "slope_mib_an_hour": round(float(slope), 3),
        "open_files": [int(files[late].min()), int(files[late].max()), int(files[-1])],
        "p99_seconds": p99,
    }
    faults = []
    if soak.unexpected:
        faults.append(f"{len(soak.unexpected)} unexpected responses")
    if slope > SLOPE:
        faults.append(f"memory grows by {slope:.2f} MiB an hour")
    if files[-1] > files[late].min() + 8:
        faults.append(f"open files grew from {files[late].min()} to {files[-1]}")
    return results, faults, (at, memory, start, took, pauses, line)


def plot(data, path):
    at, memory, start, took, pauses, line = data
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(9, 6), sharex=True)
    upper.plot(at / 60, memory, linewidth=0.6, color="lightsteelblue", label="under load")
    upper.plot(pauses[:, 0] / 60, pauses[:, 1], ".", label="in the pauses")
    upper.plot(pauses[:, 0] / 60, numpy.polyval(line, pauses[:, 0]), "k", linewidth=0.8)
    upper.legend(loc="lower right", fontsize=8)
    upper.set_ylabel("MiB resident")
    upper.set_ylim(bottom=0)
    upper.set_title(f"{line[0] * 3600:+.2f} MiB an hour in the pauses", fontsize=9)
    lower.scatter(start / 60, took * 1e3, s=1, rasterized=True)
    lower.set_ylabel("response time, ms")
    lower.set_xlabel("minutes")
    lower.set_yscale("log")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


async def main(seconds, folder):
    with open(folder / "server.log", "w", encoding="utf-8") as log:
        server = Server(log)
        try:
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector) as session:
                while True:
                    try:
                        async with session.get(f"{server.url}/readyz") as response:
                            if response.status == 200:
                                break
                    except aiohttp.ClientError:
                        if server.process.poll() is not None:
                            sys.exit((folder / "server.log").read_text(encoding="utf-8"))
                    await asyncio.sleep(0.1)
                soak = Soak(server, session)
                await soak.run(seconds)
        finally:
            server.process.terminate()
            server.process.wait()
    results, faults, data = judge(soak, seconds)
    print(json.dumps(results, indent=1))
    plot(data, folder / "soak.svg")
    for fault in faults:
        print(f"ci/soak.sh: {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    duration = int(sys.argv[1])
    # The fit needs some pauses after the warm-up.
    if duration * (1 - WARM_UP) < 4 * (BUSY + PAUSE):
        sys.exit(f"ci/soak.sh: {duration} s are too few; run {4 * (BUSY + PAUSE) / (1 - WARM_UP):.0f} s or more")
    asyncio.run(main(duration, pathlib.Path(sys.argv[2])))
