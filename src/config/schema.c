/*
 * Operations on messages that need nothing but their descriptions.
 */
#include "config/schema.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

/* A name is near another when no more than these edits lie between, fewer for short names. */
static unsigned near_edits(struct md_str name)
{
    return (unsigned)md_size_min(3, name.len / 2);
}

struct md_message *md_message_create(const struct md_message_desc *desc, struct md_arena *arena)
{
    struct md_message *message = md_arena_calloc(arena, 1, sizeof *message);

    if (message) {
        message->desc = desc;
        message->fields = md_arena_calloc(arena, desc->field_count, sizeof *message->fields);
    }
    return message && message->fields ? message : NULL;
}

int md_message_field(const struct md_message_desc *desc, struct md_str name)
{
    for (size_t i = 0; i < desc->field_count; i++) {
        if (md_str_eq_c(name, desc->fields[i].name)) {
            return (int)i;
        }
    }
    return -1;
}

const char *md_message_nearest_field(const struct md_message_desc *desc, struct md_str name)
{
    const char *nearest = NULL;
    unsigned best = near_edits(name) + 1;

    for (size_t i = 0; i < desc->field_count; i++) {
        unsigned distance = md_str_distance(name, md_str_of(desc->fields[i].name), best);
        if (distance < best) {
            best = distance;
            nearest = desc->fields[i].name;
        }
    }
    return nearest;
}

const char *md_message_rival(const struct md_message *message, size_t field)
{
    const struct md_message_desc *desc = message->desc;

    for (size_t i = 0; desc->fields[field].oneof && i < desc->field_count; i++) {
        if (i != field && desc->fields[i].oneof == desc->fields[field].oneof &&
            message->fields[i].count) {
            return desc->fields[i].name;
        }
    }
    return NULL;
}

bool md_field_is_list(const struct md_field_desc *field)
{
    return field->repeated || field->kind == MD_FIELD_MAP;
}

bool md_message_add(struct md_message *message, size_t field, struct md_value value,
                    struct md_arena *arena)
{
    struct md_field_values *values = &message->fields[field];

    if (values->count && !md_field_is_list(&message->desc->fields[field])) {
        values->items[0] = value;
        return true;
    }
    if (values->count == values->capacity) {
        size_t capacity = values->capacity ? values->capacity * 2 : 1;
        struct md_value *items = md_arena_alloc(arena, capacity * sizeof *items);
        if (!items) {
            return false;
        }
        if (values->count) {
            memcpy(items, values->items, values->count * sizeof *items);
        }
        values->items = items;
        values->capacity = capacity;
    }
    values->items[values->count++] = value;
    return true;
}

/* --- maps -------------------- */

static bool same_key(const struct md_message *a, const struct md_message *b)
{
    struct md_value x = md_message_get(a, "key", 0), y = md_message_get(b, "key", 0);

    return a->desc->fields[0].kind == MD_FIELD_STRING ? md_str_eq(x.as.string, y.as.string)
                                                      : x.as.natural == y.as.natural;
}

/* Index of the entry with the key of `entry` among the first `count`, or `count`. */
static size_t find_entry(const struct md_field_values *values, size_t count,
                         const struct md_message *entry)
{
    size_t i = 0;

    while (i < count && !same_key(values->items[i].as.message, entry)) {
        i++;
    }
    return i;
}

enum md_map_result md_message_settle_entry(struct md_message *message, size_t field,
                                           struct md_arena *arena)
{
    struct md_field_values *values = &message->fields[field];
    struct md_message *entry = values->items[values->count - 1].as.message;
    const struct md_field_desc *value = &entry->desc->fields[1];
    size_t earlier = find_entry(values, values->count - 1, entry);

    if (value->kind == MD_FIELD_MESSAGE && !entry->fields[1].count) {
        struct md_message *empty = md_message_create(value->message, arena);
        if (!empty || !md_message_add(entry, 1, (struct md_value){.as.message = empty}, arena)) {
            return MD_MAP_NO_MEMORY;
        }
    }
    if (earlier < values->count - 1) {
        values->items[earlier] = values->items[--values->count];
    }
    return values->count <= MD_MAP_ENTRIES_MAX ? MD_MAP_OK : MD_MAP_FULL;
}

/* --- values by name -------------------- */

static const struct md_field_values *values_of(const struct md_message *message, const char *name)
{
    int field = md_message_field(message->desc, md_str_of(name));

    assert(field >= 0);
    return &message->fields[field];
}

size_t md_message_count(const struct md_message *message, const char *field)
{
    return message ? values_of(message, field)->count : 0;
}

