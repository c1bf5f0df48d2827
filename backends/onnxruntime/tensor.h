/*
 * Tensors across the border: element types, host memory as engine values, strings.
 *
 * Pure functions over md_ort; any thread.
 */
#ifndef MD_ORT_TENSOR_H
#define MD_ORT_TENSOR_H

#include "engine.h"

/* Both directions; MODELD_DTYPE_INVALID / UNDEFINED for what the other side does not have. */
uint32_t md_ort_dtype_from(ONNXTensorElementDataType type);
ONNXTensorElementDataType md_ort_dtype_to(uint32_t dtype);

/* Name of an engine's type for people, "FLOAT8E4M3FN" too. */
const char *md_ort_type_name(ONNXTensorElementDataType type);

/* Bytes of one element; 0 for BYTES. */
size_t md_ort_dtype_bytes(uint32_t dtype);

/* A value that reads the tensor's bytes where they are; only BYTES and unaligned data are copied
 * (the latter into *copy, which the caller frees after the value). INVALID_ARGUMENT for a tensor
 * that contradicts itself. */
int32_t md_ort_value_create(const struct modeld_tensor *tensor, OrtValue **value, void **copy,
                            struct modeld_text *error);

/* BYTES as on the wire of elements [first, first + count) of a string value: how many bytes they
 * take, and the bytes themselves into out, which holds that many. */
int32_t md_ort_strings_measure(const OrtValue *value, size_t first, size_t count, uint64_t *bytes,
                               struct modeld_text *error);
int32_t md_ort_strings_write(const OrtValue *value, size_t first, size_t count, unsigned char *out,
                             struct modeld_text *error);

#endif
