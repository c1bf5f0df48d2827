"""h2spec's cases against both ports and one with TLS, each case a test of its own."""
import re, subprocess, xml.etree.ElementTree

import pytest
from field import ours, secure  # noqa: F401 (fixtures)
from tools import needs, run, tool

pytestmark = needs("h2spec")
GROUPS = {"Generic": "generic", "Hypertext": "http2", "HPACK": "hpack"}
COUNT = 145  # of version 2.2.1


def cases():
    """(package, title) of all cases, as its dry run lists them."""
    listed = subprocess.run([tool("h2spec"), "--dryrun"], capture_output=True, text=True).stdout
    group, section, found = "", "", []
    for line in listed.splitlines():
        if match := re.match(r"(\w+)", line):
            group = GROUPS[match[1]]
        elif match := re.match(r" +([\d.]+)\. ", line):
            section = match[1]
        elif match := re.match(r" +\d+: (.*)", line):
            found.append((f"{group}/{section}", match[1]))
    return found


CASES = cases() if tool("h2spec") else []


@pytest.fixture(scope="module", params=[("ours", "port"), ("ours", "grpc_port"), ("secure", "https_port")],
                ids=" ".join)
def verdicts(request, tmp_path_factory):
    """{case: what is wrong with it, or ''}"""
    name, port = request.param
    report = tmp_path_factory.mktemp("h2spec") / "report.xml"
    run("h2spec", "-h", "127.0.0.1", "-p", getattr(request.getfixturevalue(name), port), "-P",
        "/v2/models/pair/config", "-o", "2", "-j", report, *(("-t", "-k") if name == "secure" else ()), timeout=600)
    return {(case.get("package"), case.get("classname")): "".join(
        f"{part.tag} {part.text}" for part in case if part.tag != "system-out")
        for case in xml.etree.ElementTree.parse(report).iter("testcase")}


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_case(verdicts, case):
    assert verdicts[case] == ""


def test_all_cases_were_listed(verdicts):
    assert set(verdicts) == set(CASES) and len(CASES) == COUNT
