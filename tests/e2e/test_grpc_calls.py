"""gRPC calls that are no inference: the field's Python client, gRPC's own clients of health and reflection; the answers
are those of REST."""
import time

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient import grpc as triton
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.grpc.service_pb2 import ModelStatisticsResponse
from tritonclient.utils import InferenceServerException
from conftest import MODELS, Server, identity_config, write_model

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN_SERVICE = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SERVICES = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
            "inference.GRPCInferenceService"]


@pytest.fixture(scope="module")
def server(repository):
    """Everybody may change its log."""
    yield from run_server(repository)


@pytest.fixture(scope="module", params=["identity", "onnx"])
def any_server(request, repository):
    """Each of the test models is in one of them."""
    yield from run_server(repository if request.param == "identity" else MODELS)


def run_server(folder):
    s = Server(folder, "--management=open", "--engine-threads=1")
    yield s
    assert s.process.poll() is None, f"the server died: {s.log()[-4000:]}"
    assert s.stop() == 0, s.log()[-4000:]


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as c:
        yield c


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as c:
        yield c


def message(pool, name, **fields):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))(**fields)


def ready_models(server):
    return sorted(name for (name, _), (state, _) in server.index().items() if state == "READY")


# The field's client


def test_grpc_health_and_metadata(client, server):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("batched")
    assert client.is_model_ready("batched", "3")
    assert client.get_server_metadata(as_json=True) == server.get("/v2").json()


def test_grpc_metadata_of_all_models(any_server):
    with triton.InferenceServerClient(f"127.0.0.1:{any_server.port}") as c:
        for name in ready_models(any_server):
            theirs = any_server.get(f"/v2/models/{name}").json()
            ours = c.get_model_metadata(name, as_json=True)
            for tensor in ours.get("inputs", []) + ours.get("outputs", []):
                tensor["shape"] = [int(n) for n in tensor.get("shape", [])]
            assert {"inputs": [], "outputs": [], **ours} == theirs


def test_grpc_config_of_all_models(any_server):
    names = ready_models(any_server)
    assert len(names) > 15
    with triton.InferenceServerClient(f"127.0.0.1:{any_server.port}") as c:
        for name in names:
            theirs = json_format.Parse(any_server.get(f"/v2/models/{name}/config").body, ModelConfig())
            assert c.get_model_config(name).config == theirs


def test_grpc_statistics(client, server):
    assert server.infer("batched", [{"name": "INPUT0", "datatype": "FP32", "shape": [2, 4], "data": [0] * 8}]).status == 200
    for args, path in [(("batched", "3"), "/v2/models/batched/versions/3/stats"), (("batched",), "/v2/models/batched/stats"),
                       ((), "/v2/models/stats")]:
        assert client.get_inference_statistics(*args) == json_format.Parse(server.get(path).body,
                                                                           ModelStatisticsResponse())
    stats = client.get_inference_statistics("batched", "3").model_stats[0]
    assert stats.inference_count == 2 and stats.inference_stats.success.count == 1
    assert stats.batch_stats[0].batch_size == 2


def test_grpc_index(client, server):
    assert client.get_model_repository_index(as_json=True)["models"] == \
        server.request("POST", "/v2/repository/index", b"").json()


def test_grpc_log_settings(client, server):
    before = server.get("/v2/logging").json()
    told = client.get_log_settings(as_json=True)["settings"]
    assert {name: next(iter(value.values())) for name, value in told.items()} == before
    client.update_log_settings({"log_verbose_level": 1, "log_info": False, "log_format": "ISO8601"})
    assert server.get("/v2/logging").json() == {**before, "log_verbose_level": 1, "log_info": False,
                                                "log_format": "ISO8601"}
    client.update_log_settings({name: before[name] for name in ("log_verbose_level", "log_info", "log_format")})
    assert server.get("/v2/logging").json() == before


def test_grpc_trace_settings(client, server):
    def told(path, model):
        ours = client.get_trace_settings(model, as_json=True)["settings"]
        assert {name: value["value"] if name == "trace_level" else "".join(value.get("value", []))
                for name, value in ours.items()} == server.get(path).json()
        return ours

    assert "trace_rate" in told("/v2/trace/setting", None)
    client.update_trace_settings("batched", {"trace_rate": "7"})
    assert told("/v2/models/batched/trace/setting", "batched")["trace_rate"]["value"] == ["7"]
    client.update_trace_settings("batched", {"trace_rate": None})
    assert told("/v2/models/batched/trace/setting", "batched") == told("/v2/trace/setting", None)


REFUSED = [
    (lambda c: c.is_model_ready("absent"), "NOT_FOUND", "Request for unknown model: 'absent' is not found"),
    (lambda c: c.get_model_metadata("batched", "2"), "NOT_FOUND", "version 2 is not found"),
    (lambda c: c.get_model_config("batched", "x"), "INVALID_ARGUMENT", "should be an integral value"),
    (lambda c: c.get_inference_statistics("äöü"), "INVALID_ARGUMENT", "requested model 'äöü' is not available"),
    (lambda c: c.update_log_settings({"log_file": "x"}), "UNIMPLEMENTED", "log file location"),
    (lambda c: c.update_trace_settings(settings={"trace_rate": "x"}), "INVALID_ARGUMENT", "trace_rate"),
]


