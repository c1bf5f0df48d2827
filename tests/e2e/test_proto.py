"""proto/ beside what the clients of the field were generated from: the same messages, numbers and services."""
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import model_config_pb2, service_pb2
from conftest import ROOT

ALPHA = "grpc/reflection/v1alpha/reflection.proto"

# Newer than the client's package.
NEWER = {"Health.List", "HealthListRequest", "HealthListResponse"}


def type_of(field):
    if field.message_type is not None:
        return field.message_type.full_name
    return field.enum_type.full_name if field.enum_type is not None else field.type


def describe_enum(enum):
    return {value.name: value.number for value in enum.values}


def describe_message(message):
    return {
        "fields": {field.number: (field.name, field.json_name, type_of(field), field.is_repeated, field.is_packed,
                                  field.containing_oneof.name if field.containing_oneof else None)
                   for field in message.fields},
        "is map entry": message.GetOptions().map_entry,
        "enums": {enum.name: describe_enum(enum) for enum in message.enum_types},
        "messages": {inner.name: describe_message(inner) for inner in message.nested_types},
    }


def describe_method(method):
    return (method.input_type.full_name, method.output_type.full_name, method.client_streaming,
            method.server_streaming)


def describe(file):
    """{name: what it is} of everything at the top of a file and of each method."""
    parts = {name: describe_message(message) for name, message in file.message_types_by_name.items()}
    parts |= {name: describe_enum(enum) for name, enum in file.enum_types_by_name.items()}
    for service in file.services_by_name.values():
        parts |= {f"{service.name}.{method.name}": describe_method(method) for method in service.methods}
    return parts


@pytest.mark.parametrize("name, theirs", [
    ("model_config.proto", model_config_pb2), ("grpc_service.proto", service_pb2),
    ("grpc/health/v1/health.proto", health_pb2), (ALPHA, reflection_pb2)])
def test_proto_files_say_what_clients_know(proto_pool, name, theirs):
    file = proto_pool.FindFileByName(name)
    assert file.package == theirs.DESCRIPTOR.package
    assert {part: what for part, what in describe(file).items() if part not in NEWER} == describe(theirs.DESCRIPTOR)


def test_proto_of_health_lists_states(proto_pool):
    file = proto_pool.FindFileByName("grpc/health/v1/health.proto")
    statuses = file.message_types_by_name["HealthListResponse"].fields_by_name["statuses"]
    entry = statuses.message_type
    assert (statuses.number, entry.GetOptions().map_entry) == (1, True)
    assert entry.fields_by_name["value"].message_type.full_name == "grpc.health.v1.HealthCheckResponse"
    assert describe(file)["Health.List"] == ("grpc.health.v1.HealthListRequest", "grpc.health.v1.HealthListResponse",
                                             False, False)


def test_proto_of_reflection_is_the_same_in_both_packages():
    alpha = (ROOT / "proto" / ALPHA).read_text()
    assert (ROOT / "proto/grpc/reflection/v1/reflection.proto").read_text() == alpha.replace(
        "package grpc.reflection.v1alpha;", "package grpc.reflection.v1;")
