/*
 * Schema: messages described by tables, and values of any message as a tree.
 *
 * A message is what a configuration file holds: fields by the order of its description. Values live
 * in the caller's arena; nothing is freed one by one. The tables (model_schema.c) follow the
 * field's ModelConfig; the readers (pbtxt.c, message_json.c) know nothing but them. Descriptions
 * are no deeper than MD_MESSAGE_DEPTH_MAX and do not recurse. One thread at a time.
 */
#ifndef MD_CONFIG_SCHEMA_H
#define MD_CONFIG_SCHEMA_H

#include "base/diagnostics.h"

enum {
    MD_MESSAGE_DEPTH_MAX = 16,      /* messages inside one another, map entries included */
    MD_MESSAGE_ERRORS_MAX = 20,     /* a reader gives up after so many */
    MD_MAP_ENTRIES_MAX = 4096,      /* keys of one map: each new one is compared with all */
    MD_CONFIG_STRING_MAX = 1 << 20, /* bytes of one string */
};

enum md_field_kind {
    MD_FIELD_BOOL,
    MD_FIELD_INT,    /* int32, int64: range by `bits` */
    MD_FIELD_UINT,   /* uint32, uint64 */
    MD_FIELD_DOUBLE, /* float, double */
    MD_FIELD_STRING,
    MD_FIELD_ENUM,
    MD_FIELD_MESSAGE,
    MD_FIELD_MAP, /* entries are messages of fields `key` and `value`, in this order */
};

/* What this version does with a field that is set. */
enum md_support {
    MD_SUPPORTED,
    MD_NO_EFFECT, /* accepted: results are the same without it */
    MD_REFUSED,   /* ignoring it would change results */
};

struct md_enum_value {
    const char *name;
    int32_t number;
};

struct md_message_desc;

struct md_field_desc {
    unsigned number; /* in the wire format */
    const char *name;
    enum md_field_kind kind;
    bool repeated;
    unsigned bits;                         /* of numbers: 32 or 64 */
    const struct md_message_desc *message; /* MESSAGE, MAP (its entry) */
    const struct md_enum_value *values;    /* ENUM, ended by a NULL name */
    unsigned oneof; /* group number; 0: none. Setting two fields of a group is an error */
    enum md_support support;
    const char *note; /* why it is refused or has no effect, and what to do */
};

struct md_message_desc {
    const char *name;
    const struct md_field_desc *fields;
    size_t field_count;
};

struct md_message;

struct md_value {
    union {
        struct md_str
            string; /* zero-terminated; the largest stands first, so that {0} clears all of it */
        bool boolean;
        int64_t integer; /* INT and ENUM */
        uint64_t natural;
        double number;
        struct md_message *message;
    } as;
};

struct md_field_values {
    struct md_value *items;
    size_t count;
    size_t capacity;
    const char *file; /* where the first value stands; NULL: set by the program */
    unsigned line;
};

struct md_message {
    const struct md_message_desc *desc;
    const char *file; /* where it was read */
    unsigned line;
    struct md_field_values *fields; /* one for each of desc->fields */
};

/* An empty message. NULL when out of memory. */
struct md_message *md_message_create(const struct md_message_desc *desc, struct md_arena *arena)
    MD_MUST_CHECK;

/* Index of a field by name, or -1. */
int md_message_field(const struct md_message_desc *desc, struct md_str name);
/* The field's name that is nearest to a wrong one, or NULL if none is near. */
const char *md_message_nearest_field(const struct md_message_desc *desc, struct md_str name);
/* Name of a set field that excludes `field` (the same oneof), or NULL. */
const char *md_message_rival(const struct md_message *message, size_t field);
/* True for fields that hold any number of values: repeated ones and maps. */
bool md_field_is_list(const struct md_field_desc *field);

/* Adds a value (replaces that of a field that is not repeated). False when out of memory. */
bool md_message_add(struct md_message *message, size_t field, struct md_value value,
                    struct md_arena *arena) MD_MUST_CHECK;

