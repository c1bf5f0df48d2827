/*
 * The --config file as YAML events. A call reads one text; no state remains. Any thread.
 *
 * Accepted: one document, a mapping whose values are plain values, lists of them, or the list of
 * overlays ({pattern, config}). Anchors' aliases are refused: a small file could unfold into a huge
 * one. Text, nesting and the JSON made of overlays are bounded.
 */
#ifndef MD_CONFIG_YAML_H
#define MD_CONFIG_YAML_H

#include "base/diagnostics.h"

struct md_yaml_place {
    unsigned line, column; /* 1-based */
};

/* What the value of a top-level key may be. */
enum md_yaml_shape { MD_YAML_SKIP, MD_YAML_VALUE, MD_YAML_LIST, MD_YAML_OVERLAYS };

/* Views given to these live until they return. */
struct md_yaml_handler {
    void *arg;
    /* A top-level key: what is expected of its value. MD_YAML_SKIP after a complaint. */
    enum md_yaml_shape (*key)(void *arg, struct md_str name, struct md_yaml_place place);
    /* The value of that key, or one of several. Not called for an empty one (null). */
    void (*value)(void *arg, struct md_str value, struct md_yaml_place place);
    /* One overlay, its config as JSON whose line numbers are those of the text. */
    void (*overlay)(void *arg, struct md_str pattern, struct md_str config_json,
                    struct md_yaml_place place);
};

/* Calls the handler in the order of the text. Problems of form are reported with their place; after
 * those that leave the rest readable it goes on. False if it reported an error. */
bool md_yaml_read(struct md_str text, const char *file, const struct md_yaml_handler *handler,
                  struct md_diagnostics *diagnostics) MD_MUST_CHECK;

#endif
