/*
 * Options from flags, environment and file into the struct; help from the table.
 *
 * Values are taken in rising precedence: defaults, file, environment, flags. A list is replaced as
 * a whole by a stronger source, and appended to by further values of the same source.
 */
#include "config/options.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

enum source { SOURCE_DEFAULT, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_FLAG };

enum { OPTIONS_MAX = 192, LIST_MAX = 1024 };

struct parse {
    struct md_options *out;
    struct md_arena *arena;
    struct md_diagnostics *diagnostics;
    enum source source;
    const char *file; /* of SOURCE_FILE */
    unsigned line;
    enum source set_by[OPTIONS_MAX];
    bool warned[OPTIONS_MAX];
    size_t overlay_capacity;
    struct md_overlay *overlays;
};

static const struct md_option *find(struct md_str name)
{
    for (size_t i = 0; i < md_option_count; i++) {
        if (md_option_table[i].name && md_str_eq_c(name, md_option_table[i].name)) {
            return &md_option_table[i];
        }
    }
    return NULL;
}

static const char *nearest(struct md_str name)
{
    const char *found = NULL;
    unsigned best = 6;

    for (size_t i = 0; i < md_option_count; i++) {
        if (!md_option_table[i].name) {
            continue;
        }
        unsigned distance = md_str_distance(name, md_str_of(md_option_table[i].name), best);
        if (distance < best) {
            best = distance;
            found = md_option_table[i].name;
        }
    }
    return found;
}

static bool complain(struct parse *p, const char *format, ...) MD_PRINTF(2, 3);

static bool complain(struct parse *p, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return md_diagnose(p->diagnostics, MD_SEVERITY_ERROR, p->source == SOURCE_FILE ? p->file : NULL,
                       p->line, 0, "%s", text);
}

/* How a value was given, for messages: "--http-port", "MODELD_HTTP_PORT". */
static void print_origin(const struct parse *p, const struct md_option *option, char text[96])
{
    (void)snprintf(text, 96, "%s%s",
                   p->source == SOURCE_FLAG          ? "--"
                   : p->source == SOURCE_ENVIRONMENT ? "MODELD_"
                                                     : "",
                   option->name);
    for (char *c = text + 7; p->source == SOURCE_ENVIRONMENT && *c; c++) {
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    }
}

/* --- values -------------------- */

static bool read_bool(struct md_str value, bool *out)
{
    static const char *const words[] = {"false", "true", "0", "1", "off", "on", "no", "yes"};

    for (size_t i = 0; i < MD_COUNT_OF(words); i++) {
        if (md_str_eq_nocase(value, md_str_of(words[i]))) {
            *out = i % 2;
            return true;
        }
    }
    return false;
}

static bool read_size(struct md_str value, uint64_t *out)
{
    static const char units[] = "KMGT";
    unsigned shift = 0;

    if (value.len && (value.ptr[value.len - 1] == 'B' || value.ptr[value.len - 1] == 'b')) {
        value.len--;
    }
    if (value.len) {
        const char *unit = strchr(units, toupper((unsigned char)value.ptr[value.len - 1]));
        if (unit && *unit) {
            shift = 10 * (unsigned)(unit - units + 1);
            value.len--;
        }
    }
    uint64_t number;
    if (!md_str_to_u64(value, &number) || number > UINT64_MAX >> shift) {
        return false;
    }
    *out = number << shift;
    return true;
}

static bool in_range(const struct md_option *option, uint64_t value)
{
    struct md_str range = md_str_of(option->range), high;
    uint64_t low, top;
    ptrdiff_t dots = md_str_find(range, '.');

    high = md_str_make(range.ptr + dots + 2, range.len - (size_t)dots - 2);
    return read_size(md_str_make(range.ptr, (size_t)dots), &low) && read_size(high, &top) &&
           value >= low && value <= top;
}

static bool is_choice(const struct md_option *option, struct md_str value)
{
    struct md_str rest = md_str_of(option->range), piece;

    while (md_str_split(&rest, '|', &piece)) {
        if (md_str_eq(piece, value)) {
            return true;
        }
    }
    return false;
}

static bool append(struct parse *p, const struct md_option *option, const char *text, bool first)
{
    struct md_string_list *list =
        (struct md_string_list *)(void *)((char *)p->out + option->offset);

    if (first) {
        list->count = 0;
    }
    if (list->count == LIST_MAX) {
        return complain(p, "--%s is given more than %d times", option->name, LIST_MAX);
    }
    const char **items = md_arena_alloc(p->arena, (list->count + 1) * sizeof *items);
    if (!items) {
        return complain(p, "out of memory");
    }
    if (list->count) {
        memcpy(items, list->items, list->count * sizeof *items);
    }
    items[list->count++] = text;
    list->items = items;
    return true;
}

