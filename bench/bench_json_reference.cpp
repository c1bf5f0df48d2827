// The yardstick beside bench_codec: the bare loop that reads an image's worth of FP32 values with
// simdjson and prints them with std::to_chars, both the fastest found for their half. Same texts,
// same lines of output.
#include <simdjson.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

static double now_ms()
{
    timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

static float value_of(int text)
{
    switch (text) {
    case 0:
        return static_cast<float>(rand() % 256);
    case 1:
        return static_cast<float>(rand() % 52000 - 26000) / 10000.0F;
    default:
        return static_cast<float>((static_cast<double>(rand()) / RAND_MAX - 0.5) * 5.2);
    }
}

static void print(const std::vector<float> &values, std::string &text)
{
    text.resize(values.size() * 17 + 2);
    char *at = &text[0], *end = at + text.size();
    *at++ = '[';
    for (float value : values) {
        at = std::to_chars(at, end, value).ptr;
        *at++ = ',';
    }
    at[-1] = ']';
    text.resize(static_cast<size_t>(at - &text[0]));
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"pixels", "decimals", "floats"};
    size_t count = argc > 1 ? strtoul(argv[1], nullptr, 10) : 150528;
    int rounds = argc > 2 ? atoi(argv[2]) : 9;
    simdjson::dom::parser parser;

    for (int t = 0; t < 3; t++) {
        std::vector<float> values(count), read(count);
        std::string text;
        double best_print = 1e9, best_read = 1e9;
        for (float &value : values) {
            value = value_of(t);
        }
        for (int i = 0; i < rounds; i++) {
            double begin = now_ms();
            print(values, text);
            double middle = now_ms();
            size_t at = 0;
            for (simdjson::dom::element element : simdjson::dom::array(parser.parse(text))) {
                read[at++] = static_cast<float>(double(element));
            }
            double end = now_ms();
            best_print = middle - begin < best_print ? middle - begin : best_print;
            best_read = end - middle < best_read ? end - middle : best_read;
        }
        if (memcmp(values.data(), read.data(), count * sizeof(float)) != 0) {
            fprintf(stderr, "bench_json_reference: a result is wrong\n");
            return 1;
        }
        double length = static_cast<double>(text.size()), n = static_cast<double>(count);
        printf("%-10s %-8s %8.3f ms %7.1f ns/value %7.0f MB/s\n", names[t], "to_chars", best_print,
               best_print * 1e6 / n, length / best_print / 1e3);
        printf("%-10s %-8s %8.3f ms %7.1f ns/value %7.0f MB/s\n", names[t], "simdjson", best_read,
               best_read * 1e6 / n, length / best_read / 1e3);
    }
    return 0;
}
