/*
 * Walks over the table of models.
 */
#include "api/oip/walk.h"

#include "api/oip/reply.h"

void md_oip_walk_comma(struct md_oip_walk *walk, struct md_bytes *out)
{
    md_bytes_append_c(out, walk->has_entries ? "," : "");
    walk->has_entries = true;
}

static bool fill_walk(void *arg, struct md_bytes *out)
{
    struct md_oip_walk *walk = arg;

    md_bytes_append_c(out, walk->began ? "" : walk->open);
    walk->began = true;
    while (walk->at < md_models_count(walk->models)) {
        if (out->len > MD_PAGE_SLICE_BYTES) {
            return true;
        }
        walk->append(walk, md_models_at(walk->models, walk->at++), out);
    }
    md_bytes_append_c(out, walk->close);
    return false;
}

void md_oip_walk_reply(struct md_exchange *x, const struct md_oip_walk *begin)
{
    const struct md_http_response response = {.status = 200, .content_type = "application/json"};
    struct md_oip_walk *walk = md_arena_alloc(&x->arena, sizeof *walk);
    struct md_error err;

    if (!walk) {
        (void)md_error_no_memory(&err, "the answer");
        md_oip_reply_error(x, &err);
        return;
    }
    *walk = *begin;
    walk->models = md_oip_of(x)->models;
    md_page_respond(x, &response, fill_walk, walk);
}