static bool store(struct parse *p, const struct md_option *option, struct md_str value, bool first)
{
    void *place = (char *)p->out + option->offset;
    char origin[96];
    uint64_t number;
    const char *text = md_arena_copy(p->arena, value).ptr;

    if (!text) {
        return complain(p, "out of memory");
    }
    print_origin(p, option, origin);
    switch (option->kind) {
    case MD_OPTION_BOOL:
        return read_bool(value, place) ||
               complain(p, "%s must be true or false, got '%s'", origin, text);
    case MD_OPTION_NUMBER:
    case MD_OPTION_SIZE:
        if (!(option->kind == MD_OPTION_SIZE ? read_size(value, &number)
                                             : md_str_to_u64(value, &number)) ||
            !in_range(option, number)) {
            return complain(p, "%s must be a %s in %s, got '%s'", origin,
                            option->kind == MD_OPTION_SIZE ? "size (K, M, G)" : "number",
                            option->range, text);
        }
        memcpy(place, &number, sizeof number);
        return true;
    case MD_OPTION_CHOICE:
        if (!is_choice(option, value)) {
            return complain(p, "%s must be one of %s, got '%s'", origin, option->range, text);
        }
        memcpy(place, &text, sizeof text);
        return true;
    case MD_OPTION_LIST:
        return append(p, option, text, first);
    default:
        memcpy(place, &text, sizeof text);
        return true;
    }
}

/* --- setting -------------------- */

static bool set(struct parse *p, struct md_str name, struct md_str value)
{
    const struct md_option *option = find(name);
    char origin[96];

    if (!option) {
        const char *near = nearest(name);
        const char *dashes = p->source == SOURCE_FLAG ? "--" : "";
        return near ? complain(p, "unknown option '%s%.*s', did you mean '%s%s'?", dashes,
                               MD_STR_ARG(name), dashes, near)
                    : complain(p, "unknown option '%s%.*s'; --help lists all", dashes,
                               MD_STR_ARG(name));
    }
    size_t index = (size_t)(option - md_option_table);
    print_origin(p, option, origin);
    if (option->status == MD_OPTION_REFUSED && !md_str_eq_c(value, option->range)) {
        return complain(p, "%s is not supported: %s", origin, option->help);
    }
    if (option->status != MD_OPTION_WORKS) {
        if (option->status == MD_OPTION_NO_EFFECT && !p->warned[index]) {
            (void)md_diagnose(p->diagnostics, MD_SEVERITY_WARNING, NULL, 0, 0,
                              "%s has no effect: %s", origin, option->help);
        }
        p->warned[index] = true;
        return true;
    }
    if (option->alias_of) {
        option = find(md_str_of(option->alias_of));
        index = (size_t)(option - md_option_table);
    }
    if (p->set_by[index] > p->source) {
        return true;
    }
    bool first = p->set_by[index] != p->source;
    p->set_by[index] = p->source;
    return store(p, option, value, first);
}

static void set_defaults(struct parse *p, bool triton)
{
    p->source = SOURCE_DEFAULT;
    for (size_t i = 0; i < md_option_count; i++) {
        const struct md_option *option = &md_option_table[i];
        const char *value = triton && option->triton_value ? option->triton_value : option->value;
        if (option->name && option->offset != SIZE_MAX && value) {
            (void)store(p, option, md_str_of(value), true);
        }
    }
}

static void take_flags(struct parse *p, int argc, char *const *argv)
{
    p->source = SOURCE_FLAG;
    for (int i = 1; i < argc; i++) {
        struct md_str flag = md_str_of(argv[i]), value;
        if (!md_str_starts_with(flag, MD_STR("--"))) {
            (void)complain(p, "unexpected argument '%s': options begin with --", argv[i]);
            continue;
        }
        flag = md_str_make(flag.ptr + 2, flag.len - 2);
        ptrdiff_t equals = md_str_find(flag, '=');
        struct md_str name = equals < 0 ? flag : md_str_make(flag.ptr, (size_t)equals);
        const struct md_option *option = find(name);
        if (equals >= 0) {
            value = md_str_make(flag.ptr + equals + 1, flag.len - (size_t)equals - 1);
        } else if (option && option->kind == MD_OPTION_BOOL) {
            bool ignored;
            bool follows = i + 1 < argc && read_bool(md_str_of(argv[i + 1]), &ignored);
            value = follows ? md_str_of(argv[++i]) : MD_STR("true");
        } else if (i + 1 < argc && option) {
            value = md_str_of(argv[++i]);
        } else if (option) {
            (void)complain(p, "--%s needs a value", option->name);
            continue;
        } else {
            value = MD_STR("");
        }
        (void)set(p, name, value);
    }
}

