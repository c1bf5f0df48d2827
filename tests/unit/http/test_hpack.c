/*
 * HPACK: what we write, libnghttp2's decoder reads, and what the specification's examples say; what
 * cannot be decoded is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "http/hpack.h"
#include "http/http2_head.h"

static struct md_bytes from_hex(const char *hex)
{
    struct md_bytes bytes = {0};

    for (; *hex; hex += 2) {
        const char digits[3] = {hex[0], hex[1], 0};
        md_bytes_append_char(&bytes, (char)strtoul(digits, NULL, 16));
    }
    return bytes;
}

/* Decodes a block that comes in steps: "name: value\n"...; the outcome is its end. */
static enum md_progress decode(struct md_hpack_decoder *decoder, struct md_str block, size_t step,
                               struct md_bytes *text)
{
    struct md_hpack_field field;
    struct md_str piece;

    do {
        piece = md_str_make(block.ptr, md_size_min(step, block.len));
        block = md_str_make(block.ptr + piece.len, block.len - piece.len);
        for (;;) {
            enum md_progress progress = md_hpack_decode(decoder, &piece, block.len == 0, &field);
            if (progress != MD_PROGRESS_AGAIN) {
                return progress;
            }
            if (!field.name.ptr) {
                assert_int_equal(piece.len, 0);
                break;
            }
            md_bytes_append_str(text, field.name);
            md_bytes_append_c(text, ": ");
            md_bytes_append_str(text, field.value);
            md_bytes_append_char(text, '\n');
        }
    } while (block.len);
    return MD_PROGRESS_AGAIN;
}

static void test_hpack_decodes_the_examples(void **state)
{
    /* RFC 7541 C.4: three requests of one connection, with Huffman coding */
    static const struct {
        const char *hex, *text;
    } table[] = {
        {"828684418cf1e3c2e5f23a6ba0ab90f4ff",
         ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"},
        {"828684be5886a8eb10649cbf",
         ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"
         "cache-control: no-cache\n"},
        {"828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
         ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n"
         "custom-key: custom-value\n"},
    };

    (void)state;
    for (size_t step = 1; step < 40; step += 6) {
        struct md_hpack_decoder *decoder;
        assert_true(md_hpack_decoder_create(&decoder));
        for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
            struct md_bytes block = from_hex(table[i].hex), text = {0};
            assert_int_equal(decode(decoder, md_bytes_view(&block), step, &text), MD_PROGRESS_DONE);
            assert_true(md_str_eq_c(md_bytes_view(&text), table[i].text));
            md_bytes_deinit(&block);
            md_bytes_deinit(&text);
        }
        md_hpack_decoder_destroy(decoder);
    }
}

static void test_hpack_tells_what_cannot_be_decoded(void **state)
{
    static const char *const blocks[] = {
        "80", /* no entry 0 */
        "be", /* nor one that is not there */
        "ff8080808080808080",
        "0085ffffffffff0161", /* Huffman code of the end */
        "0001610a62",         /* cut off in a value */
        "40",                 /* and in a name */
        "3fe21f",             /* a table larger than was offered */
        "823f00",             /* a change of its size behind a field */
        "007fffffffffff7f",   /* a name of no end */
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(blocks); i++) {
        struct md_hpack_decoder *decoder;
        struct md_bytes block = from_hex(blocks[i]), text = {0};
        assert_true(md_hpack_decoder_create(&decoder));
        if (decode(decoder, md_bytes_view(&block), SIZE_MAX, &text) != MD_PROGRESS_ERROR) {
            fail_msg("row %zu", i);
        }
        md_bytes_deinit(&block);
        md_bytes_deinit(&text);
        md_hpack_decoder_destroy(decoder);
    }
}

static void test_hpack_writes_what_decoders_read(void **state)
{
    static const size_t lengths[] = {0, 1, 126, 127, 128, 254, 255, 5000, 20000};
    static const char *const names[] = {"content-type", "Content-Length", "X-Of-My-Own", "vary"};
    static const unsigned statuses[] = {100, 200, 201, 204, 206, 304, 400, 404, 418, 500, 503};
    char value[20001];

    (void)state;
    memset(value, 'v', sizeof value);
    for (size_t i = 0; i < MD_COUNT_OF(lengths); i++) {
        for (size_t j = 0; j < MD_COUNT_OF(names); j++) {
            struct md_hpack_decoder *decoder;
            struct md_bytes block = {0}, text = {0}, expected = {0};
            const unsigned status = statuses[(i + j) % MD_COUNT_OF(statuses)];
            assert_true(md_hpack_decoder_create(&decoder));
            md_hpack_put_status(&block, status);
            md_hpack_put(&block, md_str_of(names[j]), md_str_make(value, lengths[i]));
            md_hpack_put(&block, md_str_make(value, lengths[i] + 1), md_str_of("x"));
            md_hpack_put_number(&block, md_str_of("n"), i ? UINT64_MAX / i : 0);
            assert_int_equal(decode(decoder, md_bytes_view(&block), 1000, &text), MD_PROGRESS_DONE);
            md_bytes_printf(&expected, ":status: %u\n", status);
            for (const char *c = names[j]; *c; c++) {
                md_bytes_append_char(&expected, *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c);
            }
            md_bytes_printf(&expected, ": %.*s\n%.*s: x\nn: %llu\n", (int)lengths[i], value,
                            (int)lengths[i] + 1, value,
                            (unsigned long long)(i ? UINT64_MAX / i : 0));
            assert_true(md_str_eq(md_bytes_view(&text), md_bytes_view(&expected)));
            /* nothing of it changes the table */
            assert_true(lengths[i] > 5000 || md_http2_block_is_stable(md_bytes_view(&block)));
            md_bytes_deinit(&block);
            md_bytes_deinit(&text);
            md_bytes_deinit(&expected);
            md_hpack_decoder_destroy(decoder);
        }
    }
}

static void test_hpack_knows_blocks_that_leave_the_table(void **state)
{
    static const struct {
        const char *hex;
        bool stable;
    } table[] = {
        {"", true},           {"82", true},         {"828684be", true}, {"ffff01", true},
        {"0001610162", true}, {"1001610162", true}, {"0f100162", true}, {"4001610162", false},
        {"410162", false},    {"20", false},        {"3fe11f", false},  {"00", false},
        {"000161", false},    {"00016102", false},  {"ff", false},      {"ff80808080", false},
        {"0f", false},        {"007f", false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        struct md_bytes block = from_hex(table[i].hex);
        if (md_http2_block_is_stable(md_bytes_view(&block)) != table[i].stable) {
            fail_msg("row %zu", i);
        }
        md_bytes_deinit(&block);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hpack_decodes_the_examples),
        cmocka_unit_test(test_hpack_tells_what_cannot_be_decoded),
        cmocka_unit_test(test_hpack_writes_what_decoders_read),
        cmocka_unit_test(test_hpack_knows_blocks_that_leave_the_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
