/*
 * Micro benchmark of http/: what one small inference costs the protocol code alone.
 *
 *     bench_http [rounds [calls]]        (best of 9, each of 20000 calls)
 *
 * One line a measurement: name, nanoseconds of the best round, once. The request is what common
 * HTTP clients send: a POST with nine header fields. Under callgrind (one round) the counts of
 * instructions are exact and repeatable.
 */
#include "http/http1.h"
#include "http/router.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { DEFAULT_ROUNDS = 9, CALLS_A_ROUND = 20000 };

static const char request_text[] = "POST /v2/models/resnet50/versions/3/infer HTTP/1.1\r\n"
                                   "Host: models.example.com:8000\r\n"
                                   "User-Agent: python-client/2.42.0\r\n"
                                   "Accept: */*\r\n"
                                   "Accept-Encoding: gzip, deflate\r\n"
                                   "Connection: keep-alive\r\n"
                                   "Content-Type: application/octet-stream\r\n"
                                   "Content-Length: 1234\r\n"
                                   "Inference-Header-Content-Length: 210\r\n"
                                   "X-Request-Id: 7f9c24e8-3b1a-4c55-9a1e-0a3b8a2f6c11\r\n"
                                   "\r\n";

static const struct md_http1_limits limits = {65536, 100};
static const struct md_http_handler handler;
static const struct md_route routes[] = {
    {"/v2/models/{0}/infer", MD_ROUTE_POST, &handler, NULL},
    {"/v2/models/{0}/versions/{1}/infer", MD_ROUTE_POST, &handler, NULL},
    {"/v2/health/live", MD_ROUTE_GET, &handler, NULL},
    {"/v2/health/ready", MD_ROUTE_GET, &handler, NULL},
};

struct subject {
    struct md_str request;
    struct md_exchange x;
    struct md_http1_request parsed;
    struct md_bytes out;
};

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* --- what is measured: true if the result is right -------------------- */

static bool run_scan(struct subject *s)
{
    struct md_http1_scan scan = {0};
    unsigned status;
    struct md_error err;

    return md_http1_scan_head(&scan, s->request, &limits, &status, &err) == MD_PROGRESS_DONE &&
           scan.head_bytes == s->request.len;
}

static bool run_parse(struct subject *s)
{
    unsigned status;
    struct md_error err;

    md_arena_reset(&s->x.arena);
    return md_http1_parse_head(s->request, &limits, &s->x.arena, &s->parsed, &status, &err) &&
           s->parsed.head.header_count == 9;
}

static bool run_route(struct subject *s)
{
    md_arena_reset(&s->x.arena);
    s->x.head.method = MD_HTTP_POST;
    s->x.head.path = MD_STR("/v2/models/resnet50/versions/3/infer");
    return md_router_match(routes, MD_COUNT_OF(routes), &s->x) == MD_ROUTE_FOUND;
}

static bool run_print(struct subject *s)
{
    static const struct md_http_header header = {.name = MD_STR("Inference-Header-Content-Length"),
                                                 .value = MD_STR("187")};
    const struct md_http1_response_head head = {
        .status = 200,
        .content_type = "application/octet-stream",
        .content_length = 4321,
        .headers = &header,
        .header_count = 1,
    };

    md_bytes_clear(&s->out);
    md_http1_print_head(&head, &s->out);
    return !s->out.failed;
}

static const struct {
    const char *name;
    bool (*run)(struct subject *s);
} subjects[] = {{"scan_head", run_scan},
                {"parse_head", run_parse},
                {"route_infer", run_route},
                {"print_head", run_print}};

int main(int argc, char **argv)
{
    struct subject s = {.request = MD_STR(request_text)};
    int rounds = argc > 1 ? atoi(argv[1]) : DEFAULT_ROUNDS;
    int calls = argc > 2 ? atoi(argv[2]) : CALLS_A_ROUND;

    md_arena_init(&s.x.arena, 8128);
    for (size_t i = 0; i < MD_COUNT_OF(subjects); i++) {
        double best = 0;
        for (int round = 0; round < rounds; round++) {
            double begin = now_ns();
            for (int call = 0; call < calls; call++) {
                if (!subjects[i].run(&s)) {
                    (void)fprintf(stderr, "%s: wrong result\n", subjects[i].name);
                    return 1;
                }
            }
            double spent = (now_ns() - begin) / calls;
            best = best == 0 || spent < best ? spent : best;
        }
        printf("%-12s %8.1f ns\n", subjects[i].name, best);
    }
    md_bytes_deinit(&s.out);
    md_arena_deinit(&s.x.arena);
    return 0;
}
