/*
 * Registering shared memory over REST (the field's extension_shared_memory).
 */
#include "api/oip/endpoints.h"
#include "api/oip/reply.h"
#include "codec/json.h"

static void reply_done(struct md_exchange *x)
{
    const struct md_http_response response = {.status = 200, .content_type = "application/json"};

    md_exchange_respond(x, &response);
}

/* --- register -------------------- */

struct registration {
    struct md_region_info info;
    bool has_key, has_bytes;
};

static bool take_number(struct md_json *json, const char *key, uint64_t *out, struct md_error *err)
{
    return (md_json_next(json) == MD_JSON_NUMBER && md_json_to_u64(json->text, out)) ||
           json->failed ||
           md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "Unable to parse '%s': it must be a natural number", key);
}

static bool take_field(struct md_json *json, struct md_str key, struct md_arena *arena,
                       struct registration *out, struct md_error *err)
{
    if (md_str_eq_c(key, "key")) {
        if (md_json_next(json) != MD_JSON_STRING) {
            return json->failed || md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                                "Unable to parse 'key': it must be a string");
        }
        out->has_key = true;
        out->info.key = md_arena_copy(arena, json->text);
        return out->info.key.ptr || md_error_no_memory(err, "the request");
    }
    if (md_str_eq_c(key, "offset")) {
        return take_number(json, "offset", &out->info.offset, err);
    }
    if (md_str_eq_c(key, "byte_size")) {
        out->has_bytes = true;
        return take_number(json, "byte_size", &out->info.bytes, err);
    }
    return md_json_skip(json) || json->failed;
}

static bool read_registration(struct md_exchange *x, struct registration *out, struct md_error *err)
{
    struct md_json json;
    bool ok = true;

    md_json_init(&json, x->body, &x->arena, 16);
    if (x->body.len && md_json_next(&json) != MD_JSON_OBJECT_BEGIN) {
        return md_error_set(err, MD_REASON_MALFORMED, "the request must be a JSON object");
    }
    while (x->body.len && ok && md_json_next(&json) == MD_JSON_KEY) {
        ok = take_field(&json, json.text, &x->arena, out, err);
    }
    if (!ok) {
        return false;
    }
    if (json.failed || (x->body.len && md_json_next(&json) != MD_JSON_END)) {
        *err = json.error;
        return false;
    }
    return (out->has_key && out->has_bytes) ||
           md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "Shared memory register request has no '%s' field",
                        out->has_key ? "byte_size" : "key");
}

void md_oip_register_system(struct md_exchange *x)
{
    struct registration registration = {.info.name = x->captures[0]};
    struct md_regions *regions = md_oip_of(x)->regions;
    struct md_error err;

    if ((!regions || read_registration(x, &registration, &err)) &&
        md_regions_register(regions, &registration.info, &err)) {
        reply_done(x);
    } else {
        md_oip_reply_error(x, &err);
    }
}

void md_oip_register_cuda(struct md_exchange *x)
{
    struct md_error err;

    (void)md_regions_register_cuda(md_oip_of(x)->regions, x->captures[0], &err);
    md_oip_reply_error(x, &err);
}

/* --- unregister -------------------- */

void md_oip_unregister_system(struct md_exchange *x)
{
    struct md_error err;

    if (md_regions_unregister(md_oip_of(x)->regions, x->captures[0], &err)) {
        reply_done(x);
    } else {
        md_oip_reply_error(x, &err);
    }
}

/* None is registered, so none is left. */
void md_oip_unregister_cuda(struct md_exchange *x)
{
    struct md_error err;

    if (md_oip_of(x)->regions) {
        reply_done(x);
    } else {
        (void)md_regions_register_cuda(NULL, x->captures[0], &err);
        md_oip_reply_error(x, &err);
    }
}

/* --- status -------------------- */

static void append_region(struct md_bytes *text, const struct md_region_info *info)
{
    md_bytes_append_c(text, "{\"name\":");
    md_json_append_string(text, info->name);
    md_bytes_append_c(text, ",\"key\":");
    md_json_append_string(text, info->key);
    md_bytes_printf(text, ",\"offset\":%llu,\"byte_size\":%llu}", (unsigned long long)info->offset,
                    (unsigned long long)info->bytes);
}

void md_oip_get_system(struct md_exchange *x)
{
    struct md_region_info *infos;
    struct md_bytes text = {0};
    struct md_error err;
    size_t count;

    if (!md_regions_list(md_oip_of(x)->regions, x->captures[0], &x->arena, &infos, &count, &err)) {
        md_oip_reply_error(x, &err);
        return;
    }
    md_bytes_append_char(&text, '[');
    for (size_t i = 0; i < count; i++) {
        md_bytes_append_c(&text, i ? "," : "");
        append_region(&text, &infos[i]);
    }
    md_bytes_append_char(&text, ']');
    md_oip_reply_json(x, 200, &text);
}

void md_oip_get_cuda(struct md_exchange *x)
{
    struct md_bytes text = {0};
    struct md_error err;

    if (x->captures[0].len) {
        (void)md_regions_find_cuda(md_oip_of(x)->regions, x->captures[0], &err);
        md_oip_reply_error(x, &err);
        return;
    }
    md_bytes_append_c(&text, "[]");
    md_oip_reply_json(x, 200, &text);
}
