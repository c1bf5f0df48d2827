/*
 * HTTP/1.1 load generator for the benchmarks: one thread, n keep-alive connections, one request at
 * a time on each.
 *
 * Closed loop (default): the next request follows the answer. Open loop (--rate R): requests have
 * scheduled arrivals, spread evenly; latency counts from the scheduled arrival where no connection
 * was free, so that a stalled server cannot hide its queue. Connections are made, and the server
 * had time to take them, before the clock starts. What this program itself is late with,
 * where one was free, is not the server's: it is told apart as "late".
 *
 * Deadlines (--deadline-ms D): the server is told of them (header modeld-timeout-ms). An answer is
 * good when it is 200 and in time; 503 and 504 are refusals, no errors. Requests and latencies are
 * those of the answers that are 200.
 *
 * usage: load [--connections N] [--seconds S] [--rate R] [--deadline-ms D] [--path P] [--body FILE]
 * [--header "K: V"]... HOST:PORT Prints one JSON object: requests, errors (answers that are not
 * 200, closed connections), refused, good, seconds, requests_per_s, good_per_s, p50_us, p90_us,
 * p99_us, max_us, late_p99_us, bytes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4096, HEAD_MAX = 16384, SAMPLES_MAX = 1 << 24 };
enum { SLEEP_MIN_NS = 100000, SLEEP_MAX_NS = 100000000, ACCEPT_US = 200 };

struct connection {
    int fd;
    bool busy;
    bool refused, closes; /* what the head of the answer says */
    uint64_t due_ns;      /* when the request was sent, or should have been */
    size_t sent;
    size_t received;
    size_t expected; /* whole response; 0 = head not complete */
    char head[HEAD_MAX];
};

static struct {
    struct sockaddr_in address;
    int connections;
    double seconds, rate, deadline_ms;
    const char *path;
    char *request;
    size_t request_bytes;
} options = {.connections = 1, .seconds = 2, .path = "/"};

static struct connection *connections;
struct samples {
    uint32_t *tenths; /* of a microsecond */
    size_t count;
};

static struct samples latency, lateness;
static uint64_t error_count, byte_count, refused_count, good_count;
static int poller;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void open_connection(struct connection *c)
{
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 ||
        connect(c->fd, (struct sockaddr *)&options.address, sizeof options.address) < 0) {
        die("connect");
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0) {
        die("epoll_ctl");
    }
}

static void reopen(struct connection *c)
{
    close(c->fd);
    c->closes = false;
    open_connection(c);
}

static void want(struct connection *c, bool write)
{
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0u), .data.ptr = c};

    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event) < 0) {
        die("epoll_ctl");
    }
}

static void send_more(struct connection *c)
{
    bool was_partial = c->sent > 0;
    ssize_t n = send(c->fd, options.request + c->sent, options.request_bytes - c->sent,
                     MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0 && errno != EAGAIN) {
        die("send");
    }
    c->sent += n > 0 ? (size_t)n : 0;
    if (c->sent < options.request_bytes) {
        want(c, true);
    } else if (was_partial) {
        want(c, false);
    }
}

static void begin(struct connection *c, uint64_t due_ns)
{
    c->busy = true;
    c->refused = c->closes = false;
    c->due_ns = due_ns;
    c->sent = c->received = c->expected = 0;
    send_more(c);
}

static void add_sample(struct samples *samples, uint64_t ns)
{
    if (samples->count < SAMPLES_MAX) {
        samples->tenths[samples->count++] =
            ns / 100 > UINT32_MAX ? UINT32_MAX : (uint32_t)(ns / 100);
    }
}

static void finish(struct connection *c)
{
    const uint64_t spent_ns = now_ns() - c->due_ns;

    if (c->refused) {
        refused_count++;
    } else {
        add_sample(&latency, spent_ns);
        good_count += (double)spent_ns <= options.deadline_ms * 1e6;
    }
    byte_count += c->expected;
    c->busy = false;
    if (c->closes) {
        reopen(c);
    }
}

