"""Who may call what: restricted groups of APIs, and how what changes the server is reached."""
import re, signal, subprocess

import pytest
from conftest import ROOT, Server, request

PAGE = {"Origin": "http://example.org"}
CHANGES = [("GET", "/v2/drain"), ("POST", "/v2/drain"), ("POST", "/v2/logging"),
           ("POST", "/v2/repository/models/batched/load"), ("POST", "/v2/repository/models/batched/unload")]


@pytest.fixture(scope="module")
def closed(repository):
    """As started by default, but for two groups."""
    s = Server(repository, "--http-restricted-api=inference,model-config:infer-key=s3cret",
               "--http-restricted-api=statistics:admin-key=other")
    yield s
    assert s.stop() == 0


@pytest.mark.parametrize("method,path", CHANGES)
@pytest.mark.parametrize("headers", [{}, PAGE, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"},
                                     {"Authorization": "Bearer "}], ids=str)
def test_loopback_is_nobody(closed, method, path, headers):
    r = closed.request(method, path, b"{}", headers)
    assert r.status == 403 and "--http-unix-socket" in r.json()["error"] and "--management=" in r.json()["error"]
    assert closed.get("/v2/health/ready").status == 200


def test_what_only_reads_is_open(closed):
    assert closed.get("/v2/logging").status == 200
    assert closed.request("POST", "/v2/repository/index", b"").status == 200


def test_unix_socket_may_change_the_server(closed):
    assert closed.manage("POST", "/v2/logging", {"log_verbose_level": 0}).status == 200
    assert request(closed.unix_path, "POST", "/v2/logging", b"{}", PAGE).status == 403  # through a proxy, that is


def test_key(start, repository, tmp_path):
    key = tmp_path / "key"
    key.write_text("k3y\n")
    key.chmod(0o600)
    s = start(repository, "--management=key", f"--management-key-file={key}")
    assert "may read" not in s.log()
    for headers in ({}, {"Authorization": "Bearer k3"}, {"Authorization": "Bearer k3yk3y"}, {"Authorization": "k3y"}):
        assert s.request("POST", "/v2/logging", b"{}", headers).status == 403
    assert "--management-key-file" in s.manage("GET", "/v2/drain").json()["error"]
    assert s.request("POST", "/v2/logging", b"{}", {"Authorization": "Bearer k3y", **PAGE}).status == 200
    assert s.get("/v2/drain", headers={"authorization": "bearer k3y"}).status == 200
    assert s.process.wait(10) == 0


def test_key_file(start, repository, tmp_path):
    key = tmp_path / "key"
    key.write_text("\n")
    for words in ("must hold the key on one line", "cannot open"):
        s = start(repository, "--management=key", f"--management-key-file={key}", wait=False)
        assert s.process.wait(10) != 0 and words in s.log()
        key.unlink(missing_ok=True)
    key.write_text("k3y")
    key.chmod(0o644)
    s = start(repository, "--management=key", f"--management-key-file={key}")
    assert f"everybody on this machine may read or change {key}" in s.log()
    assert s.request("POST", "/v2/logging", b"{}", {"Authorization": "Bearer k3y"}).status == 200


def test_open_is_the_default_of_the_field(start, repository):
    s = start(repository, "--compat=triton", "--http-address=127.0.0.1", "--metrics-address=127.0.0.1")
    assert s.request("POST", "/v2/logging", b"{}", headers=PAGE).status == 200
    assert "--management=open" in s.log()
    assert s.get("/v2/drain", headers=PAGE).status == 200


# --- restricted groups


@pytest.mark.parametrize("method,path,key", [
    ("POST", "/v2/models/batched/infer", "infer-key"), ("POST", "/v2/models/batched/versions/3/infer", "infer-key"),
    ("POST", "/v2/models/batched/generate", "infer-key"), ("GET", "/v2/models/batched/config", "infer-key"),
    ("GET", "/v2/models/batched/stats", "admin-key"), ("GET", "/v2/models/stats", "admin-key")])
def test_restricted_group(closed, method, path, key):
    body = b"{}" if method == "POST" else None
    secret, other = ("s3cret", "other") if key == "infer-key" else ("other", "s3cret")
    for headers in ({}, {key: other}, {key: secret[:-1]}, {key: secret + "x"}, {key: ""}):
        r = closed.request(method, path, body, headers)
        assert r.status == 403 and r.json() == {"error": f"This API is restricted, expecting header '{key}'"}
    assert closed.request(method, path, body, {key.title(): secret}).status != 403
    assert request(closed.unix_path, method, path, body).status == 403, "a group is closed on every listener"


def test_other_groups_stay_open(closed):
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/batched", "/v2/models/batched/ready",
                 "/v2/logging"):
        assert closed.get(path).status == 200, path


def test_refused_before_the_body_is_sent(closed):
    r = closed.raw(b"POST /v2/models/batched/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n"
                   b"Expect: 100-continue\r\n\r\n")
    assert r.status == 403 and r.headers["connection"] == "close"


def test_client_that_knows_the_key(closed):
    http = pytest.importorskip("tritonclient.http")
    import numpy as np
    tensor = http.InferInput("INPUT0", [1], "FP32")
    tensor.set_data_from_numpy(np.ones(1, np.float32))
    with http.InferenceServerClient(f"127.0.0.1:{closed.port}") as c:
        with pytest.raises(Exception, match="This API is restricted, expecting header 'infer-key'"):
            c.infer("identity_fp32", [tensor])
        assert c.infer("identity_fp32", [tensor], headers={"infer-key": "s3cret"}).as_numpy("OUTPUT0")[0] == 1


