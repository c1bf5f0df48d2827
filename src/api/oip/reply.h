/*
 * Answers of the dialect that are no inference: JSON documents and errors. On the loop of the
 * exchange. They are never compressed, as in the field: its asyncio client offers gzip with every
 * call and unpacks only inferences.
 */
#ifndef MD_API_OIP_REPLY_H
#define MD_API_OIP_REPLY_H

#include "base/bytes.h"
#include "base/error.h"
#include "http/exchange.h"

/* HTTP status of an error, as the field maps codes. */
unsigned md_oip_status(const struct md_error *err);

/* What the server got wrong is logged, what a client got wrong if --log-verbose asks for it. */
void md_oip_log_error(const struct md_exchange *x, const struct md_error *err);

/* {"error":"..."} with the status that belongs to the error; Retry-After where trying again may
 * help. Also of an exchange that is held. */
void md_oip_reply_error(struct md_exchange *x, const struct md_error *err);
void md_oip_reply_sentence(struct md_exchange *x, unsigned status, const char *sentence);
/* Takes over the text and frees it; an error answer if building it failed. */
void md_oip_reply_json(struct md_exchange *x, unsigned status, struct md_bytes *text);
void md_oip_reply_empty(struct md_exchange *x, unsigned status);

#endif
