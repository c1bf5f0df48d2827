/*
 * The command line: options are read, then either a page is printed, the configuration is checked,
 * or the server runs.
 */
#include "server/server.h"

#include "base/alloc.h"
#include "base/log.h"
#include "model/model_check.h"
#include "os/file.h"
#include "os/log_file.h"
#include "os/process.h"
#include "server/server_internal.h"

enum { CONFIG_FILE_MAX = 1 << 20 };

/* --- texts -------------------- */

static bool read_config_file(void *arg, const char *path, struct md_arena *arena,
                             struct md_str *out, struct md_error *err)
{
    (void)arg;
    return md_os_file_read(path, CONFIG_FILE_MAX, arena, out, err);
}

/* Frees the text. False, and a word instead of half a text, if there was no memory for it. */
static bool print_text(int stream, struct md_bytes *text)
{
    bool ok = !text->failed;

    md_os_process_write(ok ? stream : 2,
                        ok ? md_bytes_view(text) : MD_STR("modeld: out of memory\n"));
    md_bytes_deinit(text);
    return ok;
}

static void print_diagnostics(const struct md_diagnostics *diagnostics, size_t from)
{
    struct md_bytes text = {0};

    for (size_t i = from; i < diagnostics->count; i++) {
        md_diagnostic_print(&diagnostics->items[i], &text);
        md_bytes_append_char(&text, '\n');
    }
    if (diagnostics->count == MD_DIAGNOSTICS_MAX) {
        md_bytes_append_c(&text, "there is more: fix these first\n");
    }
    (void)print_text(2, &text);
}

static bool print_page(void (*print)(struct md_bytes *out))
{
    struct md_bytes text = {0};

    print(&text);
    return print_text(1, &text);
}

static void print_version(struct md_bytes *out)
{
    md_bytes_append_c(out, "modeld " MODELD_VERSION "\n");
}

static void (*page_asked_for(const struct md_options *options))(struct md_bytes *out)
{
    return options->help            ? md_options_print_help
           : options->help_markdown ? md_options_print_markdown
           : options->help_schema   ? md_options_print_schema
           : options->version       ? print_version
                                    : NULL;
}

static bool open_log(struct md_server *server, struct md_error *err)
{
    const struct md_options *options = &server->options;
    enum md_log_format format;

    md_log_set_enabled(MD_LOG_INFO, options->log_info);
    md_log_set_enabled(MD_LOG_WARNING, options->log_warning);
    md_log_set_enabled(MD_LOG_ERROR, options->log_error);
    md_log_set_verbosity((unsigned)options->log_verbose);
    (void)md_os_log_format_find(md_str_of(options->log_format), &format); /* the table checked it */
    return md_os_log_open(options->log_file && *options->log_file ? options->log_file : NULL,
                          format, err);
}

/* --- what is asked for -------------------- */

/* What is wrong goes to standard error, what there is to standard output. */
static int check_config(struct md_server *server)
{
    struct md_bytes text = {0};
    struct md_error err;
    const bool options_are_right = server->diagnostics.error_count == 0;
    bool ok = md_server_create_backends(server, &err);
    const struct md_models_options options = {.options = &server->options,
                                              .backends = server->backends};

    if (!ok || !md_models_create(&options, &server->diagnostics, &server->models, &err)) {
        (void)md_diagnose(&server->diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0, "%s", err.text);
    }
    if (options_are_right && !md_server_create_tls(server, &err)) {
        (void)md_diagnose(&server->diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0, "%s", err.text);
    }
    md_server_destroy_tls(server);
    print_diagnostics(&server->diagnostics, 0);
    size_t count = server->models ? md_models_count(server->models) : 0;
    for (size_t i = 0; i < count; i++) {
        md_model_describe(md_models_at(server->models, i), &text);
    }
    md_bytes_printf(&text, "%zu models, %zu errors, %zu warnings\n", count,
                    server->diagnostics.error_count, server->diagnostics.warning_count);
    ok = print_text(1, &text) && server->diagnostics.error_count == 0;
    (void)md_models_destroy(server->models);
    md_backends_destroy(server->backends);
    return ok ? 0 : MD_EXIT_FAILED;
}

static int with_options(struct md_server *server, bool ok)
{
    struct md_error err;

    if (server->options.model_repository.count == 0) {
        ok = md_diagnose(&server->diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0,
                         "--model-repository is missing: name a folder with models; --help lists "
                         "all options");
    }
    if (server->options.check_config && !md_arena_failed(&server->arena)) {
        return check_config(server);
    }
    if (!ok) {
        print_diagnostics(&server->diagnostics, 0);
        return MD_EXIT_OPTIONS;
    }
    if (!open_log(server, &err)) {
        md_os_process_write(2, md_str_of(err.text));
        md_os_process_write(2, MD_STR("\n"));
        return MD_EXIT_OPTIONS;
    }
    md_server_log_diagnostics(&server->diagnostics, 0);
    return md_server_run(server);
}

int md_server_main(int argc, char *const *argv)
{
    static const struct md_file_reader reader = {.read = read_config_file};
    struct md_server *server = md_alloc_aligned(MD_CACHE_LINE, sizeof *server);
    int status = MD_EXIT_FAILED;

    if (!server) {
        md_os_process_write(2, MD_STR("modeld: out of memory\n"));
        return MD_EXIT_FAILED;
    }
    memset(server, 0, sizeof *server);
    md_arena_init(&server->arena, 64 * 1024);
    md_diagnostics_init(&server->diagnostics, &server->arena);
    char *const *environment = md_os_process_environment();
    bool ok = md_options_parse(argc, argv, environment, md_os_process_in_container("", environment),
                               &reader, &server->arena, &server->options, &server->diagnostics);
    void (*page)(struct md_bytes * out) = page_asked_for(&server->options);
    if (page) {
        status = print_page(page) ? 0 : MD_EXIT_FAILED;
    } else {
        status = with_options(server, ok);
    }
    md_arena_deinit(&server->arena);
    md_free(server);
    return status;
}
