"""Traces against receivers that decode what arrives with the official messages of OpenTelemetry."""
import collections, contextlib, http.server, json, pathlib, queue, socket, threading, time

import grpc, numpy, pytest
import tritonclient.grpc as grpcclient, tritonclient.http as httpclient
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
from tritonclient.utils import InferenceServerException

from conftest import BUILD, SANITIZED, identity_config, until, write_model

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PHASES = ["decode", "queue", "compute", "encode"]
ONE = [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1.5]}]


def plain(value):
    return getattr(value, value.WhichOneof("value"))


class Receiver:
    """An OTLP receiver. `answers` are (status, headers, body) for the requests in turn; then 200."""

    def __init__(self):
        self.spans, self.resources, self.headers, self.answers, self.posts = [], [], [], [], 0
        self.arrived = threading.Condition()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = receiver.take(self.path, self.headers, body)
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, text = answer
                self.send_response(status)
                for name, value in {"Content-Length": str(len(text)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path, headers, body):
        with self.arrived:
            self.posts += 1
            answer = self.answers.pop(0) if self.answers else (200, {}, b"")
            if answer and answer[0] == 200:
                assert path == "/v1/traces" and headers["Content-Type"] == "application/x-protobuf"
                message = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
                self.headers.append(headers)
                for part in message.resource_spans:
                    self.resources.append({a.key: plain(a.value) for a in part.resource.attributes})
                    for scope in part.scope_spans:
                        assert scope.scope.name == "modeld"
                        self.spans += scope.spans
            self.arrived.notify_all()
            return answer

    def wait(self, spans=0, posts=0, seconds=20):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.spans) >= spans and self.posts >= posts, seconds), \
                f"{len(self.spans)} spans, {self.posts} posts"

    def traces(self):
        """{trace id: {span name: span}}"""
        found = collections.defaultdict(dict)
        for span in self.spans:
            found[span.trace_id.hex()][span.name] = span
        return found

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    r = Receiver()
    yield r
    r.close()


@pytest.fixture
def repository_of_two(tmp_path):
    for name in ("one", "two"):
        write_model(tmp_path, name, identity_config())
    return tmp_path


def tracing(url, *settings, rate=1, delay=50):
    flags = ["level=TIMESTAMPS", f"rate={rate}", f"opentelemetry,url={url}", f"opentelemetry,bsp_schedule_delay={delay}"]
    return [f"--trace-config={setting}" for setting in (*flags, *settings)]


def attributes(span):
    return {a.key: plain(a.value) for a in span.attributes}


def metric(server, name):
    return server.metrics()[name]


def wait_for_metric(server, name, at_least, seconds=30):
    deadline = time.time() + seconds
    while metric(server, name) < at_least:
        assert time.time() < deadline, f"{name} is {metric(server, name)}"
        time.sleep(0.02)


