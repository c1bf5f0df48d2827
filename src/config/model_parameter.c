/*
 * The table of parameters, and values by their kind.
 */
#include "config/model_parameter.h"

#include "config/model_config_internal.h"
#include "config/option_value.h"

enum { NEAR_EDITS = 3, MS_MAX = 86400000 };

#define CHOICE(key, text, ...)                                                                \
    {                                                                                         \
        .name = key, .kind = MD_MODEL_PARAMETER_CHOICE, .values = {__VA_ARGS__}, .help = text \
    }
#define RANGE(key, of, from, to, text)                                                        \
    {                                                                                         \
        .name = key, .kind = MD_MODEL_PARAMETER_##of, .least = from, .most = to, .help = text \
    }

const struct md_model_parameter md_model_parameters[] = {
    RANGE("modeld_allowed_batch_sizes", NUMBERS, 1, INT32_MAX,
          "batches are padded to the next of these sizes, \"1,4,8\", and are no larger than the "
          "last"),
    CHOICE(
        "modeld_batching",
        "whether a model without `dynamic_batching` is batched where its answers prove to be the "
        "same; `/config` says what came of it, as `on: REASON` or `off: REASON`",
        "auto", "off", "on"),
    RANGE("modeld_deadline_ms", NUMBER, 0, MS_MAX,
          "the deadline of requests that bring none; 0: none"),
    RANGE("modeld_execution_timeout_ms", NUMBER, 0, MS_MAX,
          "an execution that takes longer fails its requests, and its instance is out of service "
          "until the engine returns; 0: none"),
    CHOICE("modeld_inline",
           "run the model on the thread of the connection that asks, without a hop to an executor",
           "auto", "on", "off"),
    RANGE("modeld_max_queue_bytes", SIZE, 0, INT64_MAX,
          "inputs that may wait, such as 64M; 0: a quarter of `--inflight-bytes`, as without it"),
    RANGE("modeld_weight", NUMBER, 1, 1000,
          "the model's share of the executors' time, beside those of others; 1 by default"),
    {.name = NULL},
};

/* --- reading -------------------- */

static struct md_str value_of(const struct md_message *entry)
{
    return text_of(md_message_child(entry, "value"), "string_value");
}

/* /config says "off: because ...": a configuration that was copied from there says the same. */
static struct md_str without_remark(struct md_str value)
{
    ptrdiff_t colon = md_str_find(value, ':');

    return colon >= 0 ? md_str_make(value.ptr, (size_t)colon) : value;
}

static bool read_number(const struct md_model_parameter *parameter, struct md_str text,
                        uint64_t *out)
{
    bool ok = parameter->kind == MD_MODEL_PARAMETER_SIZE ? md_option_read_size(text, out)
                                                         : md_str_to_u64(text, out);

    return ok && *out >= parameter->least && *out <= parameter->most;
}

/* False: one of them is wrong, not larger than the one before, or there are too many. */
static bool read_numbers(const struct md_model_parameter *parameter, struct md_str text,
                         uint64_t *out, size_t *count)
{
    struct md_str rest = text, piece;

    *count = 0;
    while (md_str_split(&rest, ',', &piece)) {
        uint64_t number;
        if (*count == MD_MODEL_PARAMETER_NUMBERS_MAX ||
            !read_number(parameter, md_str_trim(piece), &number) ||
            (*count && number <= out[*count - 1])) {
            return false;
        }
        out[(*count)++] = number;
    }
    return *count > 0;
}

static bool is_choice(const struct md_model_parameter *parameter, struct md_str value)
{
    for (size_t i = 0; parameter->values[i]; i++) {
        if (md_str_eq_c(without_remark(value), parameter->values[i])) {
            return true;
        }
    }
    return false;
}

static const struct md_model_parameter *find(struct md_str key)
{
    const struct md_model_parameter *known = md_model_parameters;

    while (known->name && !md_str_eq_c(key, known->name)) {
        known++;
    }
    return known->name ? known : NULL;
}

/* --- checking -------------------- */

void md_model_parameter_print_values(const struct md_model_parameter *parameter,
                                     struct md_bytes *out)
{
    for (size_t i = 0; parameter->values[i]; i++) {
        md_bytes_printf(out, "%s%s", i ? ", " : "", parameter->values[i]);
    }
    if (parameter->kind == MD_MODEL_PARAMETER_NUMBERS) {
        md_bytes_append_c(out, "sizes, ascending");
    } else if (parameter->kind == MD_MODEL_PARAMETER_SIZE) {
        md_bytes_append_c(out, "bytes");
    } else if (parameter->kind == MD_MODEL_PARAMETER_NUMBER) {
        md_bytes_printf(out, "%llu..%llu", (unsigned long long)parameter->least,
                        (unsigned long long)parameter->most);
    }
}

