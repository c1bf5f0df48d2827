/*
 * What the files of proto/ declare: a serialized FileDescriptorSet, which the build makes from
 * them.
 */
#ifndef MD_API_OIP_PROTO_FILES_H
#define MD_API_OIP_PROTO_FILES_H

#include "base/str.h"

extern const struct md_str md_proto_files;

#endif
