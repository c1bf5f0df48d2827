"""Model configurations as text: read as the field's own schema and protobuf's own reader read them."""
import random, re, subprocess

import pytest
from google.protobuf import json_format, text_format
from google.protobuf.descriptor import FieldDescriptor as F
from tritonclient.grpc.model_config_pb2 import ModelConfig
from conftest import BUILD


TEXTS = ["", "a", "ä€𝄞", "q\"'", "\\x\n\t\r", "\x01\x7f", "a b # no comment", "{}<>[]", "1"]
FLOATS = [0, 1, -2.5, 1e-7, 3.4e38, float("inf"), float("-inf"), 0.1]
RANGES = {F.TYPE_INT32: (-2**31, 2**31 - 1), F.TYPE_INT64: (-2**63, 2**63 - 1),
          F.TYPE_UINT32: (0, 2**32 - 1), F.TYPE_UINT64: (0, 2**64 - 1)}


def ours(texts, *flags):
    """For each text its JSON, or an error's line."""
    data = b"".join(b"%d\n" % len(text) + text for text in texts)
    done = subprocess.run([BUILD / "tests/pbtxt_print", *flags], input=data, stdout=subprocess.PIPE, check=True)
    lines = done.stdout.split(b"\n")[:-1]
    assert len(lines) == len(texts)
    return lines


def theirs(text):
    """The message, or None."""
    try:
        return text_format.Parse(text, ModelConfig())
    except (text_format.ParseError, ValueError):
        return None


def message_of(line):
    """Fields that the client's package does not know yet are passed over."""
    return json_format.Parse(line, ModelConfig(), ignore_unknown_fields=True) if line.startswith(b"{") else None


def any_value(rng, field):
    if field.type == F.TYPE_BOOL:
        return rng.random() < 0.5
    if field.type == F.TYPE_STRING:
        return rng.choice(TEXTS)
    if field.type == F.TYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    if field.type in RANGES:
        low, high = RANGES[field.type]
        return rng.choice([0, 1, low, high, rng.randint(low, high)])
    return rng.choice(FLOATS)


def fill(rng, message, seen, depth=0):
    for field in message.DESCRIPTOR.fields:
        if depth > 5 or rng.random() > 0.35:
            continue
        seen.add(field.full_name)
        target = getattr(message, field.name)
        for _ in range(rng.randint(1, 3) if field.is_repeated else 1):
            if field.message_type and field.message_type.GetOptions().map_entry:
                key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
                if value.message_type:
                    fill(rng, target[any_value(rng, key)], seen, depth + 1)
                else:
                    target[any_value(rng, key)] = any_value(rng, value)
            elif field.message_type and field.is_repeated:
                fill(rng, target.add(), seen, depth + 1)
            elif field.message_type:
                target.SetInParent()
                fill(rng, target, seen, depth + 1)
            elif field.is_repeated:
                target.append(any_value(rng, field))
            else:
                setattr(message, field.name, any_value(rng, field))


def all_fields(descriptor):
    for field in descriptor.fields:
        if not descriptor.GetOptions().map_entry:
            yield field.full_name
        if field.message_type:
            yield from all_fields(field.message_type)


def test_whole_schema_in_every_spelling():
    rng, texts, seen = random.Random(1), [], set()
    for i in range(400):
        message = ModelConfig()
        fill(rng, message, seen)
        texts.append(text_format.MessageToString(
            message, as_utf8=bool(i & 1), as_one_line=bool(i & 2), use_short_repeated_primitives=bool(i & 4),
            pointy_brackets=bool(i & 8)).encode())
    assert set(all_fields(ModelConfig.DESCRIPTOR)) <= seen
    for text, line in zip(texts, ours(texts)):
        assert message_of(line) == theirs(text), (text, line)
    for text, line in zip(texts, ours(texts, "protobuf")):
        assert ModelConfig.FromString(bytes.fromhex(line.decode())) == theirs(text), (text, line)


BASES = [
    b'name: "x" max_batch_size: 4',
    b'input [ { name: "a" data_type: TYPE_FP32 dims: [ 1, -1 ] }, { name: "b" } ]',
    b'parameters { key: "k" value { string_value: "v" } }',
    b'parameters: < key: "k" value: < string_value: "v" > >',
    b'dynamic_batching { preferred_batch_size: [ 1, 2 ] priority_queue_policy { key: 3 value { max_queue_size: 3 } } }',
    b'version_policy: { all: { } }',
    b'sequence_batching { direct { minimum_slot_utilization: 0.5 } control_input [ { name: "c" '
    b'control [ { fp32_false_true: [ 0, 1 ] bool_false_true: [ false, true ] } ] } ] }',
    b'instance_group [ { count: 1 kind: KIND_CPU gpus: [ 0 ] } ]',
]
TOKEN = re.compile(rb'"(?:\\.|[^"\\\n])*"|\w+|[-0-9.]+|#[^\n]*\n?|\s+|.', re.DOTALL)
POOL = rb"""{ } < > [ ] : , ; - "a" 'b' 1 -1 0x10 010 08 1.5 1f 1.5f .5 5. 1e3 1e inf -inf nan infinity true True t f
 TRUE KIND_CPU 2 99 "\x41" "\101" "\u00e4" "\x" "\U0001F600" "\ud83d" name dims input max_batch_size [ext.x]
 [type.googleapis.com/a.B] 0b1 0x 0X1F 4294967296 -0 1.0 01.5 0x1p3 1.5F / // 'a"b' a.b # ("a""b") ~""".split()
POOL += [b" ", b"\n", b"# c\n", b"\x00", b"\xff", b'"a\nb"', b"\v", b"\r"]

# Where the readers may differ: we pass over separators where no value stands before them and blanks behind a sign.
# Python's reader takes escapes, numbers of enums and spellings of integers that do not exist, and -0 without a sign.
LENIENT = re.compile(rb"(^|[{<,;>}\]])\s*(#[^\n]*\n\s*)*[,;]|-\s+[\d.i]|-#")
STRICT = re.compile(rb"invalid escape|'1_|'0b1|: -0+ is out of range|has no value '-?[0-9]")


def mutate(rng):
    tokens = TOKEN.findall(rng.choice(BASES))
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        what = rng.randrange(5)
        if what == 0:
            tokens[at] = b""
        elif what < 3:
            tokens[at] = rng.choice(POOL) + (tokens[at] if what == 1 else b"")
        else:
            tokens[at], tokens[other] = tokens[other], tokens[at] if what == 3 else tokens[other]
    return b"".join(tokens)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_texts_are_judged_alike(seed):
    rng = random.Random(seed)
    texts = [mutate(rng) for _ in range(1500)]
    accepted = 0
    for text, line in zip(texts, ours(texts)):
        expected, found = theirs(text), message_of(line)
        accepted += expected is not None
        if expected is None:
            assert found is None or LENIENT.search(text), (text, line)
        elif found is None:
            assert STRICT.search(line), (text, line)
        else:
            assert found == expected or b"nan" in text, (text, line)
    assert 100 < accepted < 1400
