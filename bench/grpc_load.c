/*
 * gRPC load generator with the C core of the gRPC library: one thread, n connections, m calls at a
 * time on each, the next call follows the answer. It does what Python and C++ clients do, which are
 * built on the same library: large messages in DATA frames of up to 1 MiB, if the server takes
 * them.
 *
 * usage: grpc_load [--connections N] [--streams M] [--seconds S] --body FILE HOST:PORT
 * FILE holds the request message, without gRPC's five bytes before it. Prints one JSON object:
 * requests, errors (calls that did not end with OK and a message), seconds, requests_per_s, p50_us,
 * p90_us, p99_us, max_us, bytes (of answers), and of the first error its code and message.
 */
#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define METHOD "/inference.GRPCInferenceService/ModelInfer"

enum { CALLS_MAX = 4096, SAMPLES_MAX = 1 << 23 };

struct call {
    grpc_channel *channel;
    void *method;
    grpc_call *call;
    uint64_t begin_ns;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *message, *answer;
    grpc_status_code status;
    grpc_slice details;
};

static struct {
    int connections, streams;
    double seconds;
    const char *body, *target;
} options = {.connections = 1, .streams = 1, .seconds = 2};

static grpc_completion_queue *queue;
static grpc_byte_buffer *request; /* sending takes what a buffer refers to: each call has a copy */
static uint32_t *tenths;          /* of a microsecond, one for each call */
static size_t request_count;
static uint64_t error_count, byte_count;
static int first_error;
static char first_error_text[256];

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void begin(struct call *c)
{
    grpc_metadata_array_init(&c->initial);
    grpc_metadata_array_init(&c->trailing);
    c->message = grpc_byte_buffer_copy(request);
    c->answer = NULL;
    c->call =
        grpc_channel_create_registered_call(c->channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue,
                                            c->method, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    grpc_op ops[6] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = c->message},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &c->initial},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &c->answer},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &c->trailing,
                                        .status = &c->status,
                                        .status_details = &c->details}},
    };
    c->begin_ns = now_ns();
    if (grpc_call_start_batch(c->call, ops, 6, c, NULL) != GRPC_CALL_OK) {
        fprintf(stderr, "the call could not be started\n");
        exit(1);
    }
}

static void keep_first_error(const struct call *c)
{
    if (error_count++ > 0) {
        return;
    }
    size_t length = GRPC_SLICE_LENGTH(c->details);
    const uint8_t *text = GRPC_SLICE_START_PTR(c->details);
    first_error = (int)c->status;
    for (size_t i = 0; i < length && i + 1 < sizeof first_error_text; i++) {
        bool plain = text[i] >= ' ' && text[i] < 127 && text[i] != '"' && text[i] != '\\';
        first_error_text[i] = plain ? (char)text[i] : '?';
    }
}

static void finish(struct call *c)
{
    uint64_t spent = (now_ns() - c->begin_ns) / 100;

    if (request_count < SAMPLES_MAX) {
        tenths[request_count++] = spent > UINT32_MAX ? UINT32_MAX : (uint32_t)spent;
    }
    if (c->status != GRPC_STATUS_OK || !c->answer) {
        keep_first_error(c);
    } else {
        byte_count += grpc_byte_buffer_length(c->answer);
    }
    grpc_byte_buffer_destroy(c->message);
    grpc_byte_buffer_destroy(c->answer);
    grpc_metadata_array_destroy(&c->initial);
    grpc_metadata_array_destroy(&c->trailing);
    grpc_slice_unref(c->details);
    grpc_call_unref(c->call);
}

static grpc_channel *connect_to(const char *target)
{
    grpc_arg list[] = {
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, .value.integer = 1},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, .value.integer = -1},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_ENABLE_HTTP_PROXY, .value.integer = 0},
    };
    grpc_channel_args arguments = {sizeof list / sizeof *list, list};
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(target, plain, &arguments);

    grpc_channel_credentials_release(plain);
    return channel;
}

static grpc_byte_buffer *read_message(const char *path)
{
    FILE *f = fopen(path, "rb");

    if (!f) {
        perror(path);
        exit(1);
    }
    fseek(f, 0, SEEK_END);
    size_t length = (size_t)ftell(f);
    rewind(f);
    grpc_slice slice = grpc_slice_malloc(length);
    if (fread(GRPC_SLICE_START_PTR(slice), 1, length, f) != length) {
        perror(path);
        exit(1);
    }
    fclose(f);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

/* All calls until the time is over, then those that run to their end. */
static double run(struct call *calls, int count)
{
    uint64_t start = now_ns(), end = start + (uint64_t)(options.seconds * 1e9);
    int running = count;

    for (int i = 0; i < count; i++) {
        begin(&calls[i]);
    }
    while (running > 0) {
        grpc_event event =
            grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        finish(event.tag);
        if (now_ns() < end) {
            begin(event.tag);
        } else {
            running--;
        }
    }
    return (double)(now_ns() - start) / 1e9;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static double quantile_us(double q)
{
    return tenths[(size_t)(q * (double)(request_count - 1))] / 10.0;
}

static bool read_options(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--connections") == 0) {
            options.connections = atoi(value), i++;
        } else if (strcmp(argv[i], "--streams") == 0) {
            options.streams = atoi(value), i++;
        } else if (strcmp(argv[i], "--seconds") == 0) {
            options.seconds = atof(value), i++;
        } else if (strcmp(argv[i], "--body") == 0) {
            options.body = value, i++;
        } else {
            options.target = argv[i];
        }
    }
    return options.body && options.target && options.connections > 0 && options.streams > 0 &&
           options.connections <= CALLS_MAX / options.streams;
}

int main(int argc, char **argv)
{
    static struct call calls[CALLS_MAX];

    if (!read_options(argc, argv)) {
        fprintf(stderr,
                "usage: grpc_load [--connections N] [--streams M] [--seconds S] --body FILE "
                "HOST:PORT (N x M <= %d)\n",
                CALLS_MAX);
        return 2;
    }
    tenths = malloc(SAMPLES_MAX * sizeof *tenths);
    grpc_init();
    queue = grpc_completion_queue_create_for_next(NULL);
    request = read_message(options.body);
    for (int i = 0; i < options.connections; i++) {
        grpc_channel *channel = connect_to(options.target);
        void *method = grpc_channel_register_call(channel, METHOD, NULL, NULL);
        for (int k = 0; k < options.streams; k++) {
            calls[i * options.streams + k] = (struct call){.channel = channel, .method = method};
        }
    }
    double seconds = run(calls, options.connections * options.streams);
    qsort(tenths, request_count, sizeof *tenths, compare);
    printf("{\"requests\":%zu,\"errors\":%llu,\"seconds\":%.3f,\"requests_per_s\":%.0f,"
           "\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"bytes\":%llu",
           request_count, (unsigned long long)error_count, seconds, (double)request_count / seconds,
           quantile_us(.5), quantile_us(.9), quantile_us(.99), quantile_us(1),
           (unsigned long long)byte_count);
    if (error_count) {
        printf(",\"code\":%d,\"message\":\"%s\"", first_error, first_error_text);
    }
    printf("}\n");
    return error_count ? 1 : 0;
}
