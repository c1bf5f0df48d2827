/*
 * Walk: an answer that has entries for models, one after the other, as a page (http/page.h). Its
 * handler's on_cancel is md_page_on_cancel.
 */
#ifndef MD_API_OIP_WALK_H
#define MD_API_OIP_WALK_H

#include "api/oip/endpoints.h"
#include "http/page.h"

struct md_oip_walk {
    /* set by the caller */
    const char *open, *close; /* around the entries; static */
    void (*append)(struct md_oip_walk *walk, const struct md_model *model, struct md_bytes *out);
    bool ready_only;
    /* the walk's own */
    const struct md_models *models;
    size_t at;
    bool began, has_entries;
};

/* Before each entry. */
void md_oip_walk_comma(struct md_oip_walk *walk, struct md_bytes *out);

/* Answers; `begin` is copied. `append` adds the entries of one model. */
void md_oip_walk_reply(struct md_exchange *x, const struct md_oip_walk *begin);

#endif
