"""Keeps a server busy for a while, at four fifths of what it can do, and tells whether it wears out: see
ci/soak.sh.

Pictures of many sizes and formats, requests that must be refused, and clients that hang up, come at random
times, whether answers come or not. Every answer has a status that is expected of it; resident memory and open
files are read every second. Once a minute the load rests until the server gives back what it keeps for the next
requests: what it then still holds is what a leak would add to.
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
# Of the run, until caches and the allocator have seen every size.
WARM_UP = 0.25
# MiB an hour, at rest.
SLOPE = 1.0
# Seconds of load, and then without.
BUSY, REST = 45, 7


@dataclasses.dataclass
class Case:
    """A kind of request: how often it comes, and what may be answered."""

    name: str
    weight: float
    bodies: list
    statuses: set
    headers: dict = dataclasses.field(default_factory=dict)
    login: str = LOGIN
    # Milliseconds until the client hangs up.
    patience: tuple | None = None


def pictures():
    """The samples in many sizes, by format."""
    found = {"JPEG": [], "PNG": [], "WEBP": []}
    for path in sorted((ROOT / "data/samples").glob("*.[jp][pn]g")):
        picture = Image.open(path).convert("RGB")
        for side in (64, 300, 640, 1334, 2400):
            size = (side, max(1, side * picture.height // picture.width))
            for name, files in found.items():
                if name != "JPEG" and side > 1334:
                    continue
                file = io.BytesIO()
                picture.resize(size).save(file, name)
                files.append(file.getvalue())
    return found


def cases():
    found = pictures()
    everything = [body for files in found.values() for body in files]
    damaged = [body[: len(body) * 2 // 3] for body in found["JPEG"]]
    # The queue is bounded, and chance heaps requests up: 429 is an answer as it should be.
    fine = {200, 429}
    return [
        Case("jpeg", 8, found["JPEG"], fine),
        Case("png", 3, found["PNG"], fine),
        Case("webp", 2, found["WEBP"], fine),
        Case("annotated", 1, found["JPEG"], fine, {"Accept": "image/jpeg"}),
        Case("damaged", 1, damaged, {422, 429}),
        Case("no picture", 1, [b"no picture at all"], {415, 429}),
        Case("too large", 0.5, [b"\0" * (11 << 20)], {413}),
        Case("wrong password", 1, everything, {401}, login=aiohttp.encode_basic_auth("ugain", "wrong")),
        Case("hangs up", 2, everything, fine, patience=(1, 60)),
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
        """Resident MiB, and open files."""
        proc = pathlib.Path(f"/proc/{self.process.pid}")
        status = (proc / "status").read_text(encoding="utf-8")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, len(os.listdir(proc / "fd"))


class Soak:
    def __init__(self, server, session):
        self.server, self.session = server, session
        self.cases, self.chance = cases(), random.Random(1)
        self.counts, self.wrong, self.latencies, self.states = {}, [], [], []
        self.resting = []
        self.begun = time.monotonic()

    async def ask(self, case, body):
        begun = time.monotonic()
        patience = case.patience and self.chance.uniform(*case.patience) / 1e3
        timeout = aiohttp.ClientTimeout(total=patience or 60)
        headers = {"Content-Type": "image/png", "Authorization": case.login, **case.headers}
        try:
            async with self.session.post(
                f"{self.server.url}/predict", data=body, headers=headers, timeout=timeout
            ) as answer:
                await answer.read()
                status = answer.status
        except TimeoutError:
            status = "hung up" if case.patience else "late"
        except aiohttp.ClientError as error:
            status = type(error).__name__
        key = f"{case.name}: {status}"
        self.counts[key] = self.counts.get(key, 0) + 1
        if status not in case.statuses | {"hung up"}:
            self.wrong.append(key)
        if status == 200:
            self.latencies.append((begun - self.begun, time.monotonic() - begun))

    def draw(self):
        case = self.chance.choices(self.cases, [case.weight for case in self.cases])[0]
        return case, self.chance.choice(case.bodies)

    async def capacity(self, seconds):
        """Requests a second of this mixture, one after the other on each of two connections."""
        until, done = time.monotonic() + seconds, 0

        async def client():
            nonlocal done
            while time.monotonic() < until:
                await self.ask(*self.draw())
                done += 1

        await asyncio.gather(client(), client())
        return done / seconds

    async def watch(self):
        while True:
            self.states.append((time.monotonic() - self.begun, *self.server.state()))
            await asyncio.sleep(1)

    async def run(self, seconds):
        rate = LOAD * await self.capacity(min(20, seconds / 4))
        print(f"{rate:.1f} requests a second", flush=True)
        self.counts, self.wrong, self.latencies = {}, [], []
        self.begun = time.monotonic()
        watching = asyncio.create_task(self.watch())
        asked, due, rest = set(), self.begun, self.begun + BUSY
        while due < self.begun + seconds:
            if due > rest:
                await asyncio.gather(*asked)
                await asyncio.sleep(REST)
                due = time.monotonic()
                self.resting.append((due - self.begun, self.server.state()[0]))
                rest = due + BUSY
            # As strangers come: at random, on average so many a second.
            due += self.chance.expovariate(rate)
            await asyncio.sleep(max(0, due - time.monotonic()))
            task = asyncio.create_task(self.ask(*self.draw()))
            asked.add(task)
            task.add_done_callback(asked.discard)
        await asyncio.gather(*asked)
        watching.cancel()
        return rate


def judge(soak, seconds):
    """What was found, and what of it is not as it should be."""
    after = seconds * WARM_UP
    at, memory, files = (numpy.array(column) for column in zip(*soak.states))
    late = at >= after
    resting = numpy.array(soak.resting)
    resting = resting[resting[:, 0] >= after]
    line = numpy.polyfit(*resting.T, 1)
    slope = line[0] * 3600
    begun, took = (numpy.array(column) for column in zip(*soak.latencies))
    middle = (after + seconds) / 2
    p99 = [float(numpy.percentile(took[part], 99)) for part in ((begun >= after) & (begun < middle), begun >= middle)]
    found = {
        "seconds": seconds,
        "answers": soak.counts,
        "unexpected": soak.wrong[:20],
        "memory_mib": [float(memory[late].min()), float(memory[late].max())],
        "memory_at_rest_mib": [float(resting[:, 1].min()), float(resting[:, 1].max())],
        "slope_mib_an_hour": round(float(slope), 3),
        "open_files": [int(files[late].min()), int(files[late].max()), int(files[-1])],
        "p99_seconds": p99,
    }
    faults = []
    if soak.wrong:
        faults.append(f"{len(soak.wrong)} answers that nobody provoked")
    if slope > SLOPE:
        faults.append(f"memory grows by {slope:.2f} MiB an hour")
    if files[-1] > files[late].min() + 8:
        faults.append(f"open files grew from {files[late].min()} to {files[-1]}")
    return found, faults, (at, memory, begun, took, resting, line)


def plot(shown, path):
    at, memory, begun, took, resting, line = shown
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(9, 6), sharex=True)
    upper.plot(at / 60, memory, linewidth=0.6, color="lightsteelblue", label="under load")
    upper.plot(resting[:, 0] / 60, resting[:, 1], ".", label="at rest")
    upper.plot(resting[:, 0] / 60, numpy.polyval(line, resting[:, 0]), "k", linewidth=0.8)
    upper.legend(loc="lower right", fontsize=8)
    upper.set_ylabel("MiB resident")
    upper.set_ylim(bottom=0)
    upper.set_title(f"{line[0] * 3600:+.2f} MiB an hour at rest", fontsize=9)
    lower.scatter(begun / 60, took * 1e3, s=1, rasterized=True)
    lower.set_ylabel("milliseconds of an answer")
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
                        async with session.get(f"{server.url}/readyz") as answer:
                            if answer.status == 200:
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
    found, faults, shown = judge(soak, seconds)
    print(json.dumps(found, indent=1))
    plot(shown, folder / "soak.svg")
    for fault in faults:
        print(f"ci/soak.sh: {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    # A line needs some rests to go through, after the warm-up.
    if wanted * (1 - WARM_UP) < 4 * (BUSY + REST):
        sys.exit(f"ci/soak.sh: {wanted} s are too few; take {4 * (BUSY + REST) / (1 - WARM_UP):.0f} s or more")
    asyncio.run(main(wanted, pathlib.Path(sys.argv[2])))