bool md_message_has(const struct md_message *message, const char *field)
{
    return md_message_count(message, field) > 0;
}

struct md_value md_message_get(const struct md_message *message, const char *field, size_t index)
{
    if (index >= md_message_count(message, field)) {
        return (struct md_value){
            .as.string = {NULL, 0}}; /* the widest member: clang zeroes only the named one */
    }
    return values_of(message, field)->items[index];
}

const struct md_message *md_message_child(const struct md_message *message, const char *field)
{
    return md_message_get(message, field, 0).as.message;
}

bool md_message_set(struct md_message *message, const char *field, struct md_value value,
                    struct md_arena *arena)
{
    int index = md_message_field(message->desc, md_str_of(field));

    assert(index >= 0);
    return md_message_add(message, (size_t)index, value, arena);
}

void md_message_clear(struct md_message *message, const char *field)
{
    int index = md_message_field(message->desc, md_str_of(field));

    assert(index >= 0);
    message->fields[index].count = 0;
}

/* --- enums -------------------- */

const struct md_enum_value *md_enum_find(const struct md_enum_value *values, struct md_str name)
{
    while (values->name && !md_str_eq_c(name, values->name)) {
        values++;
    }
    return values->name ? values : NULL;
}

const struct md_enum_value *md_enum_find_number(const struct md_enum_value *values, int64_t number)
{
    while (values->name && values->number != number) {
        values++;
    }
    return values->name ? values : NULL;
}

/* FP32 and fp32 for TYPE_FP32. */
static bool is_its_end(const char *value, struct md_str name)
{
    struct md_str whole = md_str_of(value);
    size_t prefix = whole.len - md_size_min(whole.len, name.len);

    return name.len && prefix > 1 && value[prefix - 1] == '_' &&
           md_str_eq_nocase(md_str_make(value + prefix, whole.len - prefix), name);
}

const char *md_enum_nearest(const struct md_enum_value *values, struct md_str name)
{
    const char *nearest = NULL;
    unsigned best = near_edits(name) + 1;

    for (; values->name; values++) {
        if (is_its_end(values->name, name)) {
            return values->name;
        }
        unsigned distance = md_str_distance(name, md_str_of(values->name), best);
        if (distance < best) {
            best = distance;
            nearest = values->name;
        }
    }
    return nearest;
}

/* --- walks: explicit stacks, no recursion -------------------- */

struct merge_work {
    struct merge_work *next;
    struct md_message *base;
    const struct md_message *over;
};

static bool queue_merge(struct merge_work **work, struct md_message *base,
                        const struct md_message *over, struct md_arena *arena)
{
    struct merge_work *item = md_arena_alloc(arena, sizeof *item);

    if (item) {
        *item = (struct merge_work){.next = *work, .base = base, .over = over};
        *work = item;
    }
    return item != NULL;
}

/* A copy of a value; what a message holds is copied later. */
static bool copy_value(const struct md_field_desc *field, struct md_value *value,
                       struct merge_work **work, struct md_arena *arena)
{
    if (field->kind != MD_FIELD_MESSAGE && field->kind != MD_FIELD_MAP) {
        return true;
    }
    const struct md_message *from = value->as.message;
    value->as.message = md_message_create(field->message, arena);
    return value->as.message && queue_merge(work, value->as.message, from, arena);
}

static bool merge_field(struct md_message *to, const struct md_message *from, size_t index,
                        struct merge_work **work, struct md_arena *arena)
{
    const struct md_field_desc *field = &to->desc->fields[index];
    const struct md_field_values *over = &from->fields[index];
    struct md_field_values *values = &to->fields[index];

    if (!over->count) {
        return true;
    }
    values->file = over->file;
    values->line = over->line;
    if (field->kind == MD_FIELD_MESSAGE && !field->repeated && values->count) {
        return queue_merge(work, values->items[0].as.message, over->items[0].as.message, arena);
    }
    const size_t kept = field->kind == MD_FIELD_MAP ? values->count : 0;
    values->count = kept;
    for (size_t k = 0; k < over->count; k++) {
        struct md_value value = over->items[k];
        size_t same = find_entry(values, kept, value.as.message);
        if (!copy_value(field, &value, work, arena)) {
            return false;
        }
        if (same < kept) {
            values->items[same] = value;
        } else if (!md_message_add(to, index, value, arena)) {
            return false;
        }
    }
    for (size_t k = 0; field->oneof && k < to->desc->field_count; k++) {
        if (k != index && to->desc->fields[k].oneof == field->oneof) {
            to->fields[k].count = 0; /* the other choices of the group give way */
        }
    }
    return true;
}

