/*
 * JSON Schema (https://json-schema.org/draft/2020-12/schema) of the --config file, for editors.
 *
 * Made of the option table and of the model configuration's tables. Each message is one definition
 * that others refer to, so nothing nests; definitions are found while they are printed.
 */
#include "codec/json.h"
#include "config/option_table.h"
#include "config/schema.h"

enum { DEFINITIONS_MAX = 128 };

struct definitions {
    const struct md_message_desc *items[DEFINITIONS_MAX];
    size_t count;
};

static void append_text(struct md_bytes *out, const char *key, const char *text)
{
    md_bytes_printf(out, ",\"%s\":", key);
    md_json_append_string(out, md_str_of(text));
}

/* --- options -------------------- */

static void append_choices(struct md_bytes *out, const char *choices)
{
    struct md_str rest = md_str_of(choices), choice;

    md_bytes_append_c(out, "\"enum\":[");
    while (md_str_split(&rest, '|', &choice)) {
        md_json_append_string(out, choice);
        md_bytes_append_c(out, rest.len ? "," : "]");
    }
}

static void append_range(struct md_bytes *out, const char *range)
{
    const char *dots = strstr(range, "..");

    md_bytes_printf(out, "\"type\":\"integer\",\"minimum\":%.*s,\"maximum\":%s",
                    (int)(dots - range), range, dots + 2);
}

static void append_option_type(struct md_bytes *out, const struct md_option *option)
{
    static const char list[] =
        "\"type\":[\"array\",\"string\"],\"items\":{\"type\":[\"string\",\"number\",\"boolean\"]}";
    static const char *const types[MD_OPTION_KIND_COUNT] = {
        [MD_OPTION_BOOL] = "\"type\":\"boolean\"",
        [MD_OPTION_NUMBER] = "\"type\":\"number\"", /* of another server: it is not read */
        [MD_OPTION_SIZE] =
            "\"type\":[\"integer\",\"string\"],\"pattern\":\"^[0-9]+([KMGTkmgt]i?)?[Bb]?$\"",
        [MD_OPTION_TEXT] = "\"type\":[\"string\",\"number\"]",
        [MD_OPTION_LIST] = list,
        [MD_OPTION_SETTINGS] = list,
    };

    if (option->kind == MD_OPTION_CHOICE) {
        append_choices(out, option->range);
    } else if (option->kind == MD_OPTION_NUMBER && option->range) {
        append_range(out, option->range);
    } else {
        md_bytes_append_c(out, types[option->kind]);
    }
}

static void append_default(struct md_bytes *out, const struct md_option *option)
{
    const bool is_bare = option->kind == MD_OPTION_BOOL || option->kind == MD_OPTION_NUMBER;

    if (option->value && is_bare) {
        md_bytes_printf(out, ",\"default\":%s", option->value);
    } else if (option->value) {
        append_text(out, "default", option->value);
    }
}

static bool may_stand_in_a_file(const struct md_option *option)
{
    return option->name && option->kind != MD_OPTION_ACTION &&
           option->status != MD_OPTION_REFUSED &&
           option->offset != offsetof(struct md_options, config_file);
}

static void append_options(struct md_bytes *out)
{
    for (size_t i = 0; i < md_option_count; i++) {
        const struct md_option *option = &md_option_table[i];
        if (!may_stand_in_a_file(option)) {
            continue;
        }
        md_bytes_printf(out, "\"%s\":{", option->name);
        append_option_type(out, option);
        append_text(out, "description", option->help);
        append_default(out, option);
        md_bytes_append_c(out, option->status == MD_OPTION_NO_EFFECT ? ",\"deprecated\":true},\n"
                                                                     : "},\n");
    }
}

/* --- model configurations -------------------- */

static size_t definition_of(struct definitions *definitions, const struct md_message_desc *desc,
                            struct md_bytes *out)
{
    size_t i = 0;