static void take_environment(struct parse *p, char *const *environment)
{
    p->source = SOURCE_ENVIRONMENT;
    for (; environment && *environment; environment++) {
        struct md_str entry = md_str_of(*environment);
        ptrdiff_t equals = md_str_find(entry, '=');
        char name[96];
        size_t len = 0;
        if (!md_str_starts_with(entry, MD_STR("MODELD_")) || equals < 8 ||
            equals >= (ptrdiff_t)sizeof name) {
            continue;
        }
        for (ptrdiff_t i = 7; i < equals; i++) {
            name[len++] = entry.ptr[i] == '_' ? '-' : (char)tolower((unsigned char)entry.ptr[i]);
        }
        struct md_str value = md_str_make(entry.ptr + equals + 1, entry.len - (size_t)equals - 1);
        if (find(md_str_make(name, len))) { /* other programs may use the prefix too */
            (void)set(p, md_str_make(name, len), value);
        }
    }
}

/* --- the file -------------------- */

static bool set_from_file(void *arg, struct md_str name, struct md_str value, unsigned line)
{
    struct parse *p = arg;
    char dashed[96];

    p->line = line;
    for (size_t i = 0; i < name.len && i < sizeof dashed; i++) {
        dashed[i] = name.ptr[i] == '_' ? '-' : name.ptr[i];
    }
    return set(p, md_str_make(dashed, md_size_min(name.len, sizeof dashed)), value);
}

static bool add_overlay(void *arg, struct md_str pattern, struct md_str config_json, unsigned line)
{
    struct parse *p = arg;
    size_t count = p->out->overlay_count;

    if (count == p->overlay_capacity) {
        size_t capacity = count ? count * 2 : 8;
        struct md_overlay *overlays = md_arena_alloc(p->arena, capacity * sizeof *overlays);
        if (!overlays) {
            return complain(p, "out of memory");
        }
        if (count) {
            memcpy(overlays, p->overlays, count * sizeof *overlays);
        }
        p->overlays = overlays;
        p->overlay_capacity = capacity;
    }
    p->overlays[count] = (struct md_overlay){.pattern = md_arena_copy(p->arena, pattern).ptr,
                                             .config_json = md_arena_copy(p->arena, config_json),
                                             .line = line};
    p->out->overlays = p->overlays;
    p->out->overlay_count++;
    return p->overlays[count].pattern != NULL;
}

static void take_file(struct parse *p, const struct md_file_reader *reader)
{
    const struct md_yaml_target target = {.arg = p, .set = set_from_file, .overlay = add_overlay};
    struct md_str text;
    struct md_error err;

    p->source = SOURCE_FILE;
    p->file = p->out->config_file;
    if (!reader->read(reader->arg, p->file, p->arena, &text, &err)) {
        p->source = SOURCE_FLAG;
        (void)complain(p, "--config: %s", err.text);
    } else if (!md_yaml_read(text, p->file, &target, p->arena, p->diagnostics)) {
        p->line = 0; /* reported with its own lines */
    }
    p->line = 0;
}

/* --- all together -------------------- */

/* Values that are needed before the others: which defaults, which file. */
static const char *early(const char *name, int argc, char *const *argv)
{
    size_t len = strlen(name);
    const char *found = NULL;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0 && strncmp(argv[i] + 2, name, len) == 0) {
            if (argv[i][2 + len] == '=') {
                found = argv[i] + 3 + len;
            } else if (argv[i][2 + len] == '\0' && i + 1 < argc) {
                found = argv[i + 1];
            }
        }
    }
    return found;
}

static void resolve_address(const char **address, const char *otherwise)
{
    if (strcmp(*address, "auto") == 0) {
        *address = otherwise;
    }
}

