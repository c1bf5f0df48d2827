"""testssl.sh against both ports with TLS: no finding above LOW."""
import json, shutil, subprocess

import pytest
from field import secure  # noqa: F401 (fixture)

pytestmark = pytest.mark.skipif(shutil.which("testssl") is None, reason="Debian's testssl.sh is not installed")
# That nobody vouches for the certificate, which the test made itself; what a web site should say; marks.
OTHERS = ("cert_chain_of_trust", "cert_trust", "cert_revocation", "HSTS", "security_headers", "overall_grade",
          "grade_cap_reason", "final_score")
CHECKS = ("--protocols", "--std", "--fs", "--server-preference", "--server-defaults", "--header",
          "--vulnerable")


@pytest.mark.parametrize("port", ["https_port", "grpc_port"])
def test_findings(secure, tmp_path, port):
    report = tmp_path / "report.json"
    done = subprocess.run(["testssl", "--warnings", "off", "--color", "0", "--quiet", "--nodns", "none", *CHECKS,
                           "--jsonfile", str(report), f"127.0.0.1:{getattr(secure, port)}"],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)
    findings = json.loads(report.read_text())
    assert len(findings) > 50, done.stdout
    bad = [(f["id"], f["severity"], f["finding"]) for f in findings
           if f["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")
           and not f["id"].startswith(OTHERS)]
    assert not bad
    offered = {f["id"]: f["finding"] for f in findings}
    assert offered["TLS1_3"].startswith("offered") and offered["TLS1_2"].startswith("offered")
    assert offered["ALPN_HTTP2"] == "h2"