    while (i < definitions->count && definitions->items[i] != desc) {
        i++;
    }
    if (i == DEFINITIONS_MAX) {
        out->failed = true;
        return 0;
    }
    definitions->items[i] = desc;
    definitions->count = md_size_max(definitions->count, i + 1);
    return i;
}

static void append_scalar_type(struct md_bytes *out, const struct md_field_desc *field)
{
    static const char *const types[] = {
        [MD_FIELD_BOOL] = "\"type\":\"boolean\"",
        [MD_FIELD_INT] = "\"type\":[\"integer\",\"string\"]",
        [MD_FIELD_UINT] = "\"type\":[\"integer\",\"string\"]",
        [MD_FIELD_DOUBLE] = "\"type\":[\"number\",\"string\"]",
        [MD_FIELD_STRING] = "\"type\":\"string\"",
    };

    if (field->kind != MD_FIELD_ENUM) {
        md_bytes_append_c(out, types[field->kind]);
        return;
    }
    md_bytes_append_c(out, "\"enum\":[");
    for (const struct md_enum_value *value = field->values; value->name; value++) {
        md_bytes_printf(out, "\"%s\",%d%s", value->name, value->number, value[1].name ? "," : "]");
    }
}

/* A value of the field; of a map, the value behind a key. */
static void append_value(struct md_bytes *out, const struct md_field_desc *field,
                         struct definitions *definitions)
{
    if (field->kind == MD_FIELD_MAP) {
        field = &field->message->fields[1];
    }
    if (field->kind == MD_FIELD_MESSAGE) {
        md_bytes_printf(out, "\"$ref\":\"#/$defs/%zu\"",
                        definition_of(definitions, field->message, out));
    } else {
        append_scalar_type(out, field);
    }
}

static void append_field(struct md_bytes *out, const struct md_field_desc *field,
                         struct definitions *definitions)
{
    const bool is_map = field->kind == MD_FIELD_MAP;

    md_bytes_printf(out, "\"%s\":{", field->name);
    if (field->repeated || is_map) {
        md_bytes_append_c(out, is_map ? "\"type\":\"object\",\"additionalProperties\":{"
                                      : "\"type\":\"array\",\"items\":{");
    }
    append_value(out, field, definitions);
    if (field->repeated || is_map) {
        md_bytes_append_char(out, '}');
    }
    if (field->note) {
        append_text(out, "description", field->note);
        md_bytes_append_c(out, ",\"deprecated\":true");
    }
    md_bytes_append_char(out, '}');
}

static void append_definitions(struct md_bytes *out)
{
    struct definitions definitions = {.items = {&md_model_config_desc}, .count = 1};

    for (size_t i = 0; i < definitions.count; i++) {
        const struct md_message_desc *desc = definitions.items[i];
        md_bytes_printf(out, "%s\"%zu\":{\"title\":\"%s\",\"type\":\"object\",", i ? ",\n" : "", i,
                        desc->name);
        md_bytes_append_c(out, "\"additionalProperties\":false,\"properties\":{");
        for (size_t k = 0; k < desc->field_count; k++) {
            md_bytes_append_c(out, k ? "," : "");
            append_field(out, &desc->fields[k], &definitions);
        }
        md_bytes_append_c(out, "}}");
    }
}

void md_options_print_schema(struct md_bytes *out)
{
    md_bytes_append_c(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\n"
                           "\"title\":\"modeld --config\",\"type\":\"object\","
                           "\"additionalProperties\":false,\"properties\":{\n");
    append_options(out);
    md_bytes_append_c(out, "\"models\":{\"type\":\"array\",\"items\":{\"type\":\"object\","
                           "\"additionalProperties\":false,\"required\":[\"pattern\",\"config\"],"
                           "\"properties\":{\"pattern\":{\"type\":\"string\"},"
                           "\"config\":{\"$ref\":\"#/$defs/0\"}}}}},\n\"$defs\":{\n");
    append_definitions(out);
    md_bytes_append_c(out, "}}\n");
}
