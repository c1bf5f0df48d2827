/*
 * Numbers: what is read equals what the C library reads; what is printed reads back to the same
 * bits.
 */
#include "codec/number.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool good)
{
    if (!good) {
        abort();
    }
}

/* The input as the text of a number. */
static void check_text(const uint8_t *bytes, size_t size)
{
    char *text =
        malloc(size + 1); /* ends with the input for the reader, terminated for the library */
    double number, expected;
    float single;
    uint16_t half;

    require(text != NULL);
    memcpy(text, bytes, size);
    text[size] = '\0';
    char *exact =
        malloc(size ? size : 1); /* exactly as long as the input, so that overreads are seen */
    require(exact != NULL);
    memcpy(exact, bytes, size);
    const char *next = md_number_read_f64(exact, exact + size, &number);
    const char *next_single = md_number_read_f32(exact, exact + size, &single);
    require(next == next_single && next == md_number_read_fp16(exact, exact + size, &half));
    if (next && next > exact && next[-1] >= '0' && next[-1] <= '9') {
        text[next - exact] = '\0';
        expected = strtod(text, NULL);
        float expected_single = strtof(text, NULL);
        require(memcmp(&number, &expected, sizeof number) == 0);
        require(memcmp(&single, &expected_single, sizeof single) == 0);
        /* the nearest half: no neighbour is nearer */
        double value = (double)md_number_from_fp16(half);
        if (isfinite(value) && isfinite(number) && (half & 0x7fff) && (half & 0x7fff) < 0x7bff) {
            double above = (double)md_number_from_fp16((uint16_t)(half + 1));
            double below = (double)md_number_from_fp16((uint16_t)(half - 1));
            require(fabs(value - number) <= fabs(above - number) &&
                    fabs(value - number) <= fabs(below - number));
        }
    }
    free(exact);
    free(text);
}

/* The input as the bits of a number. */
static void check_bits(const uint8_t *bytes, size_t size)
{
    uint64_t bits = 0;
    double number, number_back;
    float single, single_back;
    char text[MD_NUMBER_TEXT_MAX];

    memcpy(&bits, bytes, size < sizeof bits ? size : sizeof bits);
    memcpy(&number, &bits, sizeof number);
    memcpy(&single, &bits, sizeof single);
    size_t len = md_number_print_f64(number, text);
    require(len <= sizeof text && md_number_read_f64(text, text + len, &number_back) == text + len);
    require(isnan(number) ? isnan(number_back) : memcmp(&number, &number_back, sizeof number) == 0);
    len = md_number_print_f32(single, text);
    require(len <= sizeof text && md_number_read_f32(text, text + len, &single_back) == text + len);
    require(isnan(single) ? isnan(single_back) : memcmp(&single, &single_back, sizeof single) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    check_text(bytes, size);
    check_bits(bytes, size);
    return 0;
}
