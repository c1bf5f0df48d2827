# Writes the bytes of INPUT as the array of src/api/oip/proto_files.h to OUTPUT (run with cmake -P).
file(READ "${INPUT}" bytes HEX)
string(REGEX REPLACE "(................................)" "\\1\n    " bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE "${OUTPUT}" "#include \"api/oip/proto_files.h\"

static const unsigned char bytes[] = {
    ${bytes}
};

const struct md_str md_proto_files = {(const char *)bytes, sizeof bytes};
")
