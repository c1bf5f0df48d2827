/*
 * gRPC echo with the C core of the gRPC library: what a server costs that is written with the usual
 * library and does nothing. One thread, one completion queue, one registered method whose message
 * is taken and sent back as the bytes that it is, ARMED calls waiting for clients.
 *
 * usage: grpc_echo PORT
 */
#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define METHOD "/inference.GRPCInferenceService/ModelInfer"

enum { ARMED = 256 };

struct call {
    grpc_call *call;
    grpc_metadata_array metadata;
    gpr_timespec deadline;
    grpc_byte_buffer *message;
    bool answered;
    int cancelled;
};

static grpc_server *server;
static grpc_completion_queue *queue;
static void *method;

static void check(grpc_call_error error, const char *what)
{
    if (error != GRPC_CALL_OK) {
        fprintf(stderr, "%s: %s\n", what, grpc_call_error_to_string(error));
        exit(1);
    }
}

static void arm(struct call *c)
{
    c->answered = false;
    check(grpc_server_request_registered_call(server, method, &c->call, &c->deadline, &c->metadata,
                                              &c->message, queue, queue, c),
          "request call");
}

static void answer(struct call *c)
{
    grpc_op ops[4] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = c->message},
        {.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
         .data.send_status_from_server.status = GRPC_STATUS_OK},
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER, .data.recv_close_on_server.cancelled = &c->cancelled},
    };

    c->answered = true;
    check(grpc_call_start_batch(c->call, ops, 4, c, NULL), "answer");
}

static void end(struct call *c)
{
    grpc_byte_buffer_destroy(c->message);
    grpc_call_unref(c->call);
    arm(c);
}

int main(int argc, char **argv)
{
    static struct call calls[ARMED];
    char address[32];
    grpc_arg argument = {
        .type = GRPC_ARG_INTEGER, .key = GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, .value.integer = -1};
    grpc_channel_args arguments = {1, &argument};

    if (argc != 2) {
        fprintf(stderr, "usage: grpc_echo PORT\n");
        return 2;
    }
    grpc_init();
    server = grpc_server_create(&arguments, NULL);
    queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server, queue, NULL);
    method = grpc_server_register_method(server, METHOD, NULL,
                                         GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    snprintf(address, sizeof address, "127.0.0.1:%s", argv[1]);
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    if (!method || !grpc_server_add_http2_port(server, address, plain)) {
        fprintf(stderr, "cannot listen on %s\n", address);
        return 1;
    }
    grpc_server_credentials_release(plain);
    grpc_server_start(server);
    for (int i = 0; i < ARMED; i++) {
        grpc_metadata_array_init(&calls[i].metadata);
        arm(&calls[i]);
    }
    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        struct call *c = event.tag;
        if (!c->answered && event.success && c->message) {
            answer(c);
        } else {
            end(c);
        }
    }
}