/* Head complete: how long the whole response is. */
static void read_head(struct connection *c)
{
    c->head[c->received < HEAD_MAX ? c->received : HEAD_MAX - 1] = '\0';
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) {
        return;
    }
    c->refused = options.deadline_ms > 0 && (strncmp(c->head, "HTTP/1.1 503", 12) == 0 ||
                                             strncmp(c->head, "HTTP/1.1 504", 12) == 0);
    if (strncmp(c->head, "HTTP/1.1 200", 12) != 0 && !c->refused) {
        error_count++;
    }
    char *close = strcasestr(c->head, "\r\nconnection: close");
    c->closes = close && close < end;
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    c->expected = (size_t)(end + 4 - c->head) + (length ? strtoul(length + 17, NULL, 10) : 0);
}

static void receive(struct connection *c)
{
    static char sink[1 << 20];

    for (;;) {
        bool in_head = c->expected == 0;
        char *to = in_head ? c->head + c->received : sink;
        size_t room = in_head ? HEAD_MAX - 1 - c->received : sizeof sink;
        ssize_t n = recv(c->fd, to, room, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            error_count++;
            c->busy = false;
            reopen(c);
            return;
        }
        c->received += (size_t)n;
        if (in_head) {
            read_head(c);
        }
        if (c->expected && c->received >= c->expected) {
            finish(c);
            return;
        }
        if ((size_t)n < room) {
            return;
        }
    }
}

static void build_request(const char *host, const char *headers, const char *body_path)
{
    char *body = NULL;
    size_t body_bytes = 0;

    if (body_path) {
        FILE *f = fopen(body_path, "rb");
        if (!f) {
            die(body_path);
        }
        fseek(f, 0, SEEK_END);
        body_bytes = (size_t)ftell(f);
        rewind(f);
        body = malloc(body_bytes + 1);
        if (!body || fread(body, 1, body_bytes, f) != body_bytes) {
            die(body_path);
        }
        fclose(f);
    }
    options.request = malloc(body_bytes + 8192);
    int head = snprintf(options.request, 8192, "%s %s HTTP/1.1\r\nHost: %s\r\n%s",
                        body ? "POST" : "GET", options.path, host, headers);
    if (body) {
        head += snprintf(options.request + head, 8192 - (size_t)head, "Content-Length: %zu\r\n",
                         body_bytes);
    }
    head += snprintf(options.request + head, 8192 - (size_t)head, "\r\n");
    if (body) {
        memcpy(options.request + head, body, body_bytes);
    }
    options.request_bytes = (size_t)head + body_bytes;
    free(body);
}

static struct connection *idle_connection(void)
{
    static int next;

    for (int i = 0; i < options.connections; i++) {
        struct connection *c = &connections[(next + i) % options.connections];
        if (!c->busy) {
            next = (next + i + 1) % options.connections;
            return c;
        }
    }
    return NULL;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static double quantile_us(const struct samples *samples, double q)
{
    return samples->count ? samples->tenths[(size_t)(q * (double)(samples->count - 1))] / 10.0 : 0;
}

/* Sends what is due; returns how long it is until the next. */
static uint64_t send_due(uint64_t start, double gap)
{
    static uint64_t scheduled;
    static bool waited; /* for a connection */

    for (uint64_t now = now_ns();; now = now_ns()) {
        uint64_t due = start + (uint64_t)(gap * (double)scheduled);
        if (due > now) {
            return due - now;
        }
        struct connection *c = idle_connection();
        if (!c) {
            waited = true;
            return SLEEP_MAX_NS;
        }
        if (!waited) {
            add_sample(&lateness, now - due);
        }
        begin(c, waited ? due : now);
        waited = false;
        scheduled++;
    }
}

/* Sleeps where there is time for it: who never sleeps is the first to be put off by others. */
static int wait_for_events(struct epoll_event *events, int max, uint64_t ns)
{
    struct timespec timeout = {
        0, ns < SLEEP_MIN_NS ? 0 : (long)(ns < SLEEP_MAX_NS ? ns : SLEEP_MAX_NS)};

    return epoll_pwait2(poller, events, max, &timeout, NULL);
}

static void run(void)
{
    struct epoll_event events[256];
    uint64_t start = now_ns(), end = start + (uint64_t)(options.seconds * 1e9);
    double gap = options.rate > 0 ? 1e9 / options.rate : 0;

    for (int i = 0; i < options.connections && gap == 0; i++) {
        begin(&connections[i], now_ns());
    }
    while (now_ns() < end) {
        uint64_t next_ns = gap > 0 ? send_due(start, gap) : SLEEP_MAX_NS;
        int n = wait_for_events(events, 256, next_ns);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if ((events[i].events & EPOLLOUT) && c->sent < options.request_bytes) {
                send_more(c);
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT) {
                receive(c);
            }
            if (!c->busy && gap == 0) {
                begin(c, now_ns());
            }
        }
    }
}

