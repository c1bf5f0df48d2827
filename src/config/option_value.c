/*
 * Reading values by their kind.
 */
#include "config/option_value.h"

#include <ctype.h>

enum { LIST_MAX = 1024 };

bool md_option_read_bool(struct md_str value, bool *out)
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

bool md_option_is_fine(const struct md_option *option, struct md_str value)
{
    bool given, fine;

    if (!option->fine) {
        return false;
    }
    if (option->kind == MD_OPTION_BOOL) {
        return md_option_read_bool(value, &given) &&
               md_option_read_bool(md_str_of(option->fine), &fine) && given == fine;
    }
    return md_str_eq_nocase(value, md_str_of(option->fine));
}

bool md_option_read_size(struct md_str value, uint64_t *out)
{
    static const char units[] = "KMGT";
    unsigned shift = 0;
    uint64_t number;

    if (value.len && toupper((unsigned char)value.ptr[value.len - 1]) == 'B') {
        value.len--;
    }
    if (value.len > 1 && value.ptr[value.len - 1] == 'i' &&
        isalpha((unsigned char)value.ptr[value.len - 2])) {
        value.len--;
    }
    for (unsigned i = 0; value.len && i < sizeof units - 1; i++) {
        if (toupper((unsigned char)value.ptr[value.len - 1]) == units[i]) {
            shift = 10 * (i + 1);
            value.len--;
            break;
        }
    }
    if (!md_str_to_u64(value, &number) || number > UINT64_MAX >> shift) {
        return false;
    }
    *out = number << shift;
    return true;
}

static bool is_in_range(const char *range, uint64_t value)
{
    const char *dots = strstr(range, "..");
    uint64_t low, high;

    return md_option_read_size(md_str_make(range, (size_t)(dots - range)), &low) &&
           md_option_read_size(md_str_of(dots + 2), &high) && value >= low && value <= high;
}

static bool store_number(const struct md_option *option, struct md_str value, uint64_t *out,
                         struct md_error *err)
{
    bool is_size = option->kind == MD_OPTION_SIZE;
    uint64_t number;

    if (!(is_size ? md_option_read_size(value, &number) : md_str_to_u64(value, &number)) ||
        !is_in_range(option->range, number)) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "must be a %s in %s, got '%.*s'",
                            is_size ? "size (such as 64M)" : "number", option->range,
                            MD_STR_ARG(value));
    }
    *out = number;
    return true;
}

static bool check_choice(const struct md_option *option, struct md_str value, struct md_error *err)
{
    struct md_str rest = md_str_of(option->range), piece;

    while (md_str_split(&rest, '|', &piece)) {
        if (md_str_eq(piece, value)) {
            return true;
        }
    }
    return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "must be one of %s, got '%.*s'",
                        option->range, MD_STR_ARG(value));
}

static bool check_setting(struct md_str value, struct md_error *err)
{
    ptrdiff_t comma = md_str_find(value, ','), equals = md_str_find(value, '=');
    ptrdiff_t key = comma >= 0 && comma < equals ? comma + 1 : 0;

    return equals > key ||
           md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "must be key=value or NAME,key=value, got '%.*s'", MD_STR_ARG(value));
}

static bool append(struct md_string_list *list, const char *text, struct md_arena *arena,
                   struct md_error *err)
{
    if (list->count == LIST_MAX) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "is given more than %d times",
                            LIST_MAX);
    }
    const char **items = md_arena_alloc(arena, (list->count + 1) * sizeof *items);
    if (!items) {
        return md_error_no_memory(err, "an option");
    }
    if (list->count) {
        memcpy(items, list->items, list->count * sizeof *items);
    }
    items[list->count++] = text;
    list->items = items;
    return true;
}

bool md_option_store(const struct md_option *option, struct md_str value, struct md_arena *arena,
                     struct md_options *out, struct md_error *err)
{
    void *field = (char *)out + option->offset;
    const char *text = md_arena_copy(arena, value).ptr;

    if (!text) {
        return md_error_no_memory(err, "an option");
    }
    if (md_str_find(value, '\0') >= 0) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "holds a zero byte");
    }
    switch (option->kind) {
    case MD_OPTION_ACTION:
    case MD_OPTION_BOOL:
        return md_option_read_bool(value, field) ||
               md_error_set(err, MD_REASON_INVALID_ARGUMENT, "must be true or false, got '%s'",
                            text);
    case MD_OPTION_NUMBER:
    case MD_OPTION_SIZE:
        return store_number(option, value, field, err);
    case MD_OPTION_LIST:
        return append(field, text, arena, err);
    case MD_OPTION_SETTINGS:
        return check_setting(value, err) && append(field, text, arena, err);
    case MD_OPTION_CHOICE:
        if (!check_choice(option, value, err)) {
            return false;
        }
        break;
    default:
        break;
    }
    memcpy(field, &text, sizeof text);
    return true;
}
