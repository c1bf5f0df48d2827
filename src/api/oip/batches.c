/*
 * The last batches of a version: why each was started when it was, and what became of it.
 */
#include "api/oip/endpoints.h"
#include "api/oip/reply.h"
#include "base/clock.h"
#include "codec/json.h"

static void append_batch(struct md_bytes *text, const struct md_batch_record *batch,
                         uint64_t epoch_ns)
{
    md_bytes_append_c(text, "{\"reason\":");
    md_json_append_string(text, md_str_of(md_start_name(batch->start)));
    md_bytes_printf(text,
                    ",\"requests\":%u,\"rows\":%u,\"padding_rows\":%u,\"failed\":%u,\"retried\":%u,"
                    "\"begun_ms\":%llu,\"waited_ns\":%llu,\"executed_ns\":%llu}",
                    batch->requests, batch->rows, batch->padding, batch->failed, batch->retried,
                    (unsigned long long)((epoch_ns + batch->begun_ns) / MD_NS_PER_MS),
                    (unsigned long long)batch->waited_ns, (unsigned long long)batch->executed_ns);
}

void md_oip_get_batches(struct md_exchange *x)
{
    struct md_batch_record batches[MD_TARGET_BATCHES_KEPT];
    struct md_bytes text = {0};
    struct md_error err;
    struct md_version *version =
        md_models_resolve(md_oip_of(x)->models, x->captures[0], x->captures[1], &err);

    if (!version) {
        md_oip_reply_error(x, &err);
        return;
    }
    const uint64_t epoch_ns = md_clock_realtime_ns() - md_clock_monotonic_ns();
    const size_t count = md_target_recent_batches(&version->target, batches, MD_COUNT_OF(batches));
    md_bytes_append_c(&text, "{\"batches\":[");
    for (size_t i = 0; i < count; i++) {
        md_bytes_append_c(&text, i ? "," : "");
        append_batch(&text, &batches[i], epoch_ns);
    }
    md_bytes_append_c(&text, "]}");
    md_oip_reply_json(x, 200, &text);
}
