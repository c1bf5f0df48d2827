/*
 * Pages over md_exchange_begin, _write and _end.
 */
#include "http/page.h"

struct page {
    struct md_exchange *x;
    bool (*fill)(void *arg, struct md_bytes *out);
    void *arg;
    struct md_loop_task task;
    struct md_bytes text; /* own: the slice */
    struct iovec part;
    bool is_last;
    bool is_busy; /* a slice is due or being written: what happens meanwhile is only noted */
    bool wants_more;
};

static void free_page(void *arg)
{
    md_bytes_deinit(&((struct page *)arg)->text);
}

static void fill(struct page *page)
{
    md_bytes_clear(&page->text);
    page->is_last = !page->fill(page->arg, &page->text);
}

static void write_slice(struct page *page)
{
    struct md_exchange *x = page->x;

    page->wants_more = false;
    if (page->text.failed) {
        md_exchange_abort(x);
    } else if (!md_exchange_write(x, md_bytes_view(&page->text)) || page->is_last) {
        md_exchange_end(x);
    } else if (page->wants_more) {
        md_loop_defer(x->loop, &page->task);
    } else {
        page->is_busy = false;
    }
}

/* After the loop's other connections have had their turn. */
static void next_slice(struct md_loop_task *task)
{
    struct page *page = MD_CONTAINER_OF(task, struct page, task);

    if (page->x->cancelled) {
        md_exchange_end(page->x);
    } else {
        fill(page);
        write_slice(page);
    }
}

static void drained(struct md_exchange *x)
{
    struct page *page = x->dialect;

    page->wants_more = true;
    if (!page->is_busy) {
        page->is_busy = true;
        md_loop_defer(x->loop, &page->task);
    }
}

void md_page_respond(struct md_exchange *x, const struct md_http_response *response,
                     bool (*fill_slice)(void *arg, struct md_bytes *out), void *arg)
{
    const struct md_http_response failed = {
        .status = 503, .headers = md_http_retry_after(), .header_count = 1};
    struct md_http_response whole = *response;
    struct page *page = md_arena_calloc(&x->arena, 1, sizeof *page);

    if (!page || !md_arena_on_reset(&x->arena, free_page, page)) {
        md_exchange_respond(x, &failed);
        return;
    }
    *page = (struct page){
        .x = x, .fill = fill_slice, .arg = arg, .task.run = next_slice, .is_busy = true};
    x->dialect = page;
    fill(page);
    if (page->text.failed) {
        md_exchange_respond(x, &failed);
    } else if (page->is_last) {
        page->part = (struct iovec){.iov_base = page->text.data, .iov_len = page->text.len};
        whole.parts = &page->part;
        whole.part_count = 1;
        md_exchange_respond(x, &whole);
    } else {
        md_exchange_begin(x, &whole, drained);
        write_slice(page);
    }
}

void md_page_on_cancel(struct md_exchange *x)
{
    const struct page *page = x->dialect;

    if (!page->is_busy) {
        md_exchange_end(x);
    }
}
