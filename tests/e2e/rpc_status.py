"""google.rpc.Status as gRPC's libraries read it from grpc-status-details-bin (google/rpc/status.proto, error_details.proto)."""
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory

Field = descriptor_pb2.FieldDescriptorProto


def declare():
    file = descriptor_pb2.FileDescriptorProto(name="google/rpc/as_needed.proto", package="google.rpc", syntax="proto3")
    file.dependency.extend([any_pb2.DESCRIPTOR.name, duration_pb2.DESCRIPTOR.name])
    for name, fields in {"Status": [("code", Field.TYPE_INT32), ("message", Field.TYPE_STRING), ("details", ".google.protobuf.Any")],
                         "ErrorInfo": [("reason", Field.TYPE_STRING), ("domain", Field.TYPE_STRING)],
                         "RetryInfo": [("retry_delay", ".google.protobuf.Duration")]}.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            added = message.field.add(name=field, number=number, label=Field.LABEL_OPTIONAL)
            if isinstance(kind, str):
                added.type, added.type_name = Field.TYPE_MESSAGE, kind
            else:
                added.type = kind
            if field == "details":
                added.label = Field.LABEL_REPEATED
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, duration_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}"))
            for name in ("Status", "ErrorInfo", "RetryInfo")}


TYPES = declare()


def details(error):
    """{"ErrorInfo": message, ...} of a grpc.RpcError, whose status says the same as its details; none if it is the client's own."""
    text = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if not text:
        return {}
    status = TYPES["Status"].FromString(text)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    found = {}
    for detail in status.details:
        name = detail.type_url.removeprefix("type.googleapis.com/google.rpc.")
        found[name] = TYPES[name].FromString(detail.value)
    return found
