#!/usr/bin/env python3
"""Runs the commands of docs/lab.md, in their order, in one shell.

    ci/lab.py check     fails at the first command that fails, or gives something else than is written there
    ci/lab.py write     writes what each gave under it, into docs/lab.md

A command is a line that begins with "$ " in a block marked `console`; the lines up to the next one are what
it gave. Names, addresses, times and sizes that differ from run to run are not compared. It needs the cluster
of `make cluster` without a release named ssd, and starts in this repository, with a kubeconfig of its own.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAB = ROOT / "docs" / "lab.md"
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
FORWARD = re.compile(r"kubectl port-forward \S+ (\d+):")
DONE = "--done--"
PATIENCE = 30
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# What differs from run to run.
VARIES = [
    # Other processors compute in other precisions, and the log says why.
    (re.compile(r'precision (f32|bf16): [^"]*'), "PRECISION"),
    (re.compile(r'"(probability|x|y|width|height)":[\d.]+'), r'"\1":NUMBER'),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z|[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ [\d:]+ \d{4}"), "TIME"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "SHA256"),
    (re.compile(r"\bssd-[a-z0-9]{8,10}(-[a-z0-9]{5})?\b|\bssd-[a-z0-9]{5}\b"), "NAME"),
    (re.compile(r"\b\d+\.\d+\.\d+\.\d+\b"), "ADDRESS"),
    (re.compile(r"\b(\d+[dhms])+\b"), "AGE"),
    (re.compile(r"\b\d+MB\b"), "SIZE"),
    (re.compile(r"\b\d+\.\d+\b"), "NUMBER"),
    (re.compile(r"[ \t]+"), " "),
]
# Of several that go at once, some may be gone already.
REPEATED = re.compile(r"^(.*\n)\1+", re.MULTILINE)
# A quick cluster says nothing of it.
WAITING = re.compile(r"^Waiting for .*\n", re.MULTILINE)


class Failed(Exception):
    """A command failed, or gave something else."""


class Shell:
    """One bash, in which what one command changes is there for the next."""

    def __init__(self, home):
        # As on a terminal, curl shows no progress.
        pathlib.Path(home, ".curlrc").write_text("no-progress-meter\n", encoding="ascii")
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-o", "pipefail"],
            cwd=ROOT,
            env={
                **os.environ,
                "CURL_HOME": home,
                "KUBECONFIG": str(pathlib.Path(home, "kubeconfig")),
                "PATH": f"{ROOT / '.tools' / 'bin'}:{os.environ['PATH']}",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )

    def run(self, command):
        """What `command` says, without empty lines at its ends."""
        # Standard input is the shell's own: no command may read it.
        self.process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s%d\\n' {DONE} $?\n")
        said = []
        for line in self.process.stdout:
            if line.startswith(DONE):
                break
            said.append(line.rstrip() + "\n")
        else:
            raise Failed(f"the shell ended during: {command}")
        status = int(line.removeprefix(DONE))
        text = COLOURS.sub("", "".join(said)).strip("\n")
        if status != 0:
            raise Failed(f"status {status} of: {command}\n{text}")
        if forward := FORWARD.search(command):
            wait_for(int(forward[1]))
        return text

    def end(self):
        """Ends what still runs in the background, too."""
        if self.process.poll() is None:
            self.process.stdin.write("kill $(jobs -p) 2>/dev/null\nexit\n")
            self.process.stdin.close()
            self.process.wait(timeout=PATIENCE)


def wait_for(port):
    """Until something listens there."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("localhost", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise Failed(f"nothing listens on port {port}") from None
            time.sleep(0.2)


def comparable(text):
    """Without what differs from run to run."""
    text = WAITING.sub("", text + "\n")
    for pattern, name in VARIES:
        text = pattern.sub(name, text)
    return REPEATED.sub(r"\1", text + "\n").strip()


def walk(shell, compare):
    """The lab with what its commands give now."""

    def block(match):
        lines = []
        commands = re.split(r"^\$ ", match.group(), flags=re.MULTILINE)[1:]
        for command, _, written in (each.partition("\n") for each in commands):
            print("$", command, flush=True)
            said = shell.run(command)
            if compare and comparable(said) != comparable(written):
                raise Failed(f"{command}\ngave\n{said}\nand not\n{written}")
            lines += [f"$ {command}", *said.splitlines()]
        return "\n".join(lines) + "\n"

    return BLOCK.sub(block, LAB.read_text(encoding="utf-8"))


def main():
    if sys.argv[1:] not in (["check"], ["write"]):
        sys.exit(__doc__)
    subprocess.run(["ci/tools.sh", "helm", "kubectl", "kind"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as home:
        shell = Shell(home)
        try:
            shell.run("kind export kubeconfig --name ssd 2>/dev/null")
            shell.run("! helm status ssd >/dev/null 2>&1 || { echo 'there is a release named ssd'; false; }")
            text = walk(shell, compare=sys.argv[1] == "check")
        except Failed as failure:
            sys.exit(f"ci/lab.py: {failure}")
        finally:
            shell.end()
    if sys.argv[1] == "write":
        LAB.write_text(text, encoding="utf-8")


main()
