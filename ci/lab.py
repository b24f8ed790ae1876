#!/usr/bin/env python3
"""Runs the commands of docs/lab.md, in their order, in one shell.

    ci/lab.py check     fails at the first command that fails, or whose output differs from docs/lab.md
    ci/lab.py write     writes the output of each command into docs/lab.md

A command is a line that begins with "$ " in a block marked `console`; its output is the lines up to the next command.
Names, addresses, times and sizes that differ between runs are not compared. The script needs the cluster of
`make cluster` without a release named ssd. It uses a kubeconfig of its own.
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
TIMEOUT = 30
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Text that differs between runs.
VARIES = [
    # The precision depends on the processor, and the log says why.
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
# The number of equal lines may vary, for example when several pods are deleted.
REPEATED = re.compile(r"^(.*\n)\1+", re.MULTILINE)
# A fast cluster does not print these lines.
WAITING = re.compile(r"^Waiting for .*\n", re.MULTILINE)


class Failed(Exception):
    """A command failed, or its output differs."""


class Shell:
    """One bash for all commands, so that variables and background jobs stay."""

    def __init__(self, home):
        # Without curl's progress meter.
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
        """Runs `command`; returns its output without empty lines at its ends."""
        # The shell reads commands from standard input, so no command may read it.
        self.process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s%d\\n' {DONE} $?\n")
        output = []
        for line in self.process.stdout:
            if line.startswith(DONE):
                break
            output.append(line.rstrip() + "\n")
        else:
            raise Failed(f"the shell ended during: {command}")
        status = int(line.removeprefix(DONE))
        text = COLOURS.sub("", "".join(output)).strip("\n")
        if status != 0:
            raise Failed(f"exit code {status}: {command}\n{text}")
        if forward := FORWARD.search(command):
            wait_for(int(forward[1]))
        return text

    def end(self):
        """Ends the shell and its background jobs."""
        if self.process.poll() is None:
            self.process.stdin.write("kill $(jobs -p) 2>/dev/null\nexit\n")
            self.process.stdin.close()
            self.process.wait(timeout=TIMEOUT)


def wait_for(port):
    """Waits until something listens on `port`."""
    end = time.monotonic() + TIMEOUT
    while True:
        try:
            socket.create_connection(("localhost", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise Failed(f"nothing listens on port {port}") from None
            time.sleep(0.2)


def comparable(text):
    """`text` without the parts that differ between runs."""
    text = WAITING.sub("", text + "\n")
    for pattern, name in VARIES:
        text = pattern.sub(name, text)
    return REPEATED.sub(r"\1", text + "\n").strip()


def walk(shell, compare):
    """Runs the commands of the lab; returns its text with their output."""

    def block(match):
        lines = []
        commands = re.split(r"^\$ ", match.group(), flags=re.MULTILINE)[1:]
        for command, _, written in (each.partition("\n") for each in commands):
            print("$", command, flush=True)
            output = shell.run(command)
            if compare and comparable(output) != comparable(written):
                raise Failed(f"the output of {command}\nis\n{output}\nbut docs/lab.md has\n{written}")
            lines += [f"$ {command}", *output.splitlines()]
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