bool md_options_parse(int argc, char *const *argv, char *const *environment, bool in_container,
                      const struct md_file_reader *reader, struct md_arena *arena,
                      struct md_options *out, struct md_diagnostics *diagnostics)
{
    struct parse p = {.out = out, .arena = arena, .diagnostics = diagnostics};
    const char *compat = early("compat", argc, argv);
    const char *slash = strrchr(argv[0], '/');
    bool is_tritonserver = strcmp(slash ? slash + 1 : argv[0], "tritonserver") == 0;

    if (md_option_count > OPTIONS_MAX) {
        return complain(&p, "the option table has outgrown its parser");
    }
    *out = (struct md_options){0};
    set_defaults(&p, (compat && strcmp(compat, "triton") == 0) || (is_tritonserver && !compat));
    take_environment(&p, environment);
    take_flags(&p, argc, argv);
    if (out->config_file) {
        take_file(&p, reader);
    }
    resolve_address(&out->http_address, in_container ? "0.0.0.0" : "127.0.0.1");
    resolve_address(&out->metrics_address, out->http_address);
    return diagnostics->error_count == 0;
}

/* --- help -------------------- */

static const char *value_name(const struct md_option *option)
{
    static const char *const names[] = {"BOOL", "N", "SIZE", "TEXT", "CHOICE", "TEXT"};

    return option->kind == MD_OPTION_CHOICE ? option->range : names[option->kind];
}

void md_options_print_help(struct md_bytes *out)
{
    enum { TEXT_COLUMN = 38 };

    md_bytes_append_c(
        out,
        "usage: modeld --model-repository DIR [options]\n\nFlags are --name=value or --name value. Each may "
        "also be set as MODELD_<NAME> in the environment\nor in the --config file.\n");
    for (size_t i = 0; i < md_option_count; i++) {
        const struct md_option *option = &md_option_table[i];
        if (!option->name) {
            md_bytes_printf(out, "\n%s\n", option->help);
            continue;
        }
        size_t begin = out->len;
        md_bytes_printf(out, "  --%s", option->name);
        if (option->kind != MD_OPTION_BOOL) {
            md_bytes_printf(out, " %s", value_name(option));
        }
        size_t width = out->len - begin;
        md_bytes_printf(out, width < TEXT_COLUMN ? "%*s" : "\n%*s",
                        width < TEXT_COLUMN ? (int)(TEXT_COLUMN - width) : TEXT_COLUMN, "");
        if (option->status == MD_OPTION_NO_EFFECT) {
            md_bytes_printf(out, "(no effect: %s)\n", option->help);
        } else if (option->status == MD_OPTION_REFUSED) {
            md_bytes_printf(out, "(refused: %s)\n", option->help);
        } else if (option->alias_of) {
            md_bytes_printf(out, "Old name of --%s.\n", option->alias_of);
        } else {
            md_bytes_printf(out, "%s", option->help);
            if (option->value && option->kind != MD_OPTION_BOOL) {
                md_bytes_printf(out, " [%s]", option->value);
            } else if (option->value && strcmp(option->value, "true") == 0) {
                md_bytes_append_c(out, " [true]");
            }
            md_bytes_append_char(out, '\n');
        }
    }
}

void md_options_print_markdown(struct md_bytes *out)
{
    static const char *const statuses[] = {"works", "no effect", "refused"};

    md_bytes_append_c(
        out,
        "# Options\n\nWritten by `modeld --help-markdown` from the option table. Precedence: flag, environment "
        "`MODELD_<OPTION>`,\n`--config` file, default. The second default column is that of `--compat "
        "triton`.\n");
    for (size_t i = 0; i < md_option_count; i++) {
        const struct md_option *option = &md_option_table[i];
        if (!option->name) {
            md_bytes_printf(
                out,
                "\n## %s\n| option | value | default | `--compat triton` | status | |\n|---|---|---|---|---|---|\n",
                option->help);
            continue;
        }
        const char *value = option->value ? option->value : "";
        md_bytes_printf(out, "| `--%s` | ", option->name);
        for (const char *c = value_name(option); *c; c++) {
            md_bytes_append_c(out, *c == '|' ? "\\" : "");
            md_bytes_append_char(out, *c);
        }
        md_bytes_printf(
            out, "%s%s | %s | %s | %s | %s |\n",
            option->kind == MD_OPTION_NUMBER || option->kind == MD_OPTION_SIZE ? " " : "",
            (option->kind == MD_OPTION_NUMBER || option->kind == MD_OPTION_SIZE) && option->range
                ? option->range
                : "",
            value, option->triton_value ? option->triton_value : value, statuses[option->status],
            option->help);
    }
}
