/*
 * The two pages that are made of the option table: --help and docs/options.md.
 */
#include "config/option_table.h"

enum { PAGE_WIDTH = 100, TEXT_COLUMN = 36 };

static const char usage[] =
    "usage: modeld --model-repository DIR [options]\n"
    "\n"
    "Flags are --name=value or --name value; a bool alone means true. In the environment an option is\n"
    "MODELD_<NAME> in upper case, with _ for -; in the --config file it is a key. A flag wins over the\n"
    "environment, that over the file, that over the default in brackets.\n";

static const char page_intro[] =
    "# Options\n"
    "\n"
    "This page is `modeld --help-markdown`, written from the option table.\n"
    "\n"
    "A value comes from the first of these that has one:\n"
    "\n"
    "1. a flag: `--http-port=8000` or `--http-port 8000`; a bool alone means true. Of several values the\n"
    "   last one counts; those of a list add up;\n"
    "2. the environment: `MODELD_HTTP_PORT=8000`. The values of a list are separated by `;`;\n"
    "3. the file of `--config`;\n"
    "4. the default. The column *triton* holds the defaults of `--compat triton`, where they differ; a\n"
    "   program called `tritonserver` takes them too.\n"
    "\n"
    "A size may end in K, M, G or T (powers of 1024). Options without effect are accepted with a warning,\n"
    "so that command lines of Triton can stay as they are; those that are refused would change results\n"
    "or open what is meant to be closed. `--check-config` prints all problems at once.\n"
    "\n"
    "## The file\n"
    "\n"
    "YAML, with the names below as keys (`-` or `_`), and lists for options that may be repeated. `models`\n"
    "lays settings over those of the models whose name fits the pattern (`*` and `?` stand for any text\n"
    "and any letter): single values replace, messages merge, lists replace as a whole. They win over the\n"
    "model's own configuration file, and later entries win over earlier ones. Aliases are not accepted.\n"
    "`modeld --help-schema` prints a JSON Schema of the file, for editors.\n"
    "\n"
    "```yaml\n"
    "http-port: 9000\n"
    "model-repository: [/srv/models, /srv/more]\n"
    "models:\n"
    "  - pattern: \"resnet*\"\n"
    "    config:\n"
    "      max_batch_size: 16\n"
    "      instance_group: [{count: 2}]\n"
    "```\n";

static const char *value_name(const struct md_option *option)
{
    static const char *const names[MD_OPTION_KIND_COUNT] = {[MD_OPTION_ACTION] = "",
                                                            [MD_OPTION_BOOL] = "BOOL",
                                                            [MD_OPTION_NUMBER] = "N",
                                                            [MD_OPTION_SIZE] = "SIZE",
                                                            [MD_OPTION_TEXT] = "TEXT",
                                                            [MD_OPTION_LIST] = "TEXT",
                                                            [MD_OPTION_SETTINGS] =
                                                                "[NAME,]KEY=VALUE"};

    return option->kind == MD_OPTION_CHOICE && option->range ? option->range : names[option->kind];
}

static const char *const remarks[MD_OPTION_STATUS_COUNT] = {
    [MD_OPTION_WORKS] = "", [MD_OPTION_NO_EFFECT] = "No effect:", [MD_OPTION_REFUSED] = "Refused:"};

/* --- --help -------------------- */

struct page {
    struct md_bytes *out;
    size_t column;
};

static void append_word(struct page *page, struct md_str word)
{
    if (page->column > TEXT_COLUMN && page->column + 1 + word.len > PAGE_WIDTH) {
        md_bytes_printf(page->out, "\n%*s", TEXT_COLUMN, "");
        page->column = TEXT_COLUMN;
    }
    if (page->column > TEXT_COLUMN) {
        md_bytes_append_char(page->out, ' ');
        page->column++;
    }
    md_bytes_append_str(page->out, word);
    page->column += word.len;
}

static void append_text(struct page *page, const char *text)
{
    struct md_str rest = md_str_of(text), word;

    while (md_str_split(&rest, ' ', &word)) {
        append_word(page, word);
    }
}

static void append_name(struct page *page, const struct md_option *option)
{
    size_t begin = page->out->len;

    md_bytes_printf(page->out, "  --%s", option->name);
    if (option->kind != MD_OPTION_BOOL && option->kind != MD_OPTION_ACTION) {
        md_bytes_printf(page->out, " %s", value_name(option));
    }
    size_t width = page->out->len - begin;
    if (width + 2 > TEXT_COLUMN) {
        md_bytes_append_char(page->out, '\n');
        width = 0;
    }
    md_bytes_printf(page->out, "%*s", (int)(TEXT_COLUMN - width), "");
    page->column = TEXT_COLUMN;
}

/* "[8000]" */
static void append_default(struct page *page, const struct md_option *option)
{
    struct md_bytes text = {0};

    if (option->value && option->kind != MD_OPTION_ACTION) {
        md_bytes_printf(&text, "[%s", option->value);
        if (option->triton_value) {
            md_bytes_printf(&text, "; triton: %s", option->triton_value);
        }
        md_bytes_append_char(&text, ']');
        page->out->failed |= text.failed;
        append_word(page, md_bytes_view(&text));
        md_bytes_deinit(&text);
    }
}

static void append_option(struct page *page, const struct md_option *option)
{
    append_name(page, option);
    append_text(page, remarks[option->status]);
    append_text(page, option->help);
    if (md_option_is_list(option) && option->status == MD_OPTION_WORKS && !option->alias_of) {
        append_text(page, "May be repeated.");
    }
    append_default(page, option);
    md_bytes_append_char(page->out, '\n');
}

void md_options_print_help(struct md_bytes *out)
{
    struct page page = {.out = out};

    md_bytes_append_c(out, usage);
    for (size_t i = 0; i < md_option_count; i++) {
        const struct md_option *option = &md_option_table[i];
        if (!option->name) {
            md_bytes_printf(out, "\n%s\n", option->help);
        } else {
            append_option(&page, option);
        }
    }
}

/* --- docs/options.md -------------------- */

static void append_escaped(struct md_bytes *out, const char *text)
{
    for (const char *c = text; *c; c++) {
        if (strchr("|*<", *c)) {
            md_bytes_append_char(out, '\\');
        }
        md_bytes_append_char(out, *c);
    }
}

static void append_cell(struct md_bytes *out, const char *text)
{
    if (text && *text) {
        md_bytes_append_char(out, ' ');
        append_escaped(out, text);
    }
    md_bytes_append_c(out, " |");
}

static void append_row(struct md_bytes *out, const struct md_option *option)
{
    bool is_number = option->kind == MD_OPTION_NUMBER || option->kind == MD_OPTION_SIZE;

    md_bytes_printf(out, "| `--%s` |", option->name);
    append_cell(out, is_number && option->range ? option->range : value_name(option));
    append_cell(out, option->kind != MD_OPTION_ACTION ? option->value : NULL);
    append_cell(out, option->triton_value);
    if (option->status != MD_OPTION_WORKS) {
        md_bytes_printf(out, " **%s**", remarks[option->status]);
    }
    append_cell(out, option->help);
    md_bytes_append_char(out, '\n');
}

void md_options_print_markdown(struct md_bytes *out)
{
    md_bytes_append_c(out, page_intro);
    for (size_t i = 0; i < md_option_count; i++) {
        const struct md_option *option = &md_option_table[i];
        if (!option->name) {
            md_bytes_printf(out, "\n## %s\n\n| option | value | default | triton | |\n",
                            option->help);
            md_bytes_append_c(out, "|---|---|---|---|---|\n");
        } else {
            append_row(out, option);
        }
    }
}