@pytest.mark.parametrize("flags,says", [
    (["--http-restricted-api=helth:k=hush"], "unknown group 'helth', did you mean 'health'?"),
    (["--http-restricted-api=health:k=hush", "--http-restricted-api=trace,health:k=hush"], "the group 'health' twice"),
    (["--grpc-restricted-protocol=health"], "must be GROUP[,GROUP...]:KEY=VALUE")])
def test_wrong_restrictions_end_the_start(start, repository, flags, says):
    s = start(repository, *flags, wait=False)
    assert s.process.wait(10) == 2 and says in s.log() and "hush" not in s.log()


# --- over gRPC


@pytest.fixture(scope="module")
def rpc():
    return pytest.importorskip("tritonclient.grpc")


def fails(call, code, words):
    with pytest.raises(Exception) as raised:
        call()
    assert raised.value.status() == f"StatusCode.{code}" and words in raised.value.message(), raised.value


def test_restricted_protocol(start, repository, rpc):
    s = start(repository, "--grpc-restricted-protocol=inference,model-config:k=s3cret")
    import numpy as np
    tensor = rpc.InferInput("INPUT0", [1], "FP32")
    tensor.set_data_from_numpy(np.ones(1, np.float32))
    with rpc.InferenceServerClient(f"127.0.0.1:{s.port}") as c:
        words = "This protocol is restricted, expecting header 'triton-grpc-protocol-k'"
        for headers in (None, {"k": "s3cret"}, {"triton-grpc-protocol-k": "s3cre"}):
            fails(lambda: c.infer("identity_fp32", [tensor], headers=headers), "UNAVAILABLE", words)
            fails(lambda: c.get_model_config("batched", headers=headers), "UNAVAILABLE", words)
        headers = {"triton-grpc-protocol-k": "s3cret"}
        assert c.infer("identity_fp32", [tensor], headers=headers).as_numpy("OUTPUT0")[0] == 1
        assert c.get_model_config("batched", headers=headers).config.name == "batched"
        assert c.get_server_metadata().name == "modeld" and c.is_server_ready()
    assert s.get("/v2/models/batched/config").status == 200, "each protocol has its own option"


def test_management_over_grpc(start, repository, rpc):
    """Loopback is nobody here, too; the unix socket speaks gRPC."""
    s = start(repository)
    with rpc.InferenceServerClient(f"127.0.0.1:{s.port}") as c:
        fails(lambda: c.update_log_settings({"log_verbose_level": 1}), "UNAVAILABLE", "--http-unix-socket")
        fails(lambda: c.load_model("batched"), "UNAVAILABLE", "--http-unix-socket")
        assert c.get_log_settings(as_json=True)["settings"]["log_verbose_level"] == {"uint32_param": 0}
    with rpc.InferenceServerClient(f"unix:{s.unix_path}") as c:
        settings = c.update_log_settings({"log_verbose_level": 1}, as_json=True)["settings"]
        assert settings["log_verbose_level"] == {"uint32_param": 1}


def test_key_over_grpc(start, repository, rpc, tmp_path):
    key = tmp_path / "key"
    key.write_text("k3y")
    key.chmod(0o600)
    s = start(repository, "--management=key", f"--management-key-file={key}")
    with rpc.InferenceServerClient(f"127.0.0.1:{s.port}") as c:
        change = {"log_verbose_level": 1}
        fails(lambda: c.update_log_settings(change), "UNAVAILABLE", "--management-key-file")
        fails(lambda: c.update_log_settings(change, headers={"authorization": "Bearer k3"}), "UNAVAILABLE", "key")
        c.update_log_settings(change, headers={"authorization": "Bearer k3y"})


# --- what the docs say


def test_prestop_hook_of_the_docs(start, repository):
    """The command of docs/access.md, with the socket of this server."""
    text = (ROOT / "docs/access.md").read_text()
    command = re.search(r'command: \[(.*curl.*)\]', text).group(1)
    words = [w.strip().strip('"') for w in command.split(",")]
    socket_path = re.search(r"--http-unix-socket=(\S+)", text).group(1)
    assert socket_path in words
    s = start(repository, "--drain-delay-secs=1")
    out = subprocess.run([s.unix_path if w == socket_path else w for w in words], capture_output=True, timeout=30)
    assert out.returncode == 0, out
    assert s.get("/v2/health/ready").status == 503
    s.process.send_signal(signal.SIGTERM)  # as the kubelet does once the hook has ended
    assert s.process.wait(10) == 0


def test_calls_of_the_docs(start, repository, tmp_path):
    """Every curl of docs/access.md but the hook: with this server's ports, socket and key."""
    key = tmp_path / "key"
    key.write_text("k3y")
    key.chmod(0o600)
    text = (ROOT / "docs/access.md").read_text()
    calls = [line for line in text.splitlines() if line.startswith("curl ")]
    assert len(calls) >= 3
    servers = {"unix": start(repository, "--http-restricted-api=model-config,statistics:admin-key=s3cret"),
               "key": start(repository, "--management=key", f"--management-key-file={key}")}
    for call in calls:
        s = servers["key" if "Bearer" in call else "unix"]
        call = call.replace("localhost:8000", f"127.0.0.1:{s.port}").replace("/run/modeld/http.sock", s.unix_path)
        call = call.replace("/etc/modeld/key", str(key)).replace("/models/M/", "/models/batched/")
        out = subprocess.run(["bash", "-c", call.replace("curl ", "curl -f ", 1)], capture_output=True, text=True, timeout=30)
        assert out.returncode == 0, (call, out)