def test_trace_arrives_whole(start, repository_of_two, receiver):
    server = start(repository_of_two, *tracing(receiver.url, "opentelemetry,resource=deployment.environment=test"),
                   env={"OTEL_RESOURCE_ATTRIBUTES": "a=b%20c", "OTEL_SERVICE_NAME": "mine",
                        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret%3D1"})
    before = time.time_ns()
    r = server.infer("one", ONE, headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "v=1, w=2"}, id="my-id")
    assert r.status == 200
    receiver.wait(spans=5)
    after = time.time_ns()
    spans = receiver.traces()[TRACE]
    root = spans["InferRequest"]
    assert r.headers["traceparent"] == f"00-{TRACE}-{root.span_id.hex()}-01"
    assert root.parent_span_id.hex() == PARENT and root.trace_state == "v=1,w=2" and root.kind == root.SPAN_KIND_SERVER
    assert attributes(root) == {
        "triton.model_name": "one", "triton.model_version": 1, "triton.request_id": "my-id", "modeld.batch_size": 1,
        "http.request.method": "POST", "http.route": "/v2/models/{model}/infer", "url.path": "/v2/models/one/infer",
        "http.response.status_code": 200}
    at = root.start_time_unix_nano
    for name in PHASES:
        assert spans[name].parent_span_id == root.span_id and spans[name].kind == root.SPAN_KIND_INTERNAL
        assert at <= spans[name].start_time_unix_nano <= spans[name].end_time_unix_nano <= root.end_time_unix_nano
        at = spans[name].end_time_unix_nano
    slack = 50_000_000  # clocks are read one after the other
    assert before - slack <= root.start_time_unix_nano <= root.end_time_unix_nano <= after + slack
    assert len({s.span_id for s in receiver.spans}) == 5
    assert receiver.resources[0] == {"service.name": "mine", "service.version": receiver.resources[0]["service.version"],
                                     "a": "b c", "deployment.environment": "test"}
    assert receiver.headers[0]["x-key"] == "secret=1"


def test_trace_of_an_error(start, repository_of_two, receiver):
    server = start(repository_of_two, *tracing(receiver.url))
    assert server.infer("one", []).status == 400
    receiver.wait(spans=2)
    root = receiver.spans[0]
    assert attributes(root)["http.response.status_code"] == 400 and attributes(root)["error.type"] == "invalid_argument"
    assert root.parent_span_id == b"" and root.status.code == 0  # it is the client's fault


def test_trace_counts_by_rate_and_model(start, repository_of_two, receiver):
    server = start(repository_of_two, *tracing(receiver.url, rate=5), "--management=open")
    for _ in range(20):
        assert server.infer("one", ONE).status == 200
    receiver.wait(spans=4 * 5)
    assert server.request("POST", "/v2/models/two/trace/setting", {"trace_rate": "1", "trace_count": "3"}).status == 200
    for _ in range(10):
        assert server.infer("two", ONE).status == 200
    receiver.wait(spans=(4 + 3) * 5)
    assert server.request("POST", "/v2/trace/setting", {"trace_level": ["OFF"]}).json()["trace_level"] == ["OFF"]
    for _ in range(10):
        assert "traceparent" not in server.infer("one", ONE).headers
    assert server.stop() == 0
    assert len(receiver.traces()) == 7 and len(receiver.spans) == 35


def loads_libcurl(server):
    return "libcurl" in pathlib.Path(f"/proc/{server.process.pid}/maps").read_text()


def threads(server):
    """By name; threads come and end while it looks."""
    for comm in pathlib.Path(f"/proc/{server.process.pid}/task").glob("*/comm"):
        with contextlib.suppress(OSError):
            yield comm.read_text().strip()


def test_trace_is_turned_on_while_the_server_runs(start, repository_of_two, receiver):
    server = start(repository_of_two, f"--trace-config=opentelemetry,url={receiver.url}", "--management=open",
                   "--trace-config=opentelemetry,bsp_schedule_delay=50", "--trace-config=level=OFF")
    assert server.infer("one", ONE, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}).status == 200
    assert not loads_libcurl(server) and "trace-export" not in threads(server)
    on = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"}
    assert server.request("POST", "/v2/models/two/trace/setting", on).status == 200
    assert loads_libcurl(server)
    until(lambda: "trace-export" in threads(server))
    assert server.infer("one", ONE).status == server.infer("two", ONE).status == 200
    receiver.wait(spans=5)
    assert server.stop() == 0
    assert [attributes(s)["triton.model_name"] for s in receiver.spans if s.name == "InferRequest"] == ["two"]


def test_trace_off_costs_no_thread_and_no_library(server):
    assert not loads_libcurl(server) and "trace-export" not in threads(server)
    assert metric(server, "modeld_trace_spans_exported_total") == 0


@pytest.mark.parametrize("answer", [(503, {}, b"later"), (429, {"Retry-After": "1"}, b""), None],
                         ids=["503", "retry-after", "hangs-up"])
def test_trace_is_sent_again(start, repository_of_two, receiver, answer):
    receiver.answers = [answer]
    server = start(repository_of_two, *tracing(receiver.url))
    assert server.infer("one", ONE).status == 200
    receiver.wait(spans=5, posts=2)
    wait_for_metric(server, "modeld_trace_spans_exported_total", 5)
    assert metric(server, "modeld_trace_export_failures_total") == 1
    assert metric(server, 'modeld_trace_spans_dropped_total{cause="export"}') == 0
    server.wait_for("are sent to")  # again


def test_trace_that_is_refused_is_dropped(start, repository_of_two, receiver):
    receiver.answers = [(400, {}, b"\xff" * 100000)]
    server = start(repository_of_two, *tracing(receiver.url))
    assert server.infer("one", ONE).status == 200
    wait_for_metric(server, 'modeld_trace_spans_dropped_total{cause="export"}', 5)
    assert server.infer("one", ONE).status == 200
    receiver.wait(spans=5)
    assert receiver.posts == 2


