"""What a figure was measured on. No host names, no paths."""

import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness.postgres import programs
from benchmarks.harness.processes import PROJECT


def facts() -> Mapping[str, str]:
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory GiB": str(round(_memory_bytes() / 2**30)),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "PostgreSQL": _postgres(),
        "commit": _commit(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _postgres() -> str:
    found = programs()
    return (
        _said(str(found / "postgres"), "--version").rsplit(" ", 1)[-1].rstrip(")")
        if found
        else "-"
    )


def _commit() -> str:
    if not shutil.which("git"):
        return "-"
    changed = _said("git", "status", "--porcelain", "--untracked-files=no")
    commit = _said("git", "rev-parse", "--short", "HEAD")
    return f"{commit} and changes" if changed else commit or "-"


def _said(*command: str) -> str:
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
