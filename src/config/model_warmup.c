/*
 * Checks of model_warmup against the rest of the configuration. What the configuration leaves to
 * the model is compared when it is loaded (model/warm_up.c).
 */
#include "config/model_config.h"
#include "config/model_config_internal.h"

#include <stdio.h>

/* Names a sample in sentences: by its name, else by its number. */
struct sample {
    const struct md_message *config, *message;
    char title[160];
};

static const struct md_message *find_input(const struct md_message *config, struct md_str name)
{
    for (size_t i = 0; i < md_message_count(config, "input"); i++) {
        const struct md_message *input = item(config, "input", i);
        if (md_str_eq(text_of(input, "name"), name)) {
            return input;
        }
    }
    return NULL;
}

static const struct md_message *find_entry(const struct md_message *sample, struct md_str name)
{
    for (size_t i = 0; i < md_message_count(sample, "inputs"); i++) {
        const struct md_message *entry = item(sample, "inputs", i);
        if (md_str_eq(text_of(entry, "key"), name)) {
            return entry;
        }
    }
    return NULL;
}

/* False: nobody runs it. */
static bool check_size(const struct sample *s, struct md_diagnostics *diagnostics)
{
    const uint64_t rows = natural_of(s->message, "batch_size");
    const int64_t max = integer_of(s->config, "max_batch_size", 0);
    const uint64_t most = max > 1 ? (uint64_t)max : 1;

    if (rows == 0) {
        warn(diagnostics, s->message, "batch_size",
             "%s is passed over without a batch_size from 1 on, as in the field", s->title);
    } else if (md_message_has(s->config, "max_batch_size") && rows > most) {
        complain(diagnostics, s->message, "batch_size",
                 "%s: batch_size %llu is larger than the %llu that max_batch_size %lld allows",
                 s->title, (unsigned long long)rows, (unsigned long long)most, (long long)max);
    }
    return rows > 0;
}

/* The field takes three spellings of what to send: one of them has to be there. */
static void check_data(const struct sample *s, struct md_str name, const struct md_message *data,
                       struct md_diagnostics *diagnostics)
{
    struct md_str file = text_of(data, "input_data_file");

    if (!md_message_has(data, "zero_data") && !md_message_has(data, "random_data") &&
        !md_message_has(data, "input_data_file")) {
        complain(diagnostics, data, "data_type",
                 "%s, input '%.*s': one of zero_data, random_data and input_data_file says what is "
                 "sent",
                 s->title, MD_STR_ARG(name));
    }
    if (md_message_has(data, "input_data_file") &&
        (!file.len || !md_model_config_is_inside(file))) {
        complain(diagnostics, data, "input_data_file",
                 "%s, input '%.*s': input_data_file '%.*s' must be the name of a file in the "
                 "model's folder " MD_WARMUP_FOLDER,
                 s->title, MD_STR_ARG(name), MD_STR_ARG(file));
    }
    if (!integer_of(data, "data_type", 0)) {
        complain(diagnostics, data, "data_type", "%s, input '%.*s': the data_type is missing",
                 s->title, MD_STR_ARG(name));
    }
    for (size_t i = 0; i < md_message_count(data, "dims"); i++) {
        if (integer_of(data, "dims", i) < 0) {
            complain(diagnostics, data, "dims",
                     "%s, input '%.*s': dims are sizes, without -1 and without the batch; got %lld",
                     s->title, MD_STR_ARG(name), (long long)integer_of(data, "dims", i));
        }
    }
}

static bool dims_fit(const struct md_message *input, const struct md_message *data)
{
    const size_t count = md_message_count(input, "dims");

    if (count && count != md_message_count(data, "dims")) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        int64_t dim = integer_of(input, "dims", i);
        if (dim != -1 && dim != integer_of(data, "dims", i)) {
            return false;
        }
    }
    return true;
}

static void compare(const struct sample *s, struct md_str name, const struct md_message *data,
                    struct md_diagnostics *diagnostics)
{
    const struct md_message *input = find_input(s->config, name);

    if (!input) {
        return; /* the model may have it */
    }
    if (integer_of(input, "data_type", 0) && integer_of(data, "data_type", 0) &&
        integer_of(input, "data_type", 0) != integer_of(data, "data_type", 0)) {
        complain(diagnostics, data, "data_type",
                 "%s, input '%.*s': the data_type is not that of the model's input", s->title,
                 MD_STR_ARG(name));
    }
    if (!dims_fit(input, data)) {
        complain(diagnostics, data, "dims",
                 "%s, input '%.*s': the dims are none that the model's input takes (without the "
                 "batch)",
                 s->title, MD_STR_ARG(name));
    }
}

static void check_sample(const struct sample *s, struct md_diagnostics *diagnostics)
{
    if (!check_size(s, diagnostics)) {
        return;
    }
    for (size_t i = 0; i < md_message_count(s->message, "inputs"); i++) {
        const struct md_message *entry = item(s->message, "inputs", i);
        const struct md_message *data = md_message_child(entry, "value");
        struct md_str name = text_of(entry, "key");
        if (data) { /* else reading it had no memory */
            check_data(s, name, data, diagnostics);
            compare(s, name, data, diagnostics);
        }
    }
    for (size_t i = 0; i < md_message_count(s->config, "input"); i++) {
        const struct md_message *input = item(s->config, "input", i);
        struct md_str name = text_of(input, "name");
        if (!md_message_get(input, "optional", 0).as.boolean && name.len &&
            !find_entry(s->message, name)) {
            complain(diagnostics, s->message, "inputs", "%s: the input '%.*s' is missing", s->title,
                     MD_STR_ARG(name));
        }
    }
}

void md_model_config_check_warmup(const struct md_message *config,
                                  struct md_diagnostics *diagnostics)
{
    for (size_t i = 0; i < md_message_count(config, "model_warmup"); i++) {
        struct sample s = {.config = config, .message = item(config, "model_warmup", i)};
        md_model_config_warmup_title(s.message, i, s.title, sizeof s.title);
        check_sample(&s, diagnostics);
    }
}

void md_model_config_warmup_title(const struct md_message *sample, size_t index, char *out,
                                  size_t size)
{
    enum { SHOWN = 100 };
    struct md_str name = text_of(sample, "name");

    if (name.len) {
        (void)snprintf(out, size, "warm-up sample '%.*s'", (int)md_size_min(name.len, SHOWN),
                       name.ptr);
    } else {
        (void)snprintf(out, size, "warm-up sample %zu", index + 1);
    }
}