static void check_value(const struct md_message *entry, const struct md_model_parameter *parameter,
                        struct md_diagnostics *diagnostics)
{
    struct md_str value = value_of(entry);
    uint64_t numbers[MD_MODEL_PARAMETER_NUMBERS_MAX];
    struct md_bytes expected = {0};
    size_t count;

    switch (parameter->kind) {
    case MD_MODEL_PARAMETER_CHOICE:
        if (!is_choice(parameter, value)) {
            md_model_parameter_print_values(parameter, &expected);
            complain(diagnostics, entry, "value",
                     "parameter '%s' has no value '%.*s'; there are %.*s", parameter->name,
                     MD_STR_ARG(value), MD_STR_ARG(md_bytes_view(&expected)));
        }
        break;
    case MD_MODEL_PARAMETER_NUMBERS:
        if (!read_numbers(parameter, value, numbers, &count)) {
            complain(
                diagnostics, entry, "value",
                "parameter '%s' is a list of at most %d sizes from %llu on, ascending, such as "
                "\"1,4,8\"; got '%.*s'",
                parameter->name, MD_MODEL_PARAMETER_NUMBERS_MAX,
                (unsigned long long)parameter->least, MD_STR_ARG(value));
        }
        break;
    case MD_MODEL_PARAMETER_SIZE:
        if (!read_number(parameter, value, numbers)) {
            complain(diagnostics, entry, "value",
                     "parameter '%s' is a number of bytes, such as \"64M\"; got '%.*s'",
                     parameter->name, MD_STR_ARG(value));
        }
        break;
    default:
        if (!read_number(parameter, value, numbers)) {
            complain(diagnostics, entry, "value",
                     "parameter '%s' is a number from %llu to %llu; got '%.*s'", parameter->name,
                     (unsigned long long)parameter->least, (unsigned long long)parameter->most,
                     MD_STR_ARG(value));
        }
    }
    md_bytes_deinit(&expected);
}

void md_model_parameter_check(const struct md_message *entry, struct md_diagnostics *diagnostics)
{
    struct md_str key = text_of(entry, "key");
    const struct md_model_parameter *known = find(key);
    const char *nearest = NULL;
    unsigned best = NEAR_EDITS + 1;

    if (!md_str_starts_with(key, MD_STR("modeld_"))) {
        return;
    }
    if (known) {
        check_value(entry, known, diagnostics);
        return;
    }
    for (known = md_model_parameters; known->name; known++) {
        unsigned distance = md_str_distance(key, md_str_of(known->name), best);
        if (distance < best) {
            best = distance;
            nearest = known->name;
        }
    }
    complain(diagnostics, entry, "key", "unknown parameter '%.*s'%s%s%s", MD_STR_ARG(key),
             nearest ? ", did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}

/* --- values -------------------- */

struct md_str md_model_parameter_text(const struct md_message *config, struct md_str key)
{
    for (size_t i = 0; i < md_message_count(config, "parameters"); i++) {
        const struct md_message *entry = item(config, "parameters", i);
        if (md_str_eq(text_of(entry, "key"), key)) {
            return value_of(entry);
        }
    }
    return MD_STR("");
}

struct md_str md_model_parameter_choice(const struct md_message *config, struct md_str key)
{
    return without_remark(md_model_parameter_text(config, key));
}

uint64_t md_model_parameter_number(const struct md_message *config, struct md_str key,
                                   uint64_t absent)
{
    const struct md_model_parameter *known = find(key);
    uint64_t number;

    return known && read_number(known, md_model_parameter_text(config, key), &number) ? number
                                                                                      : absent;
}

size_t md_model_parameter_numbers(const struct md_message *config, struct md_str key, uint64_t *out)
{
    const struct md_model_parameter *known = find(key);
    size_t count;

    return known && read_numbers(known, md_model_parameter_text(config, key), out, &count) ? count
                                                                                           : 0;
}

bool md_model_parameter_set(struct md_message *config, const char *key, const char *value,
                            struct md_arena *arena)
{
    const int field = md_message_field(config->desc, MD_STR("parameters"));
    const struct md_message_desc *desc = config->desc->fields[field].message;
    struct md_message *entry = md_message_create(desc, arena);
    struct md_message *holder = md_message_create(desc->fields[1].message, arena);
    const struct md_str texts[] = {md_arena_copy(arena, md_str_of(key)),
                                   md_arena_copy(arena, md_str_of(value))};

    return entry && holder && texts[0].ptr && texts[1].ptr &&
           md_message_set(holder, "string_value", (struct md_value){.as.string = texts[1]},
                          arena) &&
           md_message_set(entry, "key", (struct md_value){.as.string = texts[0]}, arena) &&
           md_message_set(entry, "value", (struct md_value){.as.message = holder}, arena) &&
           md_message_add(config, (size_t)field, (struct md_value){.as.message = entry}, arena) &&
           md_message_settle_entry(config, (size_t)field, arena) == MD_MAP_OK;
}
