/*
 * What handlers call, handed to the session that the exchange belongs to.
 */
#include "http/exchange.h"

struct md_str md_exchange_header(const struct md_exchange *x, const char *name)
{
    struct md_str wanted = md_str_of(name);

    for (size_t i = 0; i < x->head.header_count; i++) {
        if (md_str_eq_nocase(x->head.headers[i].name, wanted)) {
            return x->head.headers[i].value;
        }
    }
    return (struct md_str){NULL, 0};
}

void md_exchange_respond(struct md_exchange *x, const struct md_http_response *response)
{
    x->calls->respond(x, response);
}

void md_exchange_begin(struct md_exchange *x, const struct md_http_response *response,
                       void (*drained)(struct md_exchange *x))
{
    x->calls->begin(x, response, drained);
}

bool md_exchange_write(struct md_exchange *x, struct md_str bytes)
{
    return x->calls->write(x, bytes);
}

void md_exchange_end(struct md_exchange *x)
{
    x->calls->end(x);
}

void md_exchange_abort(struct md_exchange *x)
{
    x->calls->abort(x);
}

void md_exchange_hold(struct md_exchange *x)
{
    x->holds++;
}

void md_exchange_release(struct md_exchange *x)
{
    if (--x->holds == 0) {
        x->calls->released(x);
    }
}
