/*
 * The table of fields in docs/model_configuration.md says what the schema says.
 *
 * `test_model_reference --print` prints the table as it ought to stand there.
 */
#include "config/model_parameter.h"
#include "unit/config/reading.h"

#include <stdlib.h>
#include <string.h>

static const char doc_path[] = "../docs/model_configuration.md"; /* tests run in tests/ */
static const char begin_mark[] = "<!-- fields: begin -->\n";
static const char end_mark[] = "<!-- fields: end -->\n";

struct level {
    const struct md_message_desc *desc;
    size_t next;
    size_t path_len;
    const char *inherited; /* field whose judgement holds for all below it; NULL: none */
};

static const char *kind_name(const struct md_field_desc *field)
{
    switch (field->kind) {
    case MD_FIELD_BOOL:
        return "bool";
    case MD_FIELD_INT:
        return field->bits == 32 ? "int32" : "int64";
    case MD_FIELD_UINT:
        return field->bits == 32 ? "uint32" : "uint64";
    case MD_FIELD_DOUBLE:
        return "double";
    case MD_FIELD_STRING:
        return "string";
    case MD_FIELD_ENUM:
        return field->values[0].name;
    case MD_FIELD_MESSAGE:
        return "message";
    default:
        return "map";
    }
}

static void print_row(struct md_bytes *out, struct md_str path, const struct md_field_desc *field,
                      const char *inherited)
{
    static const char *const words[] = {"works", "no effect", "refused"};

    md_bytes_printf(out, "| `%.*s` | ", MD_STR_ARG(path));
    if (field->kind == MD_FIELD_ENUM) {
        for (const struct md_enum_value *value = field->values; value->name; value++) {
            md_bytes_printf(out, "%s%s", value == field->values ? "" : ", ", value->name);
        }
    } else {
        md_bytes_append_c(out, kind_name(field));
    }
    md_bytes_printf(out, "%s | ", field->repeated ? ", list" : "");
    if (inherited) {
        md_bytes_printf(out, "as `%s` | |\n", inherited);
    } else {
        md_bytes_printf(out, "%s | %s |\n", words[field->support], field->note ? field->note : "");
    }
}

/* Every field by its path; what lies in a map's value stands under the map's name. */
static void print_fields(struct md_bytes *out)
{
    struct level levels[MD_MESSAGE_DEPTH_MAX + 1] = {{.desc = &md_model_config_desc}};
    char path[512];
    size_t depth = 1;

    md_bytes_append_c(out, "| field | type | | |\n|---|---|---|---|\n");
    while (depth) {
        struct level *level = &levels[depth - 1];
        if (level->next == level->desc->field_count) {
            depth--;
            continue;
        }
        const struct md_field_desc *field = &level->desc->fields[level->next++];
        int n = snprintf(path + level->path_len, sizeof path - level->path_len, "%s%s",
                         depth > 1 ? "." : "", field->name);
        struct md_str whole = md_str_make(path, level->path_len + (size_t)n);
        print_row(out, whole, field, level->inherited);
        const struct md_message_desc *inner = field->message;
        if (field->kind == MD_FIELD_MAP) {
            inner = inner->fields[1].message; /* NULL for a map of strings */
        }
        if (inner && inner->field_count) {
            levels[depth++] = (struct level){
                .desc = inner,
                .path_len = whole.len,
                .inherited = level->inherited                 ? level->inherited
                             : field->support != MD_SUPPORTED ? field->name
                                                              : NULL,
            };
        }
    }
    md_bytes_append_c(out, "\n| parameter | values | |\n|---|---|---|\n");
    for (const struct md_model_parameter *known = md_model_parameters; known->name; known++) {
        md_bytes_printf(out, "| `%s` | ", known->name);
        md_model_parameter_print_values(known, out);
        md_bytes_printf(out, " | %s |\n", known->help);
    }
}

static void read_doc(struct md_bytes *out)
{
    FILE *file = fopen(doc_path, "r");
    char piece[4096];
    size_t n;

    assert_non_null(file);
    while ((n = fread(piece, 1, sizeof piece, file)) > 0) {
        md_bytes_append(out, piece, n);
    }
    fclose(file);
    md_bytes_append_char(out, '\0');
}

static void test_model_reference_is_current(void **state)
{
    struct md_bytes doc = {0}, table = {0};

    (void)state;
    read_doc(&doc);
    print_fields(&table);
    md_bytes_append_char(&table, '\0');
    char *begin = strstr(doc.data, begin_mark);
    char *end = begin ? strstr(begin, end_mark) : NULL;
    assert_true(begin && end);
    *end = '\0';
    begin += sizeof begin_mark - 1;
    if (strcmp(begin, table.data) != 0) {
        size_t i = 0;
        while (begin[i] == table.data[i]) {
            i++;
        }
        while (i && table.data[i - 1] != '\n') {
            i--;
        }
        fail_msg("the page says\n%.300s\nwhere the schema says\n%.300s\n"
                 "(--print prints the table as it ought to stand there)",
                 begin + i, table.data + i);
    }
    md_bytes_deinit(&doc);
    md_bytes_deinit(&table);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model_reference_is_current)};

    if (argc > 1 && strcmp(argv[1], "--print") == 0) {
        struct md_bytes table = {0};
        print_fields(&table);
        bool ok = !table.failed && fwrite(table.data, 1, table.len, stdout) == table.len;
        md_bytes_deinit(&table);
        return ok ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
