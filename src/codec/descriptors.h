/*
 * Descriptors: what .proto files declare, looked up in a serialized FileDescriptorSet as protoc
 * writes it (google/protobuf/descriptor.proto). For server reflection.
 *
 * Everything that is found is a view into the set, which stays serialized: files are handed on as
 * they are. Nothing is kept; any thread. A set that is malformed has less in it.
 */
#ifndef MD_CODEC_DESCRIPTORS_H
#define MD_CODEC_DESCRIPTORS_H

#include "base/str.h"

enum md_symbol {
    MD_SYMBOL_NONE,
    MD_SYMBOL_MESSAGE,
    MD_SYMBOL_ENUM,
    MD_SYMBOL_SERVICE,
    MD_SYMBOL_METHOD
};

/* The file of a name (a FileDescriptorProto), or an empty view with NULL pointer. */
struct md_str md_descriptors_find_file(struct md_str set, struct md_str name);

/* What a name with its package stands for, and the file that declares it: "pkg.Service.Method",
 * "pkg.Message.Inner". */
enum md_symbol md_descriptors_find_symbol(struct md_str set, struct md_str symbol,
                                          struct md_str *file);

/* The file and all that it imports, each once, itself first; at most `capacity` of them. */
size_t md_descriptors_with_imports(struct md_str set, struct md_str file, struct md_str *out,
                                   size_t capacity);

/* Calls `found` for each service, in the order of the set. */
void md_descriptors_each_service(struct md_str set,
                                 void (*found)(void *arg, struct md_str package,
                                               struct md_str name),
                                 void *arg);

#endif