@pytest.mark.parametrize("garbage", [b"\xff" * 5000, b"\x0a\x05\x08\xff\xff\xff\xff", b"<html>"])
def test_trace_minds_no_garbage_in_answers(start, repository_of_two, receiver, garbage):
    receiver.answers = [(200, {}, garbage)]
    server = start(repository_of_two, *tracing(receiver.url))
    assert server.infer("one", ONE).status == 200
    wait_for_metric(server, "modeld_trace_spans_exported_total", 5)


def test_trace_counts_rejected_spans(start, repository_of_two, receiver):
    answer = trace_service_pb2.ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = 2, "too old"
    receiver.answers = [(200, {}, answer.SerializeToString())]
    server = start(repository_of_two, *tracing(receiver.url), "--log-verbose=1")
    assert server.infer("one", ONE).status == 200
    wait_for_metric(server, 'modeld_trace_spans_dropped_total{cause="export"}', 2)
    assert metric(server, "modeld_trace_spans_exported_total") == 3
    server.wait_for("rejected 2 spans: too old")


def test_trace_without_a_receiver_is_bounded(start, repository_of_two):
    with socket.socket() as nobody:  # bound, not listening: refuses
        nobody.bind(("127.0.0.1", 0))
        server = start(repository_of_two,
                       *tracing(f"http://127.0.0.1:{nobody.getsockname()[1]}/v1/traces", "opentelemetry,bsp_max_queue_size=100"))
        with server.connect() as s:
            stream = s.makefile("rb")

            def infer(times):
                body = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":[1]}]}'
                for _ in range(times):
                    s.sendall(b"POST /v2/models/one/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                    assert b"200" in stream.readline()
                    length = 0
                    while (line := stream.readline()) != b"\r\n":
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    stream.read(length)

            infer(200)
            resident = server.status("VmRSS")
            infer(2000)
            grown = server.status("VmRSS") - resident
        assert SANITIZED or grown < 1024, f"{grown} KiB"
        dropped = sum(v for k, v in server.metrics().items() if k.startswith("modeld_trace_spans_dropped_total"))
        assert 2200 * 5 - 2 * 100 - 512 <= dropped <= 2200 * 5
        began = time.time()
        assert server.stop() == 0
        assert time.time() - began < 5


def test_trace_ends_with_a_flush(start, repository_of_two, receiver):
    server = start(repository_of_two, *tracing(receiver.url, delay=3600000))
    for _ in range(7):
        assert server.infer("one", ONE).status == 200
    assert receiver.posts == 0
    assert server.stop() == 0
    assert len(receiver.traces()) == 7 and receiver.posts == 1


def test_trace_fills_batches(start, repository_of_two, receiver):
    server = start(repository_of_two, *tracing(receiver.url, "opentelemetry,bsp_max_export_batch_size=10", delay=3600000))
    for _ in range(7):
        assert server.infer("one", ONE).status == 200
    receiver.wait(spans=30, posts=3)
    assert server.stop() == 0
    assert receiver.posts == 4 and len(receiver.spans) == 35


def test_trace_holds_no_server_up_whose_receiver_hangs(start, repository_of_two):
    with socket.socket() as slow:  # accepts and says nothing
        slow.bind(("127.0.0.1", 0))
        slow.listen()
        server = start(repository_of_two, *tracing(f"http://127.0.0.1:{slow.getsockname()[1]}/v1/traces"))
        assert server.infer("one", ONE).status == 200
        connection, _ = slow.accept()
        assert server.infer("one", ONE).status == 200  # as quick as ever
        began = time.time()
        assert server.stop() == 0
        assert time.time() - began < 8
        connection.close()


def test_server_timing_on_request(server):
    r = server.infer("identity_fp32", ONE, headers={"modeld-server-timing": "true"})
    entries = dict(entry.strip().split(";dur=") for entry in r.headers["server-timing"].split(","))
    assert list(entries) == [*PHASES, "total"] and "traceparent" not in r.headers
    assert sum(float(entries[name]) for name in PHASES) <= float(entries["total"]) + 0.01
    assert "server-timing" not in server.infer("identity_fp32", ONE).headers


def test_trace_settings_are_management(start, repository_of_two):
    server = start(repository_of_two)
    assert server.request("POST", "/v2/trace/setting", {"trace_rate": "1"}).status == 403
    assert server.get("/v2/trace/setting").json()["trace_rate"] == "1000"


def test_wrong_trace_config_is_told_at_once(start, repository_of_two):
    server = start(repository_of_two, "--trace-config=level=ALL", "--trace-config=opentelemetry,bsp_schedul_delay=1", wait=False)
    assert server.process.wait(20) == 2
    assert "level must be OFF, TIMESTAMPS or TENSORS" in server.log()
    assert "did you mean 'opentelemetry,bsp_schedule_delay'?" in server.log()


# --- gRPC --------------------


def one_for_the_client():
    tensor = grpcclient.InferInput("INPUT0", [1], "FP32")
    tensor.set_data_from_numpy(numpy.array([1.5], dtype=numpy.float32))
    return tensor


def test_trace_of_a_call(start, repository_of_two, receiver):
    server = start(repository_of_two, *tracing(receiver.url, rate=1000000))
    stub = GRPCInferenceServiceStub(grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}"))
    request = service_pb2.ModelInferRequest(model_name="one", id="my-id")
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[1]).contents.fp32_contents.append(1.5)
    _, call = stub.ModelInfer.with_call(request, metadata=[
        ("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "v=1"), ("modeld-server-timing", "true")])
    trailers = dict(call.trailing_metadata())
    receiver.wait(spans=5)
    spans = receiver.traces()[TRACE]
    root = spans["InferRequest"]
    assert trailers["traceparent"] == f"00-{TRACE}-{root.span_id.hex()}-01" and "compute;dur=" in trailers["server-timing"]
    assert root.parent_span_id.hex() == PARENT and root.trace_state == "v=1"
    assert set(spans) == {"InferRequest", *PHASES}
    assert attributes(root) == {
        "triton.model_name": "one", "triton.model_version": 1, "triton.request_id": "my-id", "modeld.batch_size": 1,
        "rpc.system": "grpc", "rpc.service": "inference.GRPCInferenceService", "rpc.method": "ModelInfer",
        "rpc.grpc.status_code": 0}


def test_trace_of_a_stream(start, repository_of_two, receiver):
    server = start(repository_of_two, *tracing(receiver.url))
    with grpcclient.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        answers = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        for i in range(3):
            client.async_stream_infer("one", [one_for_the_client()], request_id=str(i))
        for _ in range(3):
            assert answers.get(timeout=20)[1] is None
        client.stop_stream()
    receiver.wait(spans=15)
    roots = [s for s in receiver.spans if s.name == "InferRequest"]
    assert [attributes(s)["triton.request_id"] for s in roots] == ["0", "1", "2"]
    assert len(receiver.traces()) == 3 and {attributes(s)["rpc.method"] for s in roots} == {"ModelStreamInfer"}


def test_trace_of_cancelled_calls(start, tmp_path, receiver):
    write_model(tmp_path, "slow", identity_config(
        extra='parameters { key: "execute_delay_ms" value { string_value: "300" } }'))
    server = start(tmp_path, *tracing(receiver.url))
    with grpcclient.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        client.start_stream(lambda result, error: None)
        client.async_stream_infer("slow", [one_for_the_client()], request_id="stream")
        wait_for_metric(server, 'modeld_requests_in_flight{model="slow",version="1"}', 1)
        client.stop_stream(cancel_requests=True)
        with pytest.raises(InferenceServerException):
            client.infer("slow", [one_for_the_client()], request_id="call", client_timeout=0.05)
    receiver.wait(spans=6)
    roots = [s for s in receiver.spans if s.name == "InferRequest"]
    ends = {attributes(s)["triton.request_id"]: (attributes(s)["rpc.grpc.status_code"], attributes(s)["error.type"])
            for s in roots}
    cancelled, late = (1, "cancelled"), (4, "deadline")
    assert ends["stream"] == cancelled and ends["call"] in (cancelled, late)  # whose clock is first, the client's or ours


def test_trace_of_who_was_answered_before_the_end(start, tmp_path, receiver):
    """At the deadline, while the engine went on: the spans say how it went on."""
    write_model(tmp_path, "deaf", 'backend: "faulty" parameters { key: "fault" value { string_value: "deaf" } }')
    server = start(tmp_path, *tracing(receiver.url), f"--backend-directory={BUILD}/tests/backends", "--executor-threads=2")
    x = [{"name": "x", "datatype": "FP32", "shape": [1], "data": [400]}]  # milliseconds
    assert server.infer("deaf", x, headers={"modeld-timeout-ms": "100"}).status == 504
    receiver.wait(spans=5)
    (root,) = [s for s in receiver.spans if s.name == "InferRequest"]
    (compute,) = [s for s in receiver.spans if s.name == "compute"]
    assert attributes(root)["http.response.status_code"] == 504 and attributes(root)["error.type"] == "deadline"
    assert compute.end_time_unix_nano - compute.start_time_unix_nano >= 390e6


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_trace_settings_through_the_fields_client(start, repository_of_two, kind):
    server = start(repository_of_two, "--management=open", "--compat=triton")
    if kind == "http":
        client = httpclient.InferenceServerClient(f"127.0.0.1:{server.port}")
        options = {}
    else:
        client = grpcclient.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
        options = {"as_json": True}

    def text(settings):
        if kind == "http":
            return settings
        values = {k: v.get("value", [""]) for k, v in settings["settings"].items()}
        return {k: v if k == "trace_level" else v[0] for k, v in values.items()}

    initial = {"trace_level": ["OFF"], "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0", "trace_file": "",
               "trace_mode": "triton"}
    assert text(client.get_trace_settings(**options)) == initial
    assert text(client.update_trace_settings("one", {"trace_rate": "12", "log_frequency": "34"}, **options)) == {
        **initial, "trace_rate": "12", "log_frequency": "34"}
    assert text(client.update_trace_settings(None, {"trace_rate": "56", "trace_count": "78"}, **options)) == {
        **initial, "trace_rate": "56", "trace_count": "78"}
    assert text(client.get_trace_settings("one", **options)) == {
        **initial, "trace_rate": "12", "trace_count": "78", "log_frequency": "34"}
    clear = {"trace_rate": None, "trace_count": None, "log_frequency": None, "trace_level": None}
    assert text(client.update_trace_settings("one", clear, **options)) == {
        **initial, "trace_rate": "56", "trace_count": "78"}
    assert text(client.update_trace_settings(None, clear, **options)) == initial
    with pytest.raises(InferenceServerException, match="unknown model : none"):
        client.get_trace_settings("none", **options)
    with pytest.raises(InferenceServerException, match="trace file location can not be updated"):
        client.update_trace_settings(None, {"trace_file": "x"}, **options)
    client.close()


# --- the field's files --------------------


def test_trace_in_files_as_the_field_writes_them(start, repository_of_two, tmp_path_factory):
    file = tmp_path_factory.mktemp("traces") / "trace.json"
    server = start(repository_of_two, "--compat=triton", *(f"--trace-config={setting}" for setting in (
        "level=TIMESTAMPS", "rate=1", f"triton,file={file}", "triton,log-frequency=2")))
    settings = server.get("/v2/trace/setting").json()
    assert settings == {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "-1", "log_frequency": "2",
                        "trace_file": str(file), "trace_mode": "triton"}
    for i in range(3):
        r = server.infer("one", ONE, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}, id=f"\n{i}")
        assert r.status == 200 and "traceparent" not in r.headers
    assert server.stop() == 0
    names = ["REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END",
             "REQUEST_END", "HTTP_RECV_START", "HTTP_RECV_END", "HTTP_SEND_START", "HTTP_SEND_END"]
    number = 0
    for suffix, traces in (("0", 2), ("1", 1)):
        objects = json.loads(pathlib.Path(f"{file}.{suffix}").read_text())
        assert len(objects) == traces * (1 + len(names))
        for _ in range(traces):
            head, events, objects = objects[0], objects[1:1 + len(names)], objects[1 + len(names):]
            number += 1
            assert head == {"id": number, "model_name": "one", "model_version": 1, "request_id": f"\n{number - 1}"}
            assert all(e["id"] == number and len(e["timestamps"]) == 1 for e in events)
            times = {e["timestamps"][0]["name"]: e["timestamps"][0]["ns"] for e in events}
            assert list(times) == names
            assert times["HTTP_RECV_START"] <= times["HTTP_RECV_END"] <= times["QUEUE_START"]
            assert [times[n] for n in names[:7]] == sorted(times[n] for n in names[:7])
            assert times["REQUEST_END"] <= times["HTTP_SEND_START"]


def test_trace_file_that_cannot_be_written_is_told_at_start(start, repository_of_two, tmp_path):
    server = start(repository_of_two, "--trace-config=mode=triton", "--trace-config=level=TIMESTAMPS",
                   f"--trace-config=triton,file={tmp_path}/absent/trace.json", wait=False)
    assert server.process.wait(20) == 1
    assert "absent/trace.json: No such file or directory" in server.log()


def test_trace_without_a_file_cannot_be_turned_on(start, repository_of_two):
    server = start(repository_of_two, "--compat=triton")
    r = server.request("POST", "/v2/trace/setting", {"trace_level": ["TIMESTAMPS"]})
    assert r.status == 400 and "invalid trace setting" in r.json()["error"]
