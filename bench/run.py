#!/usr/bin/env python3
"""The scorecard: modeld beside nginx, bare C programs and the engine itself, in the same run.

usage: bench/run.py [--build build/release] [--rounds 5] [--seconds 1] [--case WORD]...
                    [--json FILE] [--markdown FILE] [--list]

Installs what it needs (tools/install_packages.sh bench), builds release, and prints one line for
each case, then those whose goal was missed. Servers have CPU 0, the load generator CPU 1. Rounds of
modeld and of what it is compared with alternate; figures are medians, ratios are taken within a
round. CPU for each request is the server process's own, all its threads: the steady figure on a
machine that does other things too. --case runs the cases whose name contains the word; --markdown
renews the section of results in a page such as docs/benchmarks.md.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

from cases import CASES, ROOT, Bench
from grpc_cases import GRPC_CASES
from scheduling_cases import SCHEDULING_CASES

RESULTS = "## Results\n\n"


def line(row):
    unit, sign = row["unit"], ">=" if row["at_least"] else "<="
    goal = "" if row["goal"] is None else f"{sign} {row['goal']:g}"
    verdict = {True: "ok", False: "MISSED", None: ""}[row["met"]]
    return f"{row['case']:50} {row['figure']:9.3f} {unit:12} {goal:8} {verdict:6}  {row['details']}"


def prepare(build):
    for command in (["tools/install_packages.sh", "build", "bench"], ["tools/fetch_onnxruntime.sh"],
                    ["tools/fetch_models.sh", "--with-minilm"], ["tools/fetch_yyjson.sh"],
                    ["cmake", "--preset", build],
                    ["cmake", "--build", "--preset", build, "--target", "all", "bench_json_reference",
                     "bench_grpc_echo", "bench_grpc_load"]):
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}")


def machine():
    cpu = next(l for l in open("/proc/cpuinfo") if l.startswith("model name")).split(":")[1].strip()
    kernel = platform.release().split("-")[0]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return (f"{os.cpu_count()} x {cpu}, Linux {kernel}; {datetime.date.today()}; commit "
            f"{commit.stdout.strip() or 'unknown'}; load average before {os.getloadavg()[0]:.1f}")


def markdown(rows, about, before):
    """The page with its section of results renewed."""
    text = before.split(RESULTS)[0] + RESULTS + f"`bench/run.py {' '.join(sys.argv[1:])}` on {about}.\n\n"
    text += "| case | measured | goal | | figures |\n|---|---|---|---|---|\n"
    for row in rows:
        goal = "" if row["goal"] is None else f"{'≥' if row['at_least'] else '≤'} {row['goal']:g}"
        verdict = {True: "ok", False: "**missed**", None: ""}[row["met"]]
        figure = f"{row['figure']:.3g} {row['unit']}"
        text += f"| {row['case']} | {figure} | {goal} | {verdict} | {row['details']} |\n"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--case", action="append", default=[])
    parser.add_argument("--json")
    parser.add_argument("--markdown")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    cases = [case for case in (*CASES, *GRPC_CASES, *SCHEDULING_CASES)
             if not options.case or any(word in case.__name__ for word in options.case)]
    if options.list:
        return print("\n".join(case.__name__ for case in cases))
    prepare(pathlib.Path(options.build).name)
    about, folder = machine(), pathlib.Path(tempfile.mkdtemp(prefix="modeld-bench-"))
    bench = Bench(options, folder, lambda row: print(line(row), flush=True))
    try:
        for case in cases:
            case(bench)
    finally:
        bench.stop()
        shutil.rmtree(folder)
    missed = [row["case"] for row in bench.rows if row["met"] is False]
    print(f"{len(bench.rows)} rows, {len(missed)} missed{': ' if missed else ''}{'; '.join(missed)}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"about": about, "rows": bench.rows}, indent=1))
    if options.markdown:
        page = pathlib.Path(options.markdown)
        page.write_text(markdown(bench.rows, about, page.read_text() if page.is_file() else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