@pytest.mark.parametrize("call, code, words", REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_grpc_refusals(client, call, code, words):
    with pytest.raises(InferenceServerException) as e:
        call(client)
    assert e.value.status() == f"StatusCode.{code}" and words in e.value.message()


def test_grpc_restricted_and_management(start, repository):
    s = start(repository, "--grpc-restricted-protocol=metadata:key=secret")
    with triton.InferenceServerClient(f"127.0.0.1:{s.port}") as c:
        with pytest.raises(InferenceServerException) as e:
            c.get_server_metadata()
        assert e.value.status() == "StatusCode.UNAVAILABLE" and "triton-grpc-protocol-key" in e.value.message()
        assert c.get_server_metadata(headers={"triton-grpc-protocol-key": "secret"}).name
        assert c.get_log_settings().settings
        with pytest.raises(InferenceServerException) as e:
            c.update_log_settings({"log_info": False})
        assert e.value.status() == "StatusCode.UNAVAILABLE" and "--management" in e.value.message()


def test_grpc_unknown_methods(channel):
    for path in ("/inference.GRPCInferenceService/Other", "/other.Service/Call", "/x"):
        with pytest.raises(grpc.RpcError) as e:
            channel.unary_unary(path)(b"")
        assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED and path in e.value.details()


# Health


def test_grpc_health_check(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "inference.GRPCInferenceService", "batched", "batched/3"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING
    with pytest.raises(grpc.RpcError) as e:
        stub.Check(health_pb2.HealthCheckRequest(service="absent"))
    assert e.value.code() == grpc.StatusCode.NOT_FOUND


def test_grpc_health_list(channel, proto_pool, server):
    reply = message_factory.GetMessageClass(proto_pool.FindMessageTypeByName("grpc.health.v1.HealthListResponse"))
    call = channel.unary_unary("/grpc.health.v1.Health/List", response_deserializer=reply.FromString)
    statuses = {name: state.status for name, state in call(b"").statuses.items()}
    assert set(statuses) == {"", *SERVICES, *(name for name, _ in server.index())}
    assert all(statuses[name] == SERVING for name in ["", *SERVICES, *ready_models(server)])


def test_grpc_health_watch_until_the_end(start, tmp_path):
    write_model(tmp_path, "m", identity_config())
    s = start(tmp_path, "--drain-delay-secs=0")
    with grpc.insecure_channel(f"127.0.0.1:{s.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        unknown = stub.Watch(health_pb2.HealthCheckRequest(service="absent"), timeout=30)
        assert next(unknown).status == UNKNOWN_SERVICE
        unknown.cancel()
        streams = [stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=30) for name in ("", "m")]
        assert [next(stream).status for stream in streams] == [SERVING] * 2
        begin = time.time()
        s.process.terminate()
        assert [next(stream).status for stream in streams] == [NOT_SERVING] * 2
        for stream in streams:
            with pytest.raises(grpc.RpcError) as e:
                next(stream)
            assert e.value.code() == grpc.StatusCode.UNAVAILABLE
        assert s.process.wait(20) == 0, s.log()
        assert time.time() - begin < 10  # watchers hold nothing up


# Reflection


def test_grpc_reflection_leads_to_a_call(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert sorted(database.get_services()) == SERVICES
    pool = descriptor_pool.DescriptorPool(database)
    service = pool.FindServiceByName("inference.GRPCInferenceService")
    assert len(service.methods) == 20
    method = service.FindMethodByName("ModelReady")
    request = message_factory.GetMessageClass(method.input_type)(name="batched")
    response = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelReady",
                               request_serializer=lambda m: m.SerializeToString(),
                               response_deserializer=response.FromString)
    assert call(request).ready
    with pytest.raises(KeyError):
        database.FindFileContainingSymbol("inference.Absent")


def test_grpc_reflection_v1_on_one_stream(channel, proto_pool):
    name = "grpc.reflection.v1.ServerReflectionRe"
    reply = message_factory.GetMessageClass(proto_pool.FindMessageTypeByName(name + "sponse"))
    questions = [{"list_services": ""}, {"file_containing_symbol": "inference.GRPCInferenceService.ModelInfer"},
                 {"file_by_filename": "absent"}, {"all_extension_numbers_of_type": "inference.ModelConfig"}]
    call = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                                 request_serializer=lambda m: m.SerializeToString(),
                                 response_deserializer=reply.FromString)
    answers = list(call(message(proto_pool, name + "quest", **question) for question in questions))
    assert [answer.WhichOneof("message_response") for answer in answers] == [
        "list_services_response", "file_descriptor_response", "error_response", "all_extension_numbers_response"]
    assert sorted(service.name for service in answers[0].list_services_response.service) == SERVICES
    files = [descriptor_pb2.FileDescriptorProto.FromString(file).name
             for file in answers[1].file_descriptor_response.file_descriptor_proto]
    assert files == ["grpc_service.proto", "model_config.proto"]
    assert answers[2].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert answers[3].original_request.all_extension_numbers_of_type == "inference.ModelConfig"