static void sort(struct samples *samples)
{
    qsort(samples->tenths, samples->count, sizeof *samples->tenths, compare);
}

int main(int argc, char **argv)
{
    static char headers[4096];
    const char *body = NULL;

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--connections") == 0) {
            options.connections = atoi(value), i++;
        } else if (strcmp(argv[i], "--seconds") == 0) {
            options.seconds = atof(value), i++;
        } else if (strcmp(argv[i], "--rate") == 0) {
            options.rate = atof(value), i++;
        } else if (strcmp(argv[i], "--deadline-ms") == 0) {
            size_t used = strlen(headers);
            options.deadline_ms = atof(value), i++;
            snprintf(headers + used, sizeof headers - used, "modeld-timeout-ms: %s\r\n", value);
        } else if (strcmp(argv[i], "--path") == 0) {
            options.path = value, i++;
        } else if (strcmp(argv[i], "--body") == 0) {
            body = value, i++;
        } else if (strcmp(argv[i], "--header") == 0) {
            size_t used = strlen(headers);
            snprintf(headers + used, sizeof headers - used, "%s\r\n", value), i++;
        } else {
            char *colon = strrchr(argv[i], ':');
            if (!colon || options.connections < 1 || options.connections > CONNECTIONS_MAX) {
                fprintf(stderr, "usage: load [options] HOST:PORT (1..%d connections)\n",
                        CONNECTIONS_MAX);
                return 2;
            }
            build_request(argv[i], headers, body);
            *colon = '\0';
            options.address.sin_family = AF_INET;
            options.address.sin_port = htons((uint16_t)atoi(colon + 1));
            inet_pton(AF_INET, argv[i], &options.address.sin_addr);
        }
    }
    if (!options.request) {
        fprintf(stderr, "usage: load [options] HOST:PORT\n");
        return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1UL);
    poller = epoll_create1(0);
    connections = calloc((size_t)options.connections, sizeof *connections);
    latency.tenths = malloc(SAMPLES_MAX * sizeof *latency.tenths);
    lateness.tenths = malloc(SAMPLES_MAX * sizeof *lateness.tenths);
    for (int i = 0; i < options.connections; i++) {
        open_connection(&connections[i]);
    }
    usleep((unsigned)options.connections * ACCEPT_US);
    uint64_t start = now_ns();
    run();
    double seconds = (double)(now_ns() - start) / 1e9;
    sort(&latency);
    sort(&lateness);
    printf("{\"requests\":%zu,\"errors\":%llu,\"refused\":%llu,\"good\":%llu,\"seconds\":%.3f,"
           "\"requests_per_s\":%.2f,\"good_per_s\":%.2f,"
           "\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,"
           "\"late_p99_us\":%.1f,\"bytes\":%llu}\n",
           latency.count, (unsigned long long)error_count, (unsigned long long)refused_count,
           (unsigned long long)good_count, seconds, (double)latency.count / seconds,
           (double)good_count / seconds, quantile_us(&latency, .5), quantile_us(&latency, .9),
           quantile_us(&latency, .99), quantile_us(&latency, 1), quantile_us(&lateness, .99),
           (unsigned long long)byte_count);
    return error_count ? 1 : 0;
}