enum md_map_result { MD_MAP_OK, MD_MAP_FULL, MD_MAP_NO_MEMORY };
/* To be called when the last entry of a map is complete: it replaces an earlier one with its key,
 * and an absent value becomes an empty message. */
enum md_map_result md_message_settle_entry(struct md_message *message, size_t field,
                                           struct md_arena *arena) MD_MUST_CHECK;

/* Values by name; the field exists in the description (asserted). */
bool md_message_has(const struct md_message *message, const char *field);
size_t md_message_count(const struct md_message *message, const char *field);
/* The value at index, or a zeroed one when there are fewer. message may be NULL. */
struct md_value md_message_get(const struct md_message *message, const char *field, size_t index);
/* As md_message_get for a single message; NULL when not set. */
const struct md_message *md_message_child(const struct md_message *message, const char *field);
/* Sets a single value. */
bool md_message_set(struct md_message *message, const char *field, struct md_value value,
                    struct md_arena *arena) MD_MUST_CHECK;

/* Takes all values of a field away. */
void md_message_clear(struct md_message *message, const char *field);

/* Lays a copy of `over` over `base`: single values replace, messages merge, repeated fields replace
 * as a whole, maps key by key. False when out of memory; `base` is half changed then. */
bool md_message_merge(struct md_message *base, const struct md_message *over,
                      struct md_arena *arena) MD_MUST_CHECK;

/* An enum's value by name or number, or NULL; the name nearest to a wrong one, or NULL. */
const struct md_enum_value *md_enum_find(const struct md_enum_value *values, struct md_str name);
const struct md_enum_value *md_enum_find_number(const struct md_enum_value *values, int64_t number);
const char *md_enum_nearest(const struct md_enum_value *values, struct md_str name);

/* Reports every set field that is refused (error) or has no effect (`no_effect` severity), with the
 * place where it was set. Values that say what their absence says are passed over. */
void md_message_report_support(const struct md_message *message, enum md_severity no_effect,
                               struct md_diagnostics *diagnostics);
/* Prints "a, b": the fields that say something and are of this support; of the supported ones those
 * of the message itself, of others those inside too. */
void md_message_list_support(const struct md_message *message, enum md_support support,
                             struct md_bytes *out);

/* Reports at the place of the field's first value, or of the message where it has none. */
void md_message_diagnose(const struct md_message *message, const char *field,
                         enum md_severity severity, struct md_diagnostics *diagnostics,
                         const char *format, ...) MD_PRINTF(5, 6);

/* The readers fill an empty message. They report all errors of the text, up to
 * MD_MESSAGE_ERRORS_MAX, with file and line, and return false if there was any (or no memory). A
 * single field that is set twice is an error, as are two fields of a oneof; strings are UTF-8
 * without zero bytes. `file` is not copied. */

/* Protobuf text format (https://protobuf.dev/reference/protobuf/textformat-spec/) as people write
 * it. */
bool md_pbtxt_parse(struct md_str text, const char *file, struct md_message *message,
                    struct md_arena *arena, struct md_diagnostics *diagnostics) MD_MUST_CHECK;

/* The JSON mapping of protobuf: original field names or camelCase ones, int64 also as strings,
 * enums also as numbers, null for unset. */
bool md_message_parse_json(struct md_str text, const char *file, struct md_message *message,
                           struct md_arena *arena, struct md_diagnostics *diagnostics)
    MD_MUST_CHECK;
/* All fields that are no single messages and in no oneof are printed, set or not, as the field's
 * server does; int64 as numbers, NaN and infinities as strings. Out of memory: out->failed. */
void md_message_print_json(const struct md_message *message, struct md_bytes *out);

/* Appends the wire format of protobuf (proto3). Out of memory: out->failed. */
void md_message_print_protobuf(const struct md_message *message, struct md_bytes *out);

/* ModelConfig. */
extern const struct md_message_desc md_model_config_desc;

#endif
