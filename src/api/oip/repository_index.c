/*
 * The repository index: which models and versions there are, and why some are not available.
 */
#include "api/oip/reply.h"
#include "codec/json.h"
#include "api/oip/walk.h"

static void append_entry(struct md_bytes *text, struct md_str name, int64_t version,
                         const char *state, const char *reason)
{
    md_bytes_append_c(text, "{\"name\":");
    md_json_append_string(text, name);
    if (*state) {
        if (version) {
            md_bytes_printf(text, ",\"version\":\"%lld\"", (long long)version);
        }
        md_bytes_printf(text, ",\"state\":\"%s\"", state);
    }
    if (*reason) {
        md_bytes_append_c(text, ",\"reason\":");
        md_json_append_string(text, md_str_of(reason));
    }
    md_bytes_append_char(text, '}');
}

static bool wants_ready_only(struct md_exchange *x, bool *ready, struct md_error *err)
{
    struct md_json json;

    *ready = false;
    if (!x->body.len) {
        return true;
    }
    md_json_init(&json, x->body, &x->arena, 16);
    if (md_json_next(&json) != MD_JSON_OBJECT_BEGIN) {
        return md_error_set(err, MD_REASON_MALFORMED, "the request must be a JSON object");
    }
    while (md_json_next(&json) == MD_JSON_KEY) {
        bool is_ready_key = md_str_eq_c(json.text, "ready");
        enum md_json_token token = is_ready_key ? md_json_next(&json) : MD_JSON_NULL;
        if (is_ready_key && token != MD_JSON_TRUE && token != MD_JSON_FALSE) {
            return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "'ready' must be a boolean");
        }
        *ready |= token == MD_JSON_TRUE;
        if (!is_ready_key && !md_json_skip(&json)) {
            break;
        }
    }
    if (json.failed || md_json_next(&json) != MD_JSON_END) {
        *err = json.error;
        return false;
    }
    return true;
}

static void append_versions(struct md_oip_walk *walk, const struct md_model *model,
                            struct md_bytes *out)
{
    for (size_t k = 0; k < model->version_count; k++) {
        const struct md_version *version = &model->versions[k];
        enum md_version_state state =
            (enum md_version_state)atomic_load(&((struct md_version *)(uintptr_t)version)->state);
        if (!walk->ready_only || state == MD_VERSION_READY) {
            md_oip_walk_comma(walk, out);
            append_entry(out, model->name, version->number, md_version_state_name(state),
                         version->reason);
        }
    }
}

static void append_model_entries(struct md_oip_walk *walk, const struct md_model *model,
                                 struct md_bytes *out)
{
    const bool is_unavailable = *model->reason != '\0';
    const size_t count = model->version_count;

    if (!is_unavailable && model->is_wanted) {
        append_versions(walk, model, out);
    } else if (!walk->ready_only) {
        md_oip_walk_comma(walk, out);
        append_entry(out, model->name, count ? model->versions[count - 1].number : 0,
                     is_unavailable ? "UNAVAILABLE" : "", model->reason);
    }
}

void md_oip_post_index(struct md_exchange *x)
{
    struct md_oip_walk walk = {.open = "[", .close = "]", .append = append_model_entries};
    struct md_error err;

    if (wants_ready_only(x, &walk.ready_only, &err)) {
        md_oip_walk_reply(x, &walk);
    } else {
        md_oip_reply_error(x, &err);
    }
}
