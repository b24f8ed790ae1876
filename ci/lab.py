#!/usr/bin/env python3
"""Runs the commands of the documents as they are printed, in their order, in one shell for each document.

    ci/lab.py check         docs/lab.md: fails at the first command that fails, or whose output differs
    ci/lab.py write         docs/lab.md: writes the output of each command into it
    ci/lab.py rendered      docs/lab.md: compares only the YAML that Helm renders
    ci/lab.py quickstarts   the quick starts of README.md and charts/ssd/README.md, and the chart's notes

Commands are in blocks marked `console`. In docs/lab.md a command is a line that begins with "$ ", and its output is the
lines up to the next command. Names, addresses, times and sizes that differ between runs are not compared. The script
needs the cluster of `make cluster` without a release named ssd, except for `rendered`. It uses a kubeconfig of its own.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAB = ROOT / "docs" / "lab.md"
QUICK_STARTS = [ROOT / "README.md", ROOT / "charts" / "ssd" / "README.md"]
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
# A command in the chart's notes.
NOTE = re.compile(r"^ +((?:kubectl |helm |curl |[A-Z]+=).*)", re.MULTILINE)
HELM = ".tools/bin/helm"
SET_PATH = "export PATH=$PWD/.tools/bin:$PATH"
TOOLS = ["helm", "kubectl", "kind"]
NOT_ON_PATH = "#!/bin/sh\necho \"$0: no command before this one has put the program on PATH\" >&2\nexit 127\n"
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
# Only a slow cluster prints these lines: it waits, and probes a server that is not ready.
WAITING = re.compile(r"^(?:Waiting for .*|.*\"route\":\"/readyz\".*)\n", re.MULTILINE)

# zsh, macOS' shell, passes a typed comment to the program as arguments.
COMMENT = re.compile(r"^.*(?:^|\s)#(?:\s.*)?$", re.MULTILINE)


class Failed(Exception):
    """A command failed, or its output differs."""


class Shell:
    """One bash for all commands, so that variables and background jobs stay."""

    def __init__(self, home):
        programs = pathlib.Path(home, "bin")
        programs.mkdir(exist_ok=True)
        for tool in TOOLS:
            (programs / tool).write_text(NOT_ON_PATH, encoding="ascii")
            (programs / tool).chmod(0o755)
        # Without the variables of a `make` that runs this script: its own make would name its folder.
        outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-o", "pipefail"],
            cwd=ROOT,
            env={**outer, "KUBECONFIG": f"{home}/kubeconfig", "PATH": f"{programs}:{outer['PATH']}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )

    def run(self, command):
        """Runs `command`; returns its output without empty lines at its ends."""
        print("$", command, flush=True)
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
        return text

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Ends the shell and its background jobs."""
        if self.process.poll() is None:
            self.process.stdin.write("kill $(jobs -p) 2>/dev/null\nexit\n")
            self.process.stdin.close()
            self.process.wait(timeout=TIMEOUT)


def comparable(text):
    """`text` without the parts that differ between runs."""
    text = WAITING.sub("", text + "\n")
    for pattern, name in VARIES:
        text = pattern.sub(name, text)
    return REPEATED.sub(r"\1", text + "\n").strip()


def walk(shell, compare, only=""):
    """Runs the commands of the lab that begin with `only`; returns its text with their output."""

    def block(match):
        lines = []
        commands = re.split(r"^\$ ", match.group(), flags=re.MULTILINE)[1:]
        for command, _, written in (each.partition("\n") for each in commands):
            output = shell.run(command) if command.startswith(only) else written
            if compare and comparable(output) != comparable(written):
                raise Failed(f"the output of {command}\nis\n{output}\nbut docs/lab.md has\n{written}")
            lines += [f"$ {command}", *output.splitlines()]
        return "\n".join(lines) + "\n"

    return BLOCK.sub(block, LAB.read_text(encoding="utf-8"))


def run_all(home, commands):
    """Runs `commands` in a new shell, and returns their outputs."""
    with Shell(home) as shell:
        return [shell.run(command) for command in commands]


def quick_start(document):
    """The commands of the first block of `document` that creates the cluster."""
    blocks = BLOCK.findall(document.read_text(encoding="utf-8"))
    block = next(block for block in blocks if "make cluster" in block)
    return [line.removeprefix("$ ") for line in block.splitlines() if line]


def find_cat(home, commands):
    """Runs `commands` in a new shell. Those that send the picture must get the label of the cat in it."""
    outputs = run_all(home, commands)
    responses = [output for command, output in zip(commands, outputs) if "/predict" in command]
    if not responses or not all('"label":"cat"' in response for response in responses):
        raise Failed("these commands do not find the cat:\n" + "\n".join(commands + responses))


def run_quick_starts(home):
    """Runs each quick start, and after the first one the commands of the chart's notes."""
    for document in QUICK_STARTS:
        find_cat(home, quick_start(document))
        if document == QUICK_STARTS[0]:
            [notes] = run_all(home, [f"{HELM} get notes ssd"])
            find_cat(home, [SET_PATH, *NOTE.findall(notes.replace("\\\n", ""))])
        run_all(home, [f"{HELM} uninstall ssd --wait"])


def refuse_comments():
    for document in [LAB, *QUICK_STARTS]:
        for block in BLOCK.findall(document.read_text(encoding="utf-8")):
            if found := COMMENT.search(block):
                raise Failed(f"{document} has a comment between its commands: {found.group()}")


def compare_rendered(home):
    with Shell(home) as shell:
        shell.run(SET_PATH)
        walk(shell, compare=True, only="rendered")


def main():
    if sys.argv[1:] not in (["check"], ["write"], ["rendered"], ["quickstarts"]):
        sys.exit(__doc__)
    tools = ["helm"] if sys.argv[1] == "rendered" else TOOLS
    subprocess.run(["ci/tools.sh", *tools], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as home:
        try:
            refuse_comments()
            if sys.argv[1] == "rendered":
                compare_rendered(home)
                return
            run_all(home, [
                ".tools/bin/kind export kubeconfig --name ssd 2>/dev/null",
                f"! {HELM} status ssd >/dev/null 2>&1 || {{ echo 'there is a release named ssd'; false; }}",
                # They outlive their release.
                ".tools/bin/kubectl delete pods -l app.kubernetes.io/component=test,app.kubernetes.io/instance=ssd",
            ])
            try:
                if sys.argv[1] == "quickstarts":
                    run_quick_starts(home)
                else:
                    with Shell(home) as shell:
                        text = walk(shell, compare=sys.argv[1] == "check")
            finally:
                run_all(home, [f"{HELM} uninstall ssd --ignore-not-found --wait >/dev/null 2>&1"])
        except Failed as failure:
            sys.exit(f"ci/lab.py: {failure}")
    if sys.argv[1] == "write":
        LAB.write_text(text, encoding="utf-8")


main()
