"""TLS on the listeners: versions, certificates and their renewal, bad clients, memory. Certificates are made by `openssl`."""
import contextlib, json, os, pathlib, queue, shutil, signal, socket, ssl, struct, subprocess, threading, time

import numpy
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as http
from conftest import BUILD, SANITIZED, Server, free_port, read_response
from tritonclient.utils import InferenceServerException

GOOD = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[3],"data":[1,2,3]}]}'
INFER = (b"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(GOOD), GOOD)
MIB = 1 << 20


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class Authority:
    """Signs certificates: each is a file `NAME.pem` with a key `NAME.key`."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = folder, name
        self.root = folder / f"{name}.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 30, "-subj",
                f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", self.root)

    def issue(self, name, days=20, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        base = self.folder / name
        base.with_suffix(".ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl("req", "-new", "-newkey", *key, "-nodes", "-subj", f"/CN={name}", "-keyout", base.with_suffix(".key"),
                "-out", base.with_suffix(".csr"))
        openssl("x509", "-req", "-in", base.with_suffix(".csr"), "-CA", self.root, "-CAkey",
                self.folder / f"{self.name}.key", "-CAcreateserial", "-days", days, "-extfile", base.with_suffix(".ext"),
                "-out", base.with_suffix(".pem"))
        return base.with_suffix(".pem")


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("tls"))
    authority.issue("server")
    authority.issue("other")
    authority.issue("client")
    return authority


def client_context(ca, certificate=None, low=None, high=None):
    context = ssl.create_default_context(cafile=ca.root)
    if certificate:
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    if low:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = low
    if high:
        context.maximum_version = high
    return context


class TlsServer(Server):
    """Speaks TLS on its HTTP port; requests go through `context`."""

    def __init__(self, repository, ca, *flags, certificate=None, context=None, **kw):
        self.context = context or client_context(ca)
        certificate = certificate or ca.folder / "server.pem"
        super().__init__(repository, "--http-use-ssl=true", f"--http-server-cert={certificate}",
                         f"--http-server-key={certificate.with_suffix('.key')}", *flags, **kw)

    def tls(self, context=None, session=None, port=None):
        s = socket.create_connection(("127.0.0.1", port or self.port), 60)
        try:
            return (context or self.context).wrap_socket(s, server_hostname="localhost", session=session)
        except BaseException:
            s.close()
            raise

    def request(self, method, path, body=None, headers=None, port=None, context=None):
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        if body is not None:
            head += f"Content-Length: {len(body)}\r\n"
        with self.tls(context, port=port) as s:
            s.sendall(head.encode() + b"\r\n" + (body or b""))
            return read_response(s.makefile("rb"), method == "HEAD")


@pytest.fixture
def serve(repository, ca):
    """Starts servers with TLS that must end well."""
    servers = []

    def starter(*flags, **kw):
        servers.append(TlsServer(kw.pop("models", repository), kw.pop("ca", ca), *flags, **kw))
        return servers[-1]

    yield starter
    for s in servers:
        assert s.stop() == 0, s.log()[-4000:]


@pytest.fixture(scope="module")
def server(repository, ca):
    s = TlsServer(repository, ca, "--metrics-use-ssl=true", "--log-verbose=1", "--http-header-timeout-secs=2",
                  "--http-max-input-size=128M")
    yield s
    assert s.stop() == 0, s.log()[-4000:]


def ask(s, close=False):
    """One inference on a connection."""
    s.sendall(INFER[0] + (b"Connection: close\r\n" if close else b"") + b"\r\n" + INFER[1])
    r = read_response(s.makefile("rb"))
    assert r.status == 200 and r.json()["outputs"][0]["data"] == [1, 2, 3], r


def serial(s):
    return s.getpeercert()["serialNumber"]


# Versions and names

@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_versions_that_are_spoken(server, ca, version):
    number = ssl.TLSVersion[version]
    with server.tls(client_context(ca, low=number, high=number)) as s:
        assert s.version() == version.replace("_", ".")
        assert "GCM" in s.cipher()[0] or "CHACHA" in s.cipher()[0]
        for _ in range(3):
            ask(s)


def test_old_versions_are_refused(server, ca):
    with pytest.raises(ssl.SSLError, match="protocol version|PROTOCOL_VERSION"):
        server.tls(client_context(ca, low=ssl.TLSVersion.TLSv1, high=ssl.TLSVersion.TLSv1_1))


def test_min_version_13(serve, ca):
    s = serve("--tls-min-version=1.3")
    with pytest.raises(ssl.SSLError):
        s.tls(client_context(ca, high=ssl.TLSVersion.TLSv1_2))
    with s.tls() as c:
        assert c.version() == "TLSv1.3"


def test_weak_ciphers_are_refused(server, ca):
    """No forward secrecy, CBC."""
    for cipher in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256"):
        context = client_context(ca, high=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(cipher)
        with pytest.raises(ssl.SSLError):
            server.tls(context)


@pytest.mark.parametrize("offered, chosen", [(["http/1.1"], "http/1.1"), (["x", "http/1.1"], "http/1.1"), (None, None),
                                             (["h2"], "h2"), (["http/1.1", "h2"], "h2")])
def test_alpn(server, ca, offered, chosen):
    context = client_context(ca)
    if offered:
        context.set_alpn_protocols(offered)
    with server.tls(context) as s:
        assert s.selected_alpn_protocol() == chosen
        if chosen != "h2":
            ask(s)


def test_alpn_without_a_common_protocol(server, ca):
    context = client_context(ca)
    context.set_alpn_protocols(["spdy/3"])
    with pytest.raises(ssl.SSLError):
        server.tls(context)


@pytest.mark.parametrize("version, flag", [("1.1", "--http1.1"), ("2", "--http2"), ("2", "--http2-prior-knowledge")])
def test_curl(server, ca, tmp_path, version, flag):
    body, headers, data = tensor_request(MIB)
    (tmp_path / "body").write_bytes(body)
    done = subprocess.run(["curl", "-sS", flag, "--cacert", ca.root, "--data-binary", f"@{tmp_path / 'body'}", "-H",
                           f"Inference-Header-Content-Length: {headers['Inference-Header-Content-Length']}", "-o",
                           tmp_path / "answer", "-w", "%{http_code} %{http_version} %{ssl_verify_result}",
                           f"https://localhost:{server.port}/v2/models/identity_fp32/infer"], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (f"200 {version} 0", 0), done.stderr
    assert (tmp_path / "answer").read_bytes().endswith(data)


def test_tritonclient(mutual, ca):
    """The field's client, with a certificate of its own, as docs/tls.md has it."""
    client = http.InferenceServerClient(f"localhost:{mutual.port}", ssl=True,
                                        ssl_context_factory=lambda: client_context(ca, ca.folder / "client.pem"))
    tensor = http.InferInput("INPUT0", [200000], "FP32")
    values = numpy.arange(200000, dtype=numpy.float32)
    tensor.set_data_from_numpy(values)
    assert (client.infer("identity_fp32", [tensor]).as_numpy("OUTPUT0") == values).all()
    client.close()


def test_metrics_with_the_certificate_of_http(server):
    r = server.request("GET", "/metrics", port=server.metrics_port)
    assert r.status == 200 and b"nv_inference_count" in r.body


def test_chain_is_sent_whole(serve, ca):
    """A client that knows the root alone accepts a certificate of an authority in between."""
    folder = ca.folder / "chain"
    folder.mkdir()
    between = Authority(folder, "between")
    openssl("req", "-new", "-key", folder / "between.key", "-subj", "/CN=between", "-out", folder / "between.csr")
    (folder / "between.ext").write_text("basicConstraints=critical,CA:TRUE\n")
    openssl("x509", "-req", "-in", folder / "between.csr", "-CA", ca.root, "-CAkey", ca.folder / "ca.key", "-CAcreateserial",
            "-days", 20, "-extfile", folder / "between.ext", "-out", between.root)
    leaf = between.issue("leaf")
    leaf.write_text(leaf.read_text() + between.root.read_text())
    with serve(certificate=leaf).tls() as s:
        ask(s)


def test_rsa_certificate(serve, ca):
    s = serve(certificate=ca.issue("rsa", key=("rsa:2048",)))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with s.tls(client_context(ca, low=version, high=version)) as c:
            ask(c)


# gRPC

@pytest.fixture(scope="module", params=["plain", "mutual"])
def calls(request, repository, ca):
    """A server with TLS on its gRPC port; credentials of a client that it takes."""
    mutual = request.param == "mutual"
    flags = [f"--grpc-root-cert={ca.root}", "--grpc-use-ssl-mutual=true"] if mutual else ["--grpc-use-ssl=true"]
    s = Server(repository, *flags, f"--grpc-server-cert={ca.folder / 'server.pem'}",
               f"--grpc-server-key={ca.folder / 'server.key'}")
    own = {"private_key": str(ca.folder / "client.key"), "certificate_chain": str(ca.folder / "client.pem")} if mutual else {}
    yield s, {"ssl": True, "root_certificates": str(ca.root), **own}
    assert s.stop() == 0, s.log()[-4000:]


def grpc_input(elements):
    values = numpy.arange(elements, dtype=numpy.float32)
    tensor = triton_grpc.InferInput("INPUT0", [elements], "FP32")
    tensor.set_data_from_numpy(values)
    return tensor, values


@pytest.mark.parametrize("elements", [3, 5000, 2 * MIB])
def test_grpc_inference(calls, elements):
    s, credentials = calls
    tensor, values = grpc_input(elements)
    with triton_grpc.InferenceServerClient(f"localhost:{s.grpc_port}", **credentials) as client:
        for _ in range(3):
            assert (client.infer("identity_fp32", [tensor]).as_numpy("OUTPUT0") == values).all()


def test_grpc_stream(calls):
    s, credentials = calls
    answers = queue.Queue()
    tensor, values = grpc_input(100000)
    with triton_grpc.InferenceServerClient(f"localhost:{s.grpc_port}", **credentials) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for _ in range(20):
            client.async_stream_infer("identity_fp32", [tensor])
        for _ in range(20):
            result, error = answers.get(timeout=60)
            assert error is None, (error.status(), error.message())
            assert (result.as_numpy("OUTPUT0") == values).all()
        client.stop_stream()


def test_grpc_strangers(calls, ca, tmp_path):
    s, credentials = calls
    stranger = Authority(tmp_path, "stranger")
    refused_ones = [{"ssl": True, "root_certificates": str(stranger.root)}, {"ssl": False}]
    if "private_key" in credentials:
        refused_ones.append({"ssl": True, "root_certificates": str(ca.root)})
    for wrong in refused_ones:
        with triton_grpc.InferenceServerClient(f"localhost:{s.grpc_port}", **wrong) as client:
            with pytest.raises(InferenceServerException) as error:
                client.is_server_live(client_timeout=20)
            assert "UNAVAILABLE" in error.value.status(), error.value


# Clients' certificates

@pytest.fixture(scope="module")
def mutual(repository, ca):
    s = TlsServer(repository, ca, "--http-use-ssl-mutual=true", f"--http-root-cert={ca.root}",
                  context=client_context(ca, ca.folder / "client.pem"))
    yield s
    assert s.stop() == 0, s.log()[-4000:]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_mutual_with_a_certificate(mutual, ca, version):
    number = ssl.TLSVersion[version]
    with mutual.tls(client_context(ca, ca.folder / "client.pem", low=number, high=number)) as s:
        ask(s)


def refused(s, context):
    """In TLS 1.3 the client's handshake is over before the server has looked at its certificate."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        with s.tls(context) as c:
            c.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert c.recv(1) == b"", "it was answered"
            raise ConnectionError("closed")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_mutual_without_a_certificate(mutual, ca, version):
    number = ssl.TLSVersion[version]
    refused(mutual, client_context(ca, low=number, high=number))


def test_mutual_with_a_stranger_certificate(mutual, ca, tmp_path):
    stranger = Authority(tmp_path, "stranger").issue("client")
    refused(mutual, client_context(ca, stranger))


def test_mutual_with_an_expired_certificate(mutual, ca):
    refused(mutual, client_context(ca, ca.issue("late", days=-1)))


def test_client_that_does_not_trust_us(server, tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError):
        server.tls(client_context(Authority(tmp_path, "stranger")))
    with server.tls() as s:
        ask(s)


@pytest.mark.parametrize("fixture", ["server", "mutual"])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_sessions_are_resumed(request, ca, fixture, version):
    s, number = request.getfixturevalue(fixture), ssl.TLSVersion[version]
    context = client_context(ca, ca.folder / "client.pem", low=number, high=number)
    with s.tls(context) as c:
        assert not c.session_reused
        ask(c)  # tickets of 1.3 come with the first answer
        session = c.session
    for _ in range(2):
        with s.tls(context, session) as c:
            assert c.session_reused
            ask(c)


# Renewal

@pytest.fixture
def renewable(serve, ca, tmp_path):
    """A server on copies of the files, and a function that puts another pair there."""
    def put(name, key=None):
        for suffix, source in ((".key", key or name), (".pem", name)):
            fresh = tmp_path / f"fresh{suffix}"
            shutil.copy((ca.folder / source).with_suffix(suffix), fresh)
            fresh.rename(tmp_path / f"live{suffix}")

    put("server")
    return serve(certificate=tmp_path / "live.pem"), put


def test_reload_by_signal(renewable):
    s, put = renewable
    with s.tls() as old:
        ask(old)
        first = serial(old)
        put("other")
        s.process.send_signal(signal.SIGHUP)
        s.wait_for("new connections get the certificate")
        with s.tls() as fresh:
            assert serial(fresh) != first
            ask(fresh)
        ask(old)  # lives on


def test_reload_when_files_change_under_load(renewable):
    s, put = renewable
    stop, counts, wrong = threading.Event(), [0], []

    def run(reconnect):
        connection = s.tls()
        while not stop.is_set():
            try:
                ask(connection, close=reconnect)
                counts[0] += 1
                if reconnect:
                    connection.close()
                    connection = s.tls()
            except Exception as error:
                wrong.append(error)
                return
        connection.close()

    threads = [threading.Thread(target=run, args=(i % 2 == 0,)) for i in range(4)]
    for t in threads:
        t.start()
    seen = []
    for i, name in enumerate(("other", "server", "other")):
        put(name)
        deadline = time.time() + 20
        while s.log().count("new connections get the certificate") < i + 1:
            assert time.time() < deadline, s.log()
            time.sleep(0.02)
        with s.tls() as c:
            seen.append(serial(c))
    stop.set()
    for t in threads:
        t.join()
    assert not wrong and counts[0] > 10
    assert seen[0] == seen[2] != seen[1]


def test_kubernetes_secret(serve, ca, tmp_path):
    """Files are links to links, and one rename swaps all of them."""
    for name in ("server", "other"):
        (tmp_path / name).mkdir()
        shutil.copy(ca.folder / f"{name}.pem", tmp_path / name / "tls.pem")
        shutil.copy(ca.folder / f"{name}.key", tmp_path / name / "tls.key")
    (tmp_path / "..data").symlink_to("server")
    for file in ("tls.pem", "tls.key"):
        (tmp_path / file).symlink_to(f"..data/{file}")
    s = serve(certificate=tmp_path / "tls.pem")
    with s.tls() as c:
        first = serial(c)
    (tmp_path / "..next").symlink_to("other")
    (tmp_path / "..next").rename(tmp_path / "..data")
    s.wait_for("new connections get the certificate", 20)
    with s.tls() as c:
        assert serial(c) != first
    assert s.log().count("new connections get") == 1


@pytest.mark.parametrize("what", ["mismatch", "garbage", "missing", "expired"])
def test_bad_renewal_is_refused(renewable, ca, what):
    s, put = renewable
    live = pathlib.Path(s.process.args[-1].split("=")[1]).with_suffix(".pem")
    with s.tls() as c:
        first = serial(c)
    if what == "mismatch":
        put("other", key="server")
    elif what == "garbage":
        live.write_text("no certificate")
    elif what == "expired":
        ca.issue("late", days=-1)
        put("late")
    else:
        live.unlink()
    s.process.send_signal(signal.SIGHUP)
    s.wait_for("stays in use")
    assert str(live) in s.log().split("stays in use")[0].splitlines()[-1]
    with s.tls() as c:
        assert serial(c) == first
        ask(c)
    put("other")  # and what is mended is taken
    s.wait_for("new connections get the certificate", 20)


# Files that cannot be used

def files_of(what, ca, folder):
    """(certificate, key, root), and what the error says."""
    good, key, root = ca.folder / "server.pem", ca.folder / "server.key", ca.root
    bad = folder / "bad.pem"
    if what == "mismatch":
        return (good, ca.folder / "other.key", root), "does not belong to the certificate in"
    if what == "swapped":
        return (key, good, root), "holds no certificate in PEM form"
    if what == "missing":
        return (bad, key, root), f"cannot open {bad}: No such file or directory"
    if what == "folder":
        return (folder, key, root), f"{folder} is not a regular file"
    if what == "expired":
        late = ca.issue("late", days=-1)
        return (late, late.with_suffix(".key"), root), "has expired on "
    if what == "encrypted":
        openssl("pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", bad)
        return (good, bad, root), "is encrypted"
    if what == "cut":
        bad.write_text(good.read_text()[:200])
        return (bad, key, root), "holds no certificate in PEM form"
    if what == "root":
        bad.write_text("nothing")
        return (good, key, bad), "holds no certificate in PEM form"
    if what == "chain":
        bad.write_text(good.read_text() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        return (bad, key, root), "holds a certificate that cannot be read, after others that can"
    if what == "weak":
        weak = ca.issue("weak", key=("rsa:1024",))
        return (weak, weak.with_suffix(".key"), root), "ee key too small"
    raise KeyError(what)


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("what", ["mismatch", "swapped", "missing", "folder", "expired", "encrypted", "cut", "root", "chain",
                                  "weak"])
def test_files_that_cannot_be_used(repository, ca, tmp_path, what, check):
    (certificate, key, root), sentence = files_of(what, ca, tmp_path)
    done = subprocess.run(
        [BUILD / "modeld", f"--model-repository={repository}", f"--http-port={free_port()}", f"--grpc-port={free_port()}",
         f"--metrics-port={free_port()}",
         "--http-use-ssl-mutual=true", f"--http-server-cert={certificate}", f"--http-server-key={key}",
         f"--http-root-cert={root}", *(["--check-config"] if check else [])], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and sentence in done.stderr, done


@pytest.mark.parametrize("flags, sentence", [
    (["--http-use-ssl=true"], "--http-use-ssl needs --http-server-cert"),
    (["--metrics-use-ssl=true"], "--metrics-use-ssl needs --metrics-server-cert"),
    (["--grpc-use-ssl=true", "--grpc-server-cert=x"], "--grpc-use-ssl needs --grpc-server-key"),
    (["--http-use-ssl-mutual=true", "--http-server-cert=x", "--http-server-key=x"],
     "--http-use-ssl-mutual needs --http-root-cert"),
    (["--tls-min-version=1.1"], "--tls-min-version"),
])
def test_options_that_need_others(repository, flags, sentence):
    done = subprocess.run([BUILD / "modeld", f"--model-repository={repository}", *flags], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 2 and sentence in done.stderr, done


# Bodies

def tensor_request(elements):
    data = (bytes(range(256)) * (elements * 4 // 256 + 1))[:elements * 4]
    head = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [elements],
                                   "parameters": {"binary_data_size": len(data)}}],
                       "parameters": {"binary_data_output": True}}).encode()
    return head + data, {"Inference-Header-Content-Length": str(len(head))}, data


@pytest.mark.parametrize("bytes_", [4, 16 * 1024, 16 * 1024 + 4, 300 * 1024, MIB, 64 * MIB])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_bodies_both_ways(server, ca, bytes_, version):
    body, headers, data = tensor_request(bytes_ // 4)
    number = ssl.TLSVersion[version]
    r = server.request("POST", "/v2/models/identity_fp32/infer", body, headers,
                       context=client_context(ca, low=number, high=number))
    assert r.status == 200, r
    assert r.body[int(r.headers["inference-header-content-length"]):] == data


def test_reader_that_is_slow(server):
    """The answer waits for it, record by record, and the connection ends in order after it."""
    body, headers, data = tensor_request(2 * MIB)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    raw.settimeout(60)
    raw.connect(("127.0.0.1", server.port))
    with server.context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as s:
        head = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        s.sendall(f"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}"
                  f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        got = b""
        while piece := s.recv(1 << 16):
            got += piece
            time.sleep(0.0005)
    assert got.endswith(data)


def test_pipelined_requests_in_one_record(server):
    """What was decrypted with the first request is answered although nothing more arrives."""
    with server.tls() as s:
        s.sendall((INFER[0] + b"\r\n" + INFER[1]) * 50)
        stream = s.makefile("rb")
        for _ in range(50):
            assert read_response(stream).status == 200


def test_byte_by_byte(server):
    with server.tls() as s:
        for byte in INFER[0] + b"\r\n" + INFER[1]:
            s.sendall(bytes([byte]))
        assert read_response(s.makefile("rb")).status == 200


def test_end_is_announced(server):
    """close_notify: so that the end of the answer is no truncation."""
    raw = socket.create_connection(("127.0.0.1", server.port), 30)
    with server.context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as s:
        s.sendall(b"GET /v2 HTTP/1.0\r\n\r\n")
        while s.recv(4096):
            pass


# Bad clients

def hello(ca):
    """What a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(ca).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def raw_connection(server, data=b""):
    s = socket.create_connection(("127.0.0.1", server.port), 30)
    s.sendall(data)
    return s


def ends(s):
    """The server closes it."""
    try:
        while s.recv(4096):
            pass
    except ConnectionError:
        pass
    s.close()


def test_handshakes_that_never_end(server, ca):
    """They are cut off after --http-header-timeout-secs, and good clients are served beside them."""
    text = hello(ca)
    begin = time.monotonic()
    slow = [raw_connection(server, text[:cut]) for cut in (0, 1, 5, 50, len(text) - 1) for _ in range(10)]
    slow += [raw_connection(server, text) for _ in range(10)]  # and never answers ours
    for _ in range(5):
        with server.tls() as s:
            ask(s)
    assert time.monotonic() - begin < 20
    for s in slow:
        ends(s)
    assert SANITIZED or time.monotonic() - begin < 15
    server.wait_for("no TLS handshake: it took too long")


@pytest.mark.parametrize("data", [b"\x00" * 100, os.urandom(1 << 16), b"\x16\x03\x01\xff\xff" + b"x" * 70000,
                                  b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", b"\x15\x03\x03\x00\x02\x02\x28",
                                  b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"SSH-2.0-x\r\n"],
                         ids=["zeros", "noise", "long record", "empty hello", "alert", "http2", "ssh"])
def test_garbage(server, data):
    s = socket.create_connection(("127.0.0.1", server.port), 30)
    with contextlib.suppress(ConnectionError):
        s.sendall(data)
    ends(s)
    with server.tls() as good:
        ask(good)


def test_hello_with_changed_bytes(server, ca):
    text = hello(ca)
    for at in range(0, len(text), 7):
        s = raw_connection(server, text[:at] + bytes([text[at] ^ 0x55]) + text[at + 1:])
        s.shutdown(socket.SHUT_WR)
        ends(s)
    with server.tls() as good:
        ask(good)


def test_plain_http_is_told_so(server):
    with raw_connection(server, b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n") as s:
        r = s.makefile("rb").read()
    assert r.startswith(b"HTTP/1.1 400 ") and b"this port speaks TLS" in r


@pytest.mark.parametrize("when", ["before", "idle", "in a body", "in an answer"])
def test_clients_that_vanish(server, when):
    """Without close_notify, by FIN or by reset."""
    body, headers, _ = tensor_request(MIB)
    for reset in (False, True):
        s = socket.create_connection(("127.0.0.1", server.port), 30)
        if when != "before":
            s = server.context.wrap_socket(s, server_hostname="localhost")
        if when.startswith("in"):
            head = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
            s.sendall(f"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\n{head}"
                      f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:len(body) if "answer" in when else 100000])
        if reset:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket(fileno=s.detach()).close()
    with server.tls() as good:
        ask(good)


def test_ending_lets_requests_finish(serve):
    s = serve()
    with s.tls() as idle, s.tls() as busy:
        ask(idle)
        head = b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
        busy.sendall(head + GOOD)
        s.process.send_signal(signal.SIGTERM)
        r = read_response(busy.makefile("rb"))
        assert r.status == 200 and r.headers["connection"] == "close", r
        assert idle.recv(1) == b""
    assert s.process.wait(20) == 0, s.log()


# Memory

def test_short_connections_leak_nothing(serve, ca):
    count = int(os.environ.get("MODELD_TLS_CONNECTIONS", 300 if SANITIZED else 3000))
    s = serve("--metrics-use-ssl=true")
    context = client_context(ca)

    def burst(n):
        session = None
        for i in range(n):
            with s.tls(context, session if i % 2 else None) as c:
                ask(c, close=True)
                session = c.session
            if i % 10 == 0:
                ends(raw_connection(s, b"no hello" * 10))

    burst(count // 3)
    before = s.status("VmRSS")
    burst(count)
    grown = s.status("VmRSS") - before
    print(f"{count} connections: {grown} KiB more")
    assert SANITIZED or grown < 1024
    assert s.status("FDSize") <= 256


def test_idle_connections_cost_little(serve, ca, record_property):
    count = 50 if SANITIZED else 500
    s = serve()
    for _ in range(20):
        with s.tls() as c:
            ask(c)
    before = s.status("VmRSS")
    clients = [s.tls() for _ in range(count)]
    for c in clients:
        ask(c)
    each = (s.status("VmRSS") - before) / count
    record_property("idle TLS connection", f"{each:.1f} KiB")
    print(f"{each:.1f} KiB each")
    assert SANITIZED or each < 40
    for c in clients:
        c.close()
