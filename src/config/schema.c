/*
 * Operations on messages that need nothing but their descriptions.
 */
#include "config/schema.h"

#include <assert.h>

enum { DEPTH_MAX = 32 };

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
    unsigned best = 4;

    for (size_t i = 0; i < desc->field_count; i++) {
        unsigned distance = md_str_distance(name, md_str_of(desc->fields[i].name), best);
        if (distance < best) {
            best = distance;
            nearest = desc->fields[i].name;
        }
    }
    return nearest;
}

bool md_message_add(struct md_message *message, size_t field, struct md_value value,
                    struct md_arena *arena)
{
    struct md_field_values *values = &message->fields[field];
    bool repeated =
        message->desc->fields[field].repeated || message->desc->fields[field].kind == MD_FIELD_MAP;

    if (!repeated && values->count) {
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

const char *md_enum_name(const struct md_enum_value *values, int64_t number)
{
    for (; values->name; values++) {
        if (values->number == number) {
            return values->name;
        }
    }
    return NULL;
}

/* --- walks: an explicit list of work, since the depth comes from a file -------------------- */

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

/* Adds a copy: messages are copied whole, later. */
static bool add_copy(struct md_message *to, size_t index, struct md_value value,
                     struct merge_work **work, struct md_arena *arena)
{
    const struct md_field_desc *field = &to->desc->fields[index];

    if (field->kind == MD_FIELD_MESSAGE || field->kind == MD_FIELD_MAP) {
        const struct md_message *from = value.as.message;
        struct md_message *copy = md_message_create(field->message, arena);
        if (!copy || !queue_merge(work, copy, from, arena)) {
            return false;
        }
        copy->file = from->file;
        copy->line = from->line;
        value.as.message = copy;
    }
    return md_message_add(to, index, value, arena);
}

static bool merge_field(struct md_message *to, const struct md_message *from, size_t index,
                        struct merge_work **work, struct md_arena *arena)
{
    const struct md_field_desc *field = &to->desc->fields[index];
    const struct md_field_values *values = &from->fields[index];

    if (!values->count) {
        return true;
    }
    if (field->kind == MD_FIELD_MESSAGE && !field->repeated && to->fields[index].count) {
        return queue_merge(work, to->fields[index].items[0].as.message, values->items[0].as.message,
                           arena);
    }
    to->fields[index].count = 0;
    for (size_t k = 0; k < values->count; k++) {
        if (!add_copy(to, index, values->items[k], work, arena)) {
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

static bool is_unset(const struct md_field_desc *field, const struct md_field_values *values)
{
    /* A single value that says what its absence says. */
    if (!values->count || field->repeated) {
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

void md_message_report_support(const struct md_message *message, enum md_severity no_effect,
                               struct md_diagnostics *diagnostics)
{
    const struct md_message *stack[DEPTH_MAX * 8] = {message};
    size_t depth = 1;

    while (depth) {
        const struct md_message *at = stack[--depth];
        for (size_t i = 0; i < at->desc->field_count; i++) {
            const struct md_field_desc *field = &at->desc->fields[i];
            const struct md_field_values *values = &at->fields[i];
            if (is_unset(field, values)) {
                continue;
            }
            unsigned line =
                field->kind == MD_FIELD_MESSAGE ? values->items[0].as.message->line : at->line;
            if (field->support == MD_REFUSED) {
                (void)md_diagnose(diagnostics, MD_SEVERITY_ERROR, at->file, line, 0,
                                  "'%s' in %s is not supported: %s", field->name, at->desc->name,
                                  field->note);
            } else if (field->support == MD_NO_EFFECT) {
                (void)md_diagnose(diagnostics, no_effect, at->file, line, 0,
                                  "'%s' in %s has no effect: %s", field->name, at->desc->name,
                                  field->note);
            } else if (field->kind == MD_FIELD_MESSAGE) {
                for (size_t k = 0; k < values->count && depth < MD_COUNT_OF(stack); k++) {
                    stack[depth++] = values->items[k].as.message;
                }
            }
        }
    }
}
