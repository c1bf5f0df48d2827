/*
 * Numbers as text: exact in both directions, independent of the locale. No state; any thread.
 *
 * Reading rounds once, correctly, to the nearest value, ties to even (Eisel-Lemire over 128-bit
 * powers of ten; the C library decides the rare cases of more than 19 digits that it cannot).
 * Printing gives the shortest decimal that reads back equal (Schubfach). Half precision and
 * bfloat16 are values of their own: 0.1 as FP16 prints as 0.1.
 */
#ifndef MD_CODEC_NUMBER_H
#define MD_CODEC_NUMBER_H

#include "base/str.h"

/* Enough for any number that is printed here. */
enum { MD_NUMBER_TEXT_MAX = 32 };

/* Read one number in JSON's grammar (or NaN, Infinity, Inf, each with or without a minus) from
 * `at`; return what follows it, or NULL if there is none. A finite spelling beyond the type's range
 * gives an infinity: the caller decides. */
const char *md_number_read_f64(const char *at, const char *end, double *out);
const char *md_number_read_f32(const char *at, const char *end, float *out);
const char *md_number_read_fp16(const char *at, const char *end, uint16_t *out);
const char *md_number_read_bf16(const char *at, const char *end, uint16_t *out);

/* The whole text is one number, as above. */
bool md_number_parse_f64(struct md_str text, double *out) MD_MUST_CHECK;

enum md_integer_read { MD_INTEGER_OK, MD_INTEGER_RANGE, MD_INTEGER_NOT_ONE };
/* Reads an integer: optional minus and digits. RANGE when the digits exceed 64 bits. NOT_ONE (and
 * nothing is set) when no digit is there, a zero leads, or a fraction or exponent follows. */
enum md_integer_read md_number_read_integer(const char **at, const char *end, bool *negative,
                                            uint64_t *magnitude);

/* Print without a terminator into at least MD_NUMBER_TEXT_MAX bytes; return the length. Whole
 * floats get ".0"; below 1e-6 and from 1e21 on there is an exponent ("1e21", "1.5e-7"); NaN,
 * Infinity, -Infinity as such. */
size_t md_number_print_f64(double value, char *out);
size_t md_number_print_f32(float value, char *out);
size_t md_number_print_fp16(uint16_t bits, char *out);
size_t md_number_print_bf16(uint16_t bits, char *out);
size_t md_number_print_u64(uint64_t value, char *out);
size_t md_number_print_i64(int64_t value, char *out);

/* The values of half precision and bfloat16 bits, exact. */
float md_number_from_fp16(uint16_t bits);
float md_number_from_bf16(uint16_t bits);

#endif
