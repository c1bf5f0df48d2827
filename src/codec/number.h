/*
 * Numbers as text: exact in both directions, independent of the locale. No state; any thread.
 *
 * Reading rounds correctly to the nearest value, ties to even (Eisel-Lemire over 128-bit powers of ten; the C library
 * decides the rare cases of more than 19 digits that it cannot). Printing gives the shortest decimal that reads back
 * equal (Schubfach).
 */
#ifndef MD_CODEC_NUMBER_H
#define MD_CODEC_NUMBER_H

#include "base/str.h"

/* Enough for any number that is printed here. */
enum { MD_NUMBER_TEXT_MAX = 32 };

/* Reads one number in JSON's grammar (or NaN, Infinity, -Infinity, Inf) from `at`; returns what follows it, or NULL if
 * there is none. A finite spelling beyond the type's range gives an infinity: the caller decides. */
const char *md_number_read_f32(const char *at, const char *end, float *out);
const char *md_number_read_f64(const char *at, const char *end, double *out);

enum md_integer_read { MD_INTEGER_OK, MD_INTEGER_RANGE, MD_INTEGER_NOT_ONE };
/* Reads an integer: optional minus and digits. `magnitude` and `negative`; RANGE when the digits exceed 64 bits.
 * NOT_ONE when no digit is there, a zero leads, or a fraction or exponent follows. */
enum md_integer_read md_number_read_integer(const char **at, const char *end, bool *negative, uint64_t *magnitude);

/* The whole text is one number. */
bool md_number_parse_f64(struct md_str text, double *out) MD_MUST_CHECK;

/* Print at most MD_NUMBER_TEXT_MAX bytes without a terminator; return the length. Whole numbers get ".0", exponents appear outside of 1e-6..1e21. */
size_t md_number_print_f32(float value, char *out);
size_t md_number_print_f64(double value, char *out);
size_t md_number_print_u64(uint64_t value, char *out);
size_t md_number_print_i64(int64_t value, char *out);

/* Half precision and bfloat16, rounded to nearest even. */
uint16_t md_number_to_fp16(double value);
uint16_t md_number_to_bf16(double value);
float md_number_from_fp16(uint16_t bits);
float md_number_from_bf16(uint16_t bits);

#endif
