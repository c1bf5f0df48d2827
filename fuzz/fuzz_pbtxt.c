/*
 * Model configurations: what parses prints as JSON that parses again to the same JSON, and is
 * judged alike in both spellings.
 */
#include "config/model_config.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct md_diagnostics diagnostics, more;
    struct md_arena arena = {0};
    struct md_message *message, *again;
    struct md_bytes first = {0}, second = {0};

    md_diagnostics_init(&diagnostics, &arena);
    message = md_message_create(&md_model_config_desc, &arena);
    again = md_message_create(&md_model_config_desc, &arena);
    if (md_pbtxt_parse(md_str_make((const char *)bytes, size), "config.pbtxt", message, &arena,
                       &diagnostics)) {
        md_message_print_json(message, &first);
        if (md_message_parse_json(md_bytes_view(&first), "json", again, &arena, &diagnostics)) {
            md_message_print_json(again, &second);
            if (!md_str_eq(md_bytes_view(&first), md_bytes_view(&second))) {
                abort();
            }
            md_diagnostics_init(&more, &arena);
            if (md_model_config_validate(message, &diagnostics) !=
                    md_model_config_validate(again, &more) &&
                diagnostics.error_count < MD_DIAGNOSTICS_MAX) {
                abort();
            }
        }
        md_message_report_support(message, MD_SEVERITY_NOTE, &diagnostics);
    }
    md_bytes_deinit(&first);
    md_bytes_deinit(&second);
    md_arena_deinit(&arena);
    return 0;
}
