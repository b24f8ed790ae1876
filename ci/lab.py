#!/usr/bin/env python3
"""Runs the commands of docs/lab.md, in their order, in one shell.

    ci/lab.py check     fails at the first command that fails
    ci/lab.py write     also writes what each gave under it, into docs/lab.md

A command is a line that begins with "$ " in a block marked `console`; the lines up to the next one are what
it gave. It needs the cluster of `make cluster` without a release named ssd, and starts in this repository.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAB = ROOT / "docs" / "lab.md"
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
DONE = "--done--"
# What a command in the background, a port-forward, needs before the next one may count on it.
SETTLE = 3
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Shell:
    """One bash, in which what one command changes is there for the next."""

    def __init__(self):
        # As on a terminal, curl shows no progress.
        self.home = tempfile.TemporaryDirectory()
        pathlib.Path(self.home.name, ".curlrc").write_text("no-progress-meter\n", encoding="ascii")
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=ROOT,
            env={
                **os.environ,
                "CURL_HOME": self.home.name,
                "PATH": f"{ROOT / '.tools' / 'bin'}:{os.environ['PATH']}",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )

    def run(self, command):
        """What `command` says, without empty lines at its ends; leaves this program if it fails."""
        # Standard input is the shell's own: no command may read it.
        self.process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s%d\\n' {DONE} $?\n")
        said = []
        for line in self.process.stdout:
            if line.startswith(DONE):
                status = int(line.removeprefix(DONE))
                break
            said.append(line)
        else:
            sys.exit(f"ci/lab.py: the shell ended during: {command}")
        text = COLOURS.sub("", "".join(said)).strip("\n")
        if status != 0:
            sys.exit(f"{text}\nci/lab.py: status {status} of: {command}")
        if command.endswith("&"):
            time.sleep(SETTLE)
        return text

    def end(self):
        """Ends what still runs in the background, too."""
        self.process.stdin.write("kill $(jobs -p) 2>/dev/null\nexit\n")
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.home.cleanup()


def main():
    if sys.argv[1:] not in (["check"], ["write"]):
        sys.exit(__doc__)
    subprocess.run(["ci/tools.sh", "helm", "kubectl", "kind"], cwd=ROOT, check=True)
    shell = Shell()

    def walk(block):
        lines = []
        for line in block.group().splitlines():
            if line.startswith("$ "):
                print(line, flush=True)
                said = shell.run(line.removeprefix("$ "))
                lines += [line] + [row.rstrip() for row in said.splitlines()]
        return "\n".join(lines) + "\n"

    text = BLOCK.sub(walk, LAB.read_text(encoding="utf-8"))
    shell.end()
    if sys.argv[1] == "write":
        LAB.write_text(text, encoding="utf-8")


main()
