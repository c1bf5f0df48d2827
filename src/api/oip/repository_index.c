/*
 * The repository index: which models and versions there are, and why some are not available.
 */
#include "api/oip/facts.h"
#include "api/oip/reply.h"
#include "api/oip/walk.h"
#include "codec/json.h"

static const char out_of_service_reason[] =
    "every instance is out of service: an execution takes, or took, longer than "
    "modeld_execution_timeout_ms";

/* What the index says of a version; true: it serves. */
static bool describe(const struct md_version *version, struct md_oip_index_entry *entry)
{
    const int state = atomic_load(&((struct md_version *)(uintptr_t)version)->state);
    const bool is_out = md_version_is_out_of_service(version);

    entry->version = version->number;
    entry->state =
        md_version_state_name(is_out ? MD_VERSION_UNAVAILABLE : (enum md_version_state)state);
    entry->reason = is_out ? out_of_service_reason : version->reason;
    return state == MD_VERSION_READY && !is_out;
}

void md_oip_index_entries(const struct md_model *model, bool ready_only,
                          void (*entry)(void *arg, const struct md_oip_index_entry *entry),
                          void *arg)
{
    const bool is_unavailable = *model->reason != '\0';
    const size_t count = model->version_count;
    struct md_oip_index_entry e = {.name = model->name};

    if (!is_unavailable && model->is_wanted) {
        for (size_t i = 0; i < count; i++) {
            if (describe(&model->versions[i], &e) || !ready_only) {
                entry(arg, &e);
            }
        }
    } else if (!ready_only) {
        e.version = count ? model->versions[count - 1].number : 0;
        e.state = is_unavailable ? "UNAVAILABLE" : "";
        e.reason = model->reason;
        entry(arg, &e);
    }
}

struct printer {
    struct md_oip_walk *walk;
    struct md_bytes *out;
};

static void append_entry(void *arg, const struct md_oip_index_entry *entry)
{
    const struct printer *p = arg;

    md_oip_walk_comma(p->walk, p->out);
    md_bytes_append_c(p->out, "{\"name\":");
    md_json_append_string(p->out, entry->name);
    if (*entry->state) {
        if (entry->version) {
            md_bytes_printf(p->out, ",\"version\":\"%lld\"", (long long)entry->version);
        }
        md_bytes_printf(p->out, ",\"state\":\"%s\"", entry->state);
    }
    if (*entry->reason) {
        md_bytes_append_c(p->out, ",\"reason\":");
        md_json_append_string(p->out, md_str_of(entry->reason));
    }
    md_bytes_append_char(p->out, '}');
}

static void append_model_entries(struct md_oip_walk *walk, const struct md_model *model,
                                 struct md_bytes *out)
{
    struct printer p = {.walk = walk, .out = out};

    md_oip_index_entries(model, walk->ready_only, append_entry, &p);
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