bool md_message_merge(struct md_message *base, const struct md_message *over,
                      struct md_arena *arena)
{
    struct merge_work *work = NULL;

    if (!queue_merge(&work, base, over, arena)) {
        return false;
    }
    while (work) {
        struct merge_work *item = work;
        work = item->next;
        if (!item->base->file) {
            item->base->file = item->over->file;
            item->base->line = item->over->line;
        }
        for (size_t i = 0; i < item->base->desc->field_count; i++) {
            if (!merge_field(item->base, item->over, i, &work, arena)) {
                return false;
            }
        }
    }
    return true;
}

/* A single value that says what its absence says, or no value. */
static bool is_unset(const struct md_field_desc *field, const struct md_field_values *values)
{
    if (!values->count || md_field_is_list(field)) {
        return values->count == 0;
    }
    switch (field->kind) {
    case MD_FIELD_BOOL:
        return !values->items[0].as.boolean;
    case MD_FIELD_INT:
    case MD_FIELD_ENUM:
    case MD_FIELD_UINT:
        return values->items[0].as.integer == 0;
    case MD_FIELD_STRING:
        return values->items[0].as.string.len == 0;
    default:
        return false;
    }
}

struct visit {
    void (*found)(const struct visit *visit, const struct md_message *message, size_t field);
    enum md_severity no_effect;
    struct md_diagnostics *diagnostics;
    enum md_support support;
    struct md_bytes *out;
};

/* Finds the fields that are set and not supported, wherever they stand. */
static void visit_unsupported(const struct md_message *message, const struct visit *visit)
{
    struct {
        const struct md_message *message;
        size_t field, index; /* what comes next */
    } stack[MD_MESSAGE_DEPTH_MAX] = {{.message = message}};
    size_t depth = 1;

    while (depth) {
        const struct md_message *at = stack[depth - 1].message;
        size_t i = stack[depth - 1].field, k = stack[depth - 1].index++;
        if (i == at->desc->field_count) {
            depth--;
            continue;
        }
        const struct md_field_desc *field = &at->desc->fields[i];
        bool nested = field->kind == MD_FIELD_MESSAGE || field->kind == MD_FIELD_MAP;
        if (nested && field->support == MD_SUPPORTED && k < at->fields[i].count) {
            assert(depth < MD_COUNT_OF(stack));
            stack[depth].message = at->fields[i].items[k].as.message;
            stack[depth].field = stack[depth].index = 0;
            depth++;
            continue;
        }
        if (field->support != MD_SUPPORTED && !is_unset(field, &at->fields[i])) {
            visit->found(visit, at, i);
        }
        stack[depth - 1].field++;
        stack[depth - 1].index = 0;
    }
}

static void report_field(const struct visit *visit, const struct md_message *message, size_t index)
{
    const struct md_field_desc *field = &message->desc->fields[index];
    const struct md_field_values *values = &message->fields[index];
    bool refused = field->support == MD_REFUSED;

    (void)md_diagnose(visit->diagnostics, refused ? MD_SEVERITY_ERROR : visit->no_effect,
                      values->file, values->line, 0, "'%s' in %s %s: %s", field->name,
                      message->desc->name, refused ? "is not supported" : "has no effect",
                      field->note);
}

void md_message_report_support(const struct md_message *message, enum md_severity no_effect,
                               struct md_diagnostics *diagnostics)
{
    const struct visit visit = {
        .found = report_field, .no_effect = no_effect, .diagnostics = diagnostics};

    visit_unsupported(message, &visit);
}

static void list_field(const struct visit *visit, const struct md_message *message, size_t index)
{
    const struct md_field_desc *field = &message->desc->fields[index];

    if (field->support == visit->support) {
        md_bytes_printf(visit->out, "%s%s", visit->out->len ? ", " : "", field->name);
    }
}

void md_message_list_support(const struct md_message *message, enum md_support support,
                             struct md_bytes *out)
{
    const struct visit visit = {.found = list_field, .support = support, .out = out};

    if (support != MD_SUPPORTED) {
        visit_unsupported(message, &visit);
        return;
    }
    for (size_t i = 0; i < message->desc->field_count; i++) {
        if (!is_unset(&message->desc->fields[i], &message->fields[i])) {
            list_field(&visit, message, i);
        }
    }
}

void md_message_diagnose(const struct md_message *message, const char *field,
                         enum md_severity severity, struct md_diagnostics *diagnostics,
                         const char *format, ...)
{
    const struct md_field_values *values = values_of(message, field);
    bool here = values->count && values->line;
    char text[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)md_diagnose(diagnostics, severity, here ? values->file : message->file,
                      here ? values->line : message->line, 0, "%s", text);
}
