// The bare loop that reads the numbers of an inference request as JSON and prints them again, with
// the fastest libraries found. Nothing is checked, nothing is sent.
//
//     bench_json_reference REQUEST [ROUNDS]
//
// Each reader and each printer is timed (CPU, best round); "ms" is the fastest reader and the
// fastest printer together. Prints one JSON object.
#include <simdjson.h>
#include <yyjson.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

static std::vector<float> values;
static std::vector<char> out;
static simdjson::padded_string text;
static simdjson::dom::parser dom;
static simdjson::ondemand::parser on_demand;

static void read_dom()
{
    size_t i = 0;

    for (simdjson::dom::element number :
         simdjson::dom::array(dom.parse(text)["inputs"].at(0)["data"])) {
        values[i++] = static_cast<float>(double(number));
    }
}

static void read_on_demand()
{
    size_t i = 0;
    auto document = on_demand.iterate(text);

    for (auto input : document["inputs"]) {
        for (auto number : input["data"]) {
            values[i++] = static_cast<float>(double(number));
        }
    }
}

static void read_yyjson()
{
    yyjson_doc *document = yyjson_read(text.data(), text.size(), 0);
    yyjson_val *input =
        yyjson_arr_get_first(yyjson_obj_get(yyjson_doc_get_root(document), "inputs"));
    yyjson_val *number;
    size_t i, count;

    yyjson_arr_foreach(yyjson_obj_get(input, "data"), i, count, number)
    {
        values[i] = static_cast<float>(yyjson_get_num(number));
    }
    yyjson_doc_free(document);
}

static void print_to_chars()
{
    char *at = out.data();

    *at++ = '[';
    for (float value : values) {
        at = std::to_chars(at, at + 32, value).ptr;
        *at++ = ',';
    }
    at[-1] = ']';
}

static void print_yyjson()
{
    yyjson_mut_doc *document = yyjson_mut_doc_new(nullptr);
    size_t length;

    yyjson_mut_doc_set_root(document,
                            yyjson_mut_arr_with_float(document, values.data(), values.size()));
    free(yyjson_mut_write(document, 0, &length));
    yyjson_mut_doc_free(document);
}

static double cpu_ms()
{
    timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

struct candidate {
    const char *name;
    void (*run)();
};

static double fastest(const std::vector<candidate> &candidates, int rounds)
{
    double winner = 1e9;

    for (const candidate &c : candidates) {
        double best = 1e9;
        for (int i = 0; i < rounds; i++) {
            double begin = cpu_ms();
            c.run();
            best = std::min(best, cpu_ms() - begin);
        }
        printf("\"%s\": %.3f, ", c.name, best);
        winner = std::min(winner, best);
    }
    return winner;
}

int main(int argc, char **argv)
{
    if (argc < 2 || simdjson::padded_string::load(argv[1]).get(text)) {
        fprintf(stderr, "usage: bench_json_reference REQUEST [ROUNDS]\n");
        return 2;
    }
    int rounds = argc > 2 ? atoi(argv[2]) : 9;
    values.resize(simdjson::dom::array(dom.parse(text)["inputs"].at(0)["data"]).size());
    out.resize(values.size() * 20 + 2);
    printf("{");
    double ms = fastest({{"simdjson dom", read_dom},
                         {"simdjson on demand", read_on_demand},
                         {"yyjson read", read_yyjson}},
                        rounds);
    ms += fastest({{"std::to_chars", print_to_chars}, {"yyjson write", print_yyjson}}, rounds);
    printf("\"ms\": %.3f}\n", ms);
    return 0;
}
